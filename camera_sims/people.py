"""People in front of the shelf: how they look and how they stand at a moment.

A person is seen from the waist up, the camera being behind them. A pose follows from visit and time
alone, so that the picture, the dataset's labels and the ground truth agree on where the person is.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import pi, sin

import numpy as np

from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Colour

Xy = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in frame pixels."""

SKINS: tuple[Colour, ...] = (
    (190, 215, 245),
    (150, 185, 225),
    (110, 150, 200),
    (75, 110, 165),
    (50, 75, 115),
)
HAIRS: tuple[Colour, ...] = (
    (25, 25, 30),
    (35, 50, 75),
    (60, 95, 130),
    (95, 160, 195),
    (150, 150, 155),
)
APRON: Colour = (70, 120, 30)


class Stance(StrEnum):
    BACK = "back"
    FRONT = "front"
    SIDE = "side"


class Clothes(StrEnum):
    PLAIN = "plain"
    STRIPES = "stripes"
    JACKET = "jacket"
    BACKPACK = "backpack"
    APRON = "apron"


@dataclass(frozen=True, slots=True)
class Persona:
    """``scale`` is 1 for a head 112 pixels high; ``top`` is the top of the head in frame pixels."""

    scale: float
    top: float
    skin: Colour
    hair: Colour
    shirt: Colour
    trim: Colour
    clothes: Clothes
    long_sleeves: bool
    long_hair: bool
    cap: bool

    @property
    def head(self) -> float:
        return 112 * self.scale

    def half_width(self, stance: Stance) -> float:
        return 108 * self.scale * (0.66 if stance is Stance.SIDE else 1.0)


def invent_persona(rng: np.random.Generator, staff: bool) -> Persona:
    scale = float(rng.uniform(0.82, 1.18)) if staff or rng.random() < 0.85 else float(rng.uniform(1.2, 1.6))
    top = float(rng.uniform(140, 330)) - (scale - 1) * 220
    shirt = tuple(int(c) for c in rng.integers(20, 225, 3))
    trim = tuple(int(c) for c in rng.integers(20, 235, 3))
    return Persona(
        scale=scale,
        top=top,
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=HAIRS[int(rng.integers(len(HAIRS)))],
        shirt=(shirt[0], shirt[1], shirt[2]),
        trim=APRON if staff else (trim[0], trim[1], trim[2]),
        clothes=Clothes.APRON if staff else tuple(Clothes)[int(rng.integers(4))],
        long_sleeves=bool(rng.random() < 0.55),
        long_hair=bool(rng.random() < 0.4),
        cap=bool(rng.random() < (0.6 if staff else 0.15)),
    )


@dataclass(frozen=True, slots=True)
class Arm:
    shoulder: Xy
    elbow: Xy
    hand: Xy


@dataclass(frozen=True, slots=True)
class Pose:
    """One person at one moment, in frame pixels: ``x`` is the middle of the body, ``top`` the top of the
    head. ``carried`` is a SKU in the hand of the first arm."""

    persona: Persona
    stance: Stance
    x: float
    top: float
    arms: tuple[Arm, Arm]
    carried: str | None = None

    @property
    def box(self) -> Box | None:
        """Around all of the person that is inside the frame, arms included; None when outside."""
        half = self.persona.half_width(self.stance)
        radius = 21 * self.persona.scale
        joints = [joint for arm in self.arms for joint in (arm.shoulder, arm.elbow, arm.hand)]
        left = max(0.0, min([self.x - half, *(x - radius for x, _ in joints)]))
        right = min(float(FRAME_WIDTH), max([self.x + half, *(x + radius for x, _ in joints)]))
        top = max(0.0, min([self.top, *(y - radius for _, y in joints)]))
        if right - left < 1 or top > FRAME_HEIGHT - 1:
            return None
        return left, top, right, float(FRAME_HEIGHT)


def stand(
    persona: Persona, x: float, t: float, *, walking: int, stance: Stance, reach: tuple[Xy, float] | None,
    carried: str | None = None,
) -> Pose:  # fmt: skip
    """``walking`` is -1 or 1 for the direction, 0 when standing; ``reach`` is the point on the shelf
    and how far the hand is on its way there, 0 to 1."""
    s = persona.scale
    swing = sin(2 * pi * 0.95 * t) if walking else 0.12 * sin(0.9 * t)
    top = persona.top + (4 * s * abs(sin(2 * pi * 0.95 * t)) if walking else 0)
    spread = persona.half_width(stance) * (0.35 if stance is Stance.SIDE else 0.86)
    shoulder_y = top + persona.head * 1.42
    arms = []
    for side in (-1, 1):
        shoulder = (x + side * spread, shoulder_y)
        forward = side * swing * 70 * s
        elbow = (shoulder[0] + side * 14 * s + forward * 0.4, shoulder_y + 135 * s)
        hand = (shoulder[0] + side * 12 * s + forward, shoulder_y + 262 * s)
        arms.append(Arm(shoulder, elbow, hand))
    if reach is not None:
        target, share = reach
        first = 0 if target[0] < x else 1
        arms[first] = _stretched(arms[first], target, share, s, -1 if first == 0 else 1)
        arms = [arms[first], arms[1 - first]]
    return Pose(persona, stance, x, top, (arms[0], arms[1]), carried)


def _stretched(arm: Arm, target: Xy, share: float, s: float, side: int) -> Arm:
    eased = share * share * (3 - 2 * share)
    hand = (
        arm.hand[0] + (target[0] - arm.hand[0]) * eased,
        arm.hand[1] + (target[1] - arm.hand[1]) * eased,
    )
    middle = ((arm.shoulder[0] + hand[0]) / 2, (arm.shoulder[1] + hand[1]) / 2)
    return Arm(arm.shoulder, (middle[0] + side * 34 * s, middle[1] + 14 * s), hand)
