"""Which boxes mean the same object: greedy matching by intersection over union (IoU), class by class.

The pairs are taken in order of falling IoU, which is what Pascal VOC and COCO evaluations come to when
confidences do not matter; 0.5 is Pascal VOC's threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_IOU = 0.5

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, slots=True)
class Labelled:
    label: str
    xyxy: Box


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1; 0 for boxes without area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0


def match(
    left: Sequence[Labelled], right: Sequence[Labelled], min_iou: float = MIN_IOU
) -> list[tuple[int, int]]:
    """Pairs of indices of the same label and at least ``min_iou``; each index is in one pair at most."""
    by_label: dict[str, list[int]] = {}
    for index, one in enumerate(right):
        by_label.setdefault(one.label, []).append(index)
    candidates = [
        (overlap, i, j)
        for i, one in enumerate(left)
        for j in by_label.get(one.label, ())
        if (overlap := iou(one.xyxy, right[j].xyxy)) >= min_iou
    ]
    candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
    taken_left: set[int] = set()
    taken_right: set[int] = set()
    pairs = []
    for _, i, j in candidates:
        if i not in taken_left and j not in taken_right:
            taken_left.add(i)
            taken_right.add(j)
            pairs.append((i, j))
    return pairs
