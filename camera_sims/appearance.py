"""Light and sensor of one camera: tone, flicker, vignette, noise.

All of it is a function of the camera's seed and the scene time, so that a picture does not depend on
which pictures were asked for before it.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Image

Lighting = Literal["day", "night", "cycle"]
"""``cycle`` goes from day to night and back every ``CYCLE_S`` seconds of scene time."""

CYCLE_S = 600.0
NIGHT_GAIN = 0.52
"""Brightness at night against the day: a shop's night lighting, never a black picture."""

_MARGIN = 256
_NOISE_TILES = 2


@dataclass(frozen=True, slots=True)
class Look:
    """``tint`` is the gain of blue, green and red; ``noise`` the sensor noise's standard deviation in
    grey levels; ``blur`` the lens blur in pixels (sigma); ``vignette`` the loss in the corners."""

    tint: tuple[float, float, float]
    gamma: float
    noise: int
    blur: float
    vignette: float
    light_from: float
    flicker: float
    flicker_hz: float
    phase: float


def invent_look(rng: np.random.Generator) -> Look:
    warmth = float(rng.normal(0, 0.05))
    level = float(rng.uniform(0.86, 1.12))
    return Look(
        tint=(level * (1 - warmth), level, level * (1 + warmth)),
        gamma=float(rng.uniform(0.88, 1.15)),
        noise=int(rng.integers(2, 6)),
        blur=float(rng.uniform(0.35, 0.9)),
        vignette=float(rng.uniform(0.05, 0.25)),
        light_from=float(rng.uniform(-0.12, 0.12)),
        flicker=float(rng.uniform(0.004, 0.03)),
        flicker_hz=float(rng.uniform(0.6, 2.2)),
        phase=float(rng.uniform(0, 2 * pi)),
    )


def darkness(lighting: Lighting, t: float) -> float:
    """0 by day, 1 at night."""
    match lighting:
        case "day":
            return 0.0
        case "night":
            return 1.0
        case "cycle":
            return (1 - cos(2 * pi * t / CYCLE_S)) / 2


def tone_curve(look: Look, lighting: Lighting, t: float) -> npt.NDArray[np.uint8]:
    """Look-up table (256, 1, 3) from scene to sensor, leaving room for the noise added afterwards."""
    night = darkness(lighting, t)
    gain = (1 + (NIGHT_GAIN - 1) * night) * (
        1 + look.flicker * sin(2 * pi * look.flicker_hz * t + look.phase)
    )
    tint = np.array(look.tint) * gain * (1 + night * np.array((0.06, 0.0, -0.05)))
    ramp = (np.arange(256) / 255.0) ** look.gamma * 255
    curve = ramp[:, None] * tint[None, :] - _noise_mean(noise_level(look, lighting, t))
    return np.clip(curve, 0, 255).astype(np.uint8).reshape(256, 1, 3)


def noise_level(look: Look, lighting: Lighting, t: float) -> int:
    """Noise rises when the light falls, as the sensor's gain goes up."""
    return look.noise + round(3 * darkness(lighting, t))


def noise(level: int, t: float) -> Image:
    """A frame of noise, to be added to a picture made with ``tone_curve``. Times at least a millisecond
    and less than two minutes apart get different noise."""
    tick = round(t * 1000)
    place = (tick * 40503) % (_MARGIN * _MARGIN)
    dy, dx = divmod(place, _MARGIN)
    tile = _noise_tile(level, (tick // (_MARGIN * _MARGIN)) % _NOISE_TILES)
    return tile[dy : dy + FRAME_HEIGHT, dx : dx + FRAME_WIDTH]


def _noise_mean(level: int) -> float:
    return 2.5 * level


@lru_cache(maxsize=18)
def _noise_tile(level: int, number: int) -> Image:
    """Grey noise with some colour noise, shifted by its mean so that it can be added without a sign."""
    rng = np.random.default_rng((7919, level, number))
    shape = (FRAME_HEIGHT + _MARGIN, FRAME_WIDTH + _MARGIN)
    grey = rng.standard_normal(shape, np.float32)[:, :, None] * level * 0.85
    colour = rng.standard_normal((*shape, 3), np.float32) * level * 0.5
    return np.clip(grey + colour + _noise_mean(level), 0, 255).astype(np.uint8)


def light_field(look: Look) -> Image:
    """How bright each part of the frame is lit, 255 = fully (height, width, 3)."""
    y, x = np.mgrid[-1 : 1 : FRAME_HEIGHT * 1j, -1 : 1 : FRAME_WIDTH * 1j]
    field = (1 - look.vignette * (x**2 + y**2) / 2) * (1 - abs(look.light_from) + look.light_from * x)
    grey = np.clip(255 * field, 0, 255).astype(np.uint8)
    return np.asarray(cv2.merge([grey, grey, grey]), np.uint8)
