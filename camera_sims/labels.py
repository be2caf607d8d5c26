"""What a perfect detector would report about one picture.

A box is *amodal* for packages (around the whole front, as far as it lies inside the picture) because the
agent looks for its centre; for people it is tight around what of them is visible.
"""

from dataclasses import dataclass

import numpy as np

from camera_sims.catalogue import PERSON
from camera_sims.figures import Mask, paste, person_mask
from camera_sims.people import Box
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Image
from camera_sims.render import carried_sprite, item_box
from camera_sims.shop import View

MAX_HIDDEN = 0.6
"""A package hidden behind people by more than this share has no label."""
MIN_PERSON_PIXELS = 500
"""Fewer visible pixels of a person than this (in a 1280x720 frame) have no label."""


@dataclass(frozen=True, slots=True)
class Label:
    """``box`` in frame pixels. ``mask`` is a person's visible part (frame size), None for packages."""

    name: str
    box: Box
    mask: Mask | None = None


def labels(view: View) -> list[Label]:
    """Everything that is to be seen in ``view.picture()`` at the time last advanced to."""
    hidden = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.uint8)
    people: list[Label] = []
    carried: list[Label] = []
    poses = [visit.pose(view.now) for visit in view.script.present(view.now)]
    for pose in reversed(poses):  # nearest first
        body = person_mask(pose)
        seen = body & ~hidden
        if int(np.count_nonzero(seen)) >= MIN_PERSON_PIXELS:
            people.append(Label(PERSON, _around(seen), seen))
        hidden |= body
        sprite = carried_sprite(pose.carried, view.gondola)
        if pose.carried is not None and sprite is not None:
            held = np.zeros_like(hidden)
            paste(
                held,
                sprite[1],
                sprite[1],
                pose.arms[0].hand[0],
                pose.arms[0].hand[1] - 8,
            )
            label = _if_visible(pose.carried, _around(held), held, hidden) if held.any() else None
            carried += [label] if label else []
            hidden |= held
    packages = []
    for zone, slots in enumerate(view.script.contents):
        for slot, item in enumerate(slots):
            if item is not None:
                box = item_box(view.gondola, zone, slot, item)
                label = _if_visible(item.sku, box, None, hidden)
                packages += [label] if label else []
    return packages + carried + people


def cropped(label: Label, window: tuple[int, int, int, int], min_visible: float) -> Box | None:
    """The label's box inside ``window`` (left, top, right, bottom in frame pixels), still in frame
    pixels; None if less than ``min_visible`` of a package or hardly anything of a person is inside."""
    left, top, right, bottom = window
    if label.mask is not None:
        part = label.mask[max(0, top) : bottom, max(0, left) : right]
        if int(np.count_nonzero(part)) < MIN_PERSON_PIXELS:
            return None
        x0, y0, x1, y1 = _around(part)
        return x0 + max(0, left), y0 + max(0, top), x1 + max(0, left), y1 + max(0, top)
    x0, y0, x1, y1 = label.box
    cx0, cy0, cx1, cy1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if cx1 <= cx0 or cy1 <= cy0:
        return None
    return (cx0, cy0, cx1, cy1) if (cx1 - cx0) * (cy1 - cy0) >= min_visible * (x1 - x0) * (y1 - y0) else None


def _if_visible(sku: str, box: Box, own: Mask | None, hidden: Mask) -> Label | None:
    x0, y0, x1, y1 = box
    clipped = (
        max(0.0, x0),
        max(0.0, y0),
        min(float(FRAME_WIDTH), x1),
        min(float(FRAME_HEIGHT), y1),
    )
    rows, columns = (
        slice(int(clipped[1]), round(clipped[3])),
        slice(int(clipped[0]), round(clipped[2])),
    )
    cover = hidden[rows, columns]
    if cover.size == 0:
        return None
    area = cover.size if own is None else max(1, int(np.count_nonzero(own[rows, columns])))
    lost = np.count_nonzero(cover if own is None else cover & own[rows, columns])
    return Label(sku, clipped) if lost <= MAX_HIDDEN * area else None


def _around(mask: Image) -> Box:
    """Bounding box of the set pixels."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] + 1),
        float(rows[-1] + 1),
    )
