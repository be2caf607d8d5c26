"""Proposes zones from what a camera sees, so that a newcomer need not draw polygons by hand.

What stands in most of the frames is a facing. Facings of one SKU that stand side by side, with nothing
else between them, are a zone; its outline leaves half of the room to each neighbour, so that a box that
wobbles still falls into its own zone.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.detection import PERSON, Detection
from agent.domain.geometry import Box, overlap

SEEN_SHARE = 0.6
"""A facing is detected in at least this share of the frames."""
SAME_BOX_OVERLAP = 0.5
"""Intersection over union from which boxes in two frames are one item."""
SAME_ROW = 0.5
"""Two boxes stand on one shelf when they share this much of the smaller one's height."""
MAX_GAP = 2.8
"""Facings of a zone stand at most this many widths apart: one or two may be missing in between."""
MAX_PITCH = 1.25
"""Facings of a full shelf stand at most this many widths from one's left side to the next's."""
MARGIN = 0.25
"""Room around the outermost boxes, in box widths and heights, where no neighbour needs it."""


@dataclass(frozen=True, slots=True)
class ProposedZone:
    sku: str
    facings: int
    """Seen now."""
    capacity: int
    """Facings that would fit between the outermost ones seen."""
    box: Box
    """Left, top, right, bottom in pixels of the frame."""


@dataclass(slots=True)
class _Item:
    label: str
    box: Box
    seen: int = 1


def propose_zones(frames: Sequence[Sequence[Detection]], frame_size: tuple[int, int]) -> list[ProposedZone]:
    """Zones for what ``frames`` (the detections of each) show, from top to bottom and left to right.
    ``frame_size`` is width and height in pixels; no zone leaves the frame, and none overlap."""
    items = _stable_items(frames)
    groups = _group(items)
    boxes = [_around([item.box for item in group]) for group in groups]
    zones = []
    for i, group in enumerate(groups):
        others = [box for j, box in enumerate(boxes) if j != i]
        box = _with_margin(group, boxes[i], others, frame_size)
        zones.append(ProposedZone(group[0].label, len(group), _capacity(group), box))
    return sorted(zones, key=lambda zone: (round(zone.box[1] / 40), zone.box[0]))


def _stable_items(frames: Sequence[Sequence[Detection]]) -> list[_Item]:
    items: list[_Item] = []
    for detections in frames:
        taken: set[int] = set()
        for detection in detections:
            if detection.label == PERSON:
                continue
            match = _best_match(items, detection, taken)
            if match is None:
                taken.add(len(items))
                items.append(_Item(detection.label, detection.xyxy))
            else:
                taken.add(match)
                item = items[match]
                item.seen += 1
                item.box = _mean(item.box, detection.xyxy, 1 / item.seen)
    return [item for item in items if item.seen >= max(2, SEEN_SHARE * len(frames))]


def _best_match(items: Sequence[_Item], detection: Detection, taken: set[int]) -> int | None:
    candidates = [
        (overlap(item.box, detection.xyxy), i)
        for i, item in enumerate(items)
        if i not in taken and item.label == detection.label
    ]
    best = max(candidates, default=(0.0, 0))
    return best[1] if best[0] >= SAME_BOX_OVERLAP else None


def _mean(old: Box, new: Box, weight: float) -> Box:
    left, top, right, bottom = (a + (b - a) * weight for a, b in zip(old, new, strict=True))
    return left, top, right, bottom


def _group(items: Sequence[_Item]) -> list[list[_Item]]:
    """Runs of neighbours of one SKU on one shelf, each from left to right."""
    groups: list[list[_Item]] = []
    for item in sorted(items, key=lambda i: i.box[0]):
        for group in groups:
            last = group[-1]
            if (
                last.label == item.label
                and _side_by_side(last.box, item.box)
                and not _between(items, last, item)
            ):
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def _side_by_side(left: Box, right: Box) -> bool:
    width = (left[2] - left[0] + right[2] - right[0]) / 2
    return _same_row(left, right) and right[0] - left[2] <= MAX_GAP * width


def _same_row(a: Box, b: Box) -> bool:
    shared = min(a[3], b[3]) - max(a[1], b[1])
    return shared >= SAME_ROW * min(a[3] - a[1], b[3] - b[1])


def _between(items: Sequence[_Item], left: _Item, right: _Item) -> bool:
    """Whether something else stands between two items of a shelf."""
    start, end = _middle(left.box), _middle(right.box)
    return any(
        start < _middle(item.box) < end and item.label != left.label and _same_row(item.box, left.box)
        for item in items
    )


def _middle(box: Box) -> float:
    return (box[0] + box[2]) / 2


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _capacity(group: Sequence[_Item]) -> int:
    lefts = [item.box[0] for item in group]
    width = sum(item.box[2] - item.box[0] for item in group) / len(group)
    steps = [b - a for a, b in itertools.pairwise(lefts) if b - a > width / 2]
    pitch = min([MAX_PITCH * width, *steps])
    return max(len(group), round((lefts[-1] - lefts[0]) / pitch) + 1)


def _with_margin(group: Sequence[_Item], box: Box, others: Sequence[Box], frame_size: tuple[int, int]) -> Box:
    """``box`` with a margin, but at most half way to each neighbour and never out of the frame."""
    dx = MARGIN * sum(item.box[2] - item.box[0] for item in group) / len(group)
    dy = MARGIN * sum(item.box[3] - item.box[1] for item in group) / len(group)
    left, top, right, bottom = box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy
    for other in others:
        level = min(box[3], other[3]) > max(box[1], other[1])
        if level and other[0] >= box[0] and other[2] > box[2]:
            right = min(right, (box[2] + other[0]) / 2)
        elif level and other[2] <= box[2] and other[0] < box[0]:
            left = max(left, (box[0] + other[2]) / 2)
        elif other[1] > box[1] and other[0] - dx < box[2] and box[0] - dx < other[2]:
            bottom = min(bottom, (box[3] + other[1]) / 2)
        elif other[0] - dx < box[2] and box[0] - dx < other[2]:
            top = max(top, (box[1] + other[3]) / 2)
    width, height = frame_size
    return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
