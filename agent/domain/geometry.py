"""Plane geometry in frame pixels (x to the right, y down): where things are, and what covers what.

Everything is plain floats: a store has a dozen zones and a hundred boxes a frame, where bounding boxes
decide nearly every question and calling into an array library would cost more than it saves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A simple polygon with what is asked of it on every frame worked out once."""

    polygon: tuple[Point, ...]
    box: Box
    """Bounding box."""
    area: float
    """Square pixels, always positive."""


@lru_cache(maxsize=16_384)
def shape_of(polygon: tuple[Point, ...]) -> Shape:
    xs = [x for x, _ in polygon]
    ys = [y for _, y in polygon]
    return Shape(polygon, (min(xs), min(ys), max(xs), max(ys)), area_of(polygon))


def area_of(polygon: Sequence[Point]) -> float:
    """Area in square pixels (shoelace formula); 0 with fewer than three corners."""
    total = 0.0
    x1, y1 = polygon[-1] if polygon else (0.0, 0.0)
    for x2, y2 in polygon:
        total += x1 * y2 - x2 * y1
        x1, y1 = x2, y2
    return abs(total) / 2


def contains(shape: Shape, point: Point) -> bool:
    """Whether ``point`` lies inside (even-odd rule; points on the outline may fall on either side)."""
    x, y = point
    left, top, right, bottom = shape.box
    if not (left <= x <= right and top <= y <= bottom):
        return False
    inside = False
    x1, y1 = shape.polygon[-1]
    for x2, y2 in shape.polygon:
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
        x1, y1 = x2, y2
    return inside


def covered_share(shape: Shape, box: Box) -> float:
    """Share of the polygon's area that ``box`` covers, 0 to 1.

    Sutherland-Hodgman clipping against the four sides of the box. For a concave polygon the clipped
    outline may hold edges that run back on themselves; they enclose no area, so the share is exact.
    """
    if not touches(shape.box, box) or shape.area <= 0:
        return 0.0
    left, top, right, bottom = shape.box
    if box[0] <= left and box[1] <= top and box[2] >= right and box[3] >= bottom:
        return 1.0
    rest: list[Point] = list(shape.polygon)
    for axis, limit, sign in (
        (0, box[0], 1),
        (0, box[2], -1),
        (1, box[1], 1),
        (1, box[3], -1),
    ):
        rest = _clip(rest, axis, limit, sign)
        if not rest:
            return 0.0
    return min(1.0, area_of(rest) / shape.area)


def _clip(polygon: Sequence[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """The part of ``polygon`` where ``sign * (coordinate - limit) >= 0``."""
    kept: list[Point] = []
    before = polygon[-1]
    before_in = sign * (before[axis] - limit) >= 0
    for corner in polygon:
        corner_in = sign * (corner[axis] - limit) >= 0
        if corner_in != before_in:
            t = (limit - before[axis]) / (corner[axis] - before[axis])
            kept.append(
                (
                    before[0] + t * (corner[0] - before[0]),
                    before[1] + t * (corner[1] - before[1]),
                )
            )
        if corner_in:
            kept.append(corner)
        before, before_in = corner, corner_in
    return kept


def touches(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def grown(box: Box, share: float) -> Box:
    """``box`` with ``share`` of its width and height added on every side."""
    dx, dy = (box[2] - box[0]) * share, (box[3] - box[1]) * share
    return box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def frame_share(boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """Share of a frame of ``size`` (width, height) under ``boxes``, 0 to 1. Boxes that overlap count
    twice: the answer is an upper bound."""
    width, height = size
    total = sum(
        max(0.0, min(right, width) - max(left, 0.0)) * max(0.0, min(bottom, height) - max(top, 0.0))
        for left, top, right, bottom in boxes
    )
    return min(1.0, total / (width * height)) if width * height > 0 else 0.0
