"""One person's visit to the gondola, and what it changes on the shelf. Times are scene seconds."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from camera_sims.people import Persona, Pose, Stance, Xy, stand


class Errand(StrEnum):
    WALK_PAST = "walk_past"
    LOOK = "look"
    PICK = "pick"
    PUT_BACK = "put_back"
    MISPLACE = "misplace"
    RESTOCK = "restock"


@dataclass(frozen=True, slots=True)
class Item:
    """One package on the shelf. ``dx`` shifts it from its place (shelf pixels), ``scale`` and ``angle``
    (degrees) and ``brightness`` make it differ from its neighbour."""

    sku: str
    dx: float
    scale: float
    angle: float
    brightness: float


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """Place ``slot`` of zone number ``zone`` holds ``item`` from ``at`` (scene seconds) on."""

    at: float
    number: int
    zone: int
    slot: int
    item: Item | None


@dataclass(frozen=True, slots=True)
class Reach:
    """A hand goes to the shelf: away at ``start``, there at ``touch``, back at ``end``."""

    start: float
    touch: float
    end: float
    target: Xy
    brings: str | None
    takes: str | None


@dataclass(frozen=True, slots=True)
class Visit:
    """``way`` lists (scene seconds, x of the body in frame pixels), straight lines in between."""

    errand: Errand
    persona: Persona
    facing: Stance
    way: tuple[tuple[float, float], ...]
    reaches: tuple[Reach, ...]

    @property
    def start(self) -> float:
        return self.way[0][0]

    @property
    def end(self) -> float:
        return self.way[-1][0]

    def pose(self, t: float) -> Pose:
        times = [point[0] for point in self.way]
        x = float(np.interp(t, times, [point[1] for point in self.way]))
        before = float(np.interp(t - 0.05, times, [point[1] for point in self.way]))
        walking = 0 if abs(x - before) < 0.5 else (1 if x > before else -1)
        reach = next((r for r in self.reaches if r.start <= t <= r.end), None)
        if reach is None:
            stance = Stance.SIDE if walking and self.facing is not Stance.FRONT else self.facing
            return stand(self.persona, x, t, walking=walking, stance=stance, reach=None)
        going = t < reach.touch
        share = (
            (t - reach.start) / (reach.touch - reach.start)
            if going
            else (reach.end - t) / (reach.end - reach.touch)
        )
        carried = reach.brings if going else reach.takes
        hand = (reach.target, min(1.0, 1.25 * share))
        return stand(self.persona, x, t, walking=walking, stance=Stance.BACK, reach=hand, carried=carried)
