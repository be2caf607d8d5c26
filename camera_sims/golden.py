"""Golden sets of simulated shops: clips with what a perfect detector would report in each frame.

Each clip is one camera of a shop of its own, some seconds long, with whoever is at the shelf. Seeds are
those of datasets, so take others than a model was trained on.
"""

import cv2
import numpy as np

from camera_sims.catalogue import PERSON
from camera_sims.errors import SceneError
from camera_sims.labels import Label, labels
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Image
from camera_sims.shop import Shop
from contract.golden import (
    MAX_FRAMES,
    Expected,
    GoldenClip,
    GoldenContent,
    GoldenFrame,
    classes_of,
    frame_name,
)

JPEG_QUALITY = 88
STEP_S = 2.0
"""Between two frames of a clip."""
MIN_SIDE = 2.0
"""Boxes thinner than this, in pixels, are cut off by the picture's edge."""


def golden_set(seed: int, *, clips: int = 4, frames: int = 6) -> tuple[GoldenContent, dict[str, bytes]]:
    """Content and pictures (by the frames' ``file``) of ``clips`` shops with ``frames`` each, the same for
    the same arguments. Raises ``SceneError`` for numbers out of range."""
    if clips < 1 or frames < 1 or clips * frames > MAX_FRAMES or seed < 0:
        raise SceneError(f"a golden set has 1 to {MAX_FRAMES} frames, and its seed is not below 0")
    pictures: dict[str, bytes] = {}
    made = []
    for clip in range(clips):
        shots = _clip(seed + clip, frames)
        described = []
        for picture, found in shots:
            name = frame_name(len(pictures), "jpg")
            pictures[name] = _jpeg(picture)
            described.append(
                GoldenFrame(file=name, width=FRAME_WIDTH, height=FRAME_HEIGHT, detections=_expected(found))
            )
        made.append(GoldenClip(name=f"shop-{seed + clip}", frames=tuple(described)))
    return GoldenContent(classes=classes_of(made), clips=tuple(made)), pictures


def _clip(seed: int, frames: int) -> list[tuple[Image, list[Label]]]:
    rng = np.random.default_rng((seed, 98))
    shop = Shop(seed, "golden", 1, activity=float(rng.uniform(1, 4)), stock="varied")
    view = shop.view(shop.camera_ids[0])
    at = float(rng.uniform(1, 60))
    shots = []
    for _ in range(frames):
        view.advance(at)
        shots.append((view.picture(), labels(view)))
        at += STEP_S
    return shots


def _expected(found: list[Label]) -> tuple[Expected, ...]:
    """Without people: nobody counts them, and a part of a person is a matter of taste."""
    return tuple(
        Expected(label=label.name, xyxy=label.box)
        for label in found
        if label.name != PERSON
        and label.box[2] - label.box[0] >= MIN_SIDE
        and label.box[3] - label.box[1] >= MIN_SIDE
    )


def _jpeg(picture: Image) -> bytes:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise SceneError("a picture cannot be written as JPEG")
    return data.tobytes()
