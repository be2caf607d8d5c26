"""Draws people: a body kept per person and stance, and arms drawn anew for every frame."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from camera_sims.people import Arm, Clothes, Persona, Pose, Stance, Xy
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Colour, Image

Mask = npt.NDArray[np.uint8]
"""255 where something is, else 0 (height, width)."""


def draw_person(canvas: Image, pose: Pose, item: tuple[Image, Mask] | None = None) -> None:
    """Draw onto a BGR frame. ``item`` is picture and mask of what the first hand carries."""
    behind = {Stance.BACK: 2, Stance.SIDE: 1, Stance.FRONT: 0}[pose.stance]
    for arm in pose.arms[:behind]:
        if item is not None and arm is pose.arms[0]:
            paste(canvas, item[0], item[1], arm.hand[0], arm.hand[1] - 8)
        _draw_arm(canvas, pose.persona, arm)
    image, mask = _body(pose.persona, pose.stance)
    paste(canvas, image, mask, pose.x, pose.top + image.shape[0] / 2)
    for arm in pose.arms[behind:]:
        _draw_arm(canvas, pose.persona, arm)


def person_mask(pose: Pose) -> Mask:
    """255 where the person is, frame size."""
    mask = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
    for arm in pose.arms:
        _draw_arm(mask, pose.persona, arm, white=True)
    _, body = _body(pose.persona, pose.stance)
    paste(mask, body, body, pose.x, pose.top + body.shape[0] / 2)
    return mask


def paste(canvas: Image, image: Image, mask: Mask, x: float, y: float) -> None:
    """Copy ``image`` where ``mask`` is set, centred on (x, y); parts outside the canvas are dropped."""
    h, w = mask.shape
    left, top = round(x - w / 2), round(y - h / 2)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(canvas.shape[1], left + w), min(canvas.shape[0], top + h)
    if x0 < x1 and y0 < y1:
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        region = canvas[y0:y1, x0:x1]
        cv2.copyTo(image[part], mask[part], region)


def _draw_arm(canvas: Image, persona: Persona, arm: Arm, white: bool = False) -> None:
    s = persona.scale
    sleeve: Colour = (255, 255, 255) if white else persona.shirt
    skin: Colour = (255, 255, 255) if white else persona.skin
    darker: Colour = (
        sleeve if white else (int(sleeve[0] * 0.86), int(sleeve[1] * 0.86), int(sleeve[2] * 0.86))
    )
    shoulder, elbow, hand = (_pixel(p) for p in (arm.shoulder, arm.elbow, arm.hand))
    fore = darker if persona.long_sleeves else skin
    cv2.circle(canvas, hand, round(19 * s), skin, -1, cv2.LINE_AA)
    cv2.line(canvas, elbow, hand, fore, round(30 * s), cv2.LINE_AA)
    if persona.long_sleeves:
        cv2.circle(canvas, hand, round(17 * s), skin, -1, cv2.LINE_AA)
    cv2.line(canvas, shoulder, elbow, darker, round(42 * s), cv2.LINE_AA)


def _pixel(point: Xy) -> tuple[int, int]:
    return round(point[0]), round(point[1])


class _Pad:
    """A picture and the mask of what has been drawn on it."""

    def __init__(self, height: int, width: int) -> None:
        self.image = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)

    def poly(self, points: list[Xy], colour: Colour) -> None:
        corners = np.array([_pixel(p) for p in points], np.int32)
        cv2.fillPoly(self.image, [corners], colour)
        cv2.fillPoly(self.mask, [corners], (255,))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, *, half: bool = False) -> None:
        """An ellipse, or only its upper half."""
        axes, start = (round(rx), round(ry)), 180 if half else 0
        cv2.ellipse(self.image, _pixel((x, y)), axes, 0, start, 360, colour, -1)
        cv2.ellipse(self.mask, _pixel((x, y)), axes, 0, start, 360, (255,), -1)


@lru_cache(maxsize=48)
def _body(persona: Persona, stance: Stance) -> tuple[Image, Mask]:
    """Head and torso without arms: picture and mask, top of the head at the upper edge."""
    half, head = persona.half_width(stance), persona.head
    w, h = round(2 * half) + 2, max(40, round(FRAME_HEIGHT - persona.top) + 8)
    pad = _Pad(h, w)
    cx = w / 2
    right = [
        (0.26 * head, 1.04 * head), (0.8 * half, 1.2 * head), (half, 1.5 * head), (0.93 * half, 2.6 * head),
        (0.88 * half, 3.4 * head), (0.97 * half, h),
    ]  # fmt: skip
    torso = [(cx + x, y) for x, y in right] + [(cx - x, y) for x, y in reversed(right)]
    thin, thick = 0.22 * head, 0.24 * head
    neck = [
        (cx - thin, 0.7 * head),
        (cx + thin, 0.7 * head),
        (cx + thick, 1.2 * head),
        (cx - thick, 1.2 * head),
    ]
    pad.poly(neck, persona.skin)
    pad.poly(torso, persona.shirt)
    _dress(pad.image, persona, stance, half)
    across = np.linspace(-1, 1, w, dtype=np.float32)
    folds = (1.05 - 0.3 * across**2 + 0.05 * np.sin(across * 17))[None, :, None]
    pad.image[:] = np.clip(pad.image * folds, 0, 255)
    _draw_head(pad, persona, stance, cx)
    return pad.image, pad.mask


def _dress(image: Image, persona: Persona, stance: Stance, half: float) -> None:
    h, w = image.shape[:2]
    head, trim = persona.head, persona.trim
    cx = w // 2
    shoulders = round(head * 1.06)
    body = image[shoulders:]
    worn = body.any(axis=2)
    match persona.clothes:
        case Clothes.STRIPES:
            rows = (np.arange(body.shape[0]) // max(4, round(head * 0.16))) % 2 == 1
            body[worn & rows[:, None]] = trim
        case Clothes.JACKET:
            cv2.line(image, (cx, shoulders), (cx, h), trim, max(3, round(head * 0.06)))
            cv2.ellipse(
                image,
                (cx, shoulders),
                (round(head * 0.36), round(head * 0.17)),
                0,
                0,
                180,
                trim,
                -1,
            )
        case Clothes.BACKPACK if stance is Stance.BACK:
            left, right = round(cx - half * 0.58), round(cx + half * 0.58)
            cv2.rectangle(image, (left, round(head * 1.45)), (right, round(head * 3.1)), trim, -1)
            dark = (trim[0] // 2, trim[1] // 2, trim[2] // 2)
            inset = round(half * 0.16)
            pocket = (left + inset, round(head * 2.3)), (right - inset, round(head * 2.95))
            cv2.rectangle(image, *pocket, dark, 3)
        case Clothes.APRON:
            strap = max(6, round(head * 0.13))
            for side in (-1, 1):
                top, low = round(cx + side * half * 0.5), round(cx - side * half * 0.3)
                cv2.line(image, (top, shoulders), (low, h), trim, strap)
            cv2.rectangle(image, (0, round(head * 2.9)), (w, round(head * 3.05)), trim, -1)
        case _:
            pass


def _draw_head(pad: _Pad, persona: Persona, stance: Stance, cx: float) -> None:
    head = persona.head
    middle, rx, ry = head * 0.5, head * 0.37, head * 0.5
    dark: Colour = (30, 30, 40)
    if persona.long_hair:
        low, wide = head * 1.3, rx * 1.15
        pad.poly([(cx - rx, middle), (cx + rx, middle), (cx + wide, low), (cx - wide, low)], persona.hair)
    match stance:
        case Stance.BACK:
            pad.oval(cx, middle, rx, ry, persona.skin)
            pad.oval(cx, middle * 0.88, rx * 1.02, ry * 0.86, persona.hair)
            for side in (-1, 1):
                pad.oval(cx + side * rx, middle * 1.1, rx * 0.12, ry * 0.2, persona.skin)
        case Stance.FRONT:
            pad.oval(cx, middle, rx, ry, persona.skin)
            pad.oval(cx, middle * 0.95, rx * 1.02, ry * 0.93, persona.hair, half=True)
            pad.oval(cx, middle * 1.02, rx * 0.8, ry * 0.62, persona.skin)
            for side in (-1, 1):
                pad.oval(cx + side * rx * 0.38, middle * 0.95, rx * 0.11, ry * 0.06, dark)
            pad.oval(cx, middle * 1.45, rx * 0.3, ry * 0.05, (70, 70, 160))
        case Stance.SIDE:
            pad.oval(cx, middle, rx, ry, persona.skin)
            pad.oval(cx - rx * 0.15, middle * 0.85, rx * 0.9, ry * 0.82, persona.hair)
            pad.oval(cx + rx * 0.55, middle * 1.1, rx * 0.42, ry * 0.5, persona.skin)
    if persona.cap:
        pad.oval(cx, middle * 0.82, rx * 1.06, ry * 0.8, persona.trim, half=True)
