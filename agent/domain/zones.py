"""From the detections of one frame to what was seen of each zone.

A look is what one frame says, with all its mistakes; ``agent.domain.shelf`` decides what to believe.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.domain import geometry
from agent.domain.detection import PERSON, Detection
from contract.store_config import Zone

COUNT_CONFIDENCE = 0.45
"""A detection at least this sure may prove that something is there."""
GONE_CONFIDENCE = 0.30
"""A detection at least this sure disproves that something is gone. The band between the two is the
hysteresis for an item that a detector sees only just: it neither appears nor vanishes."""
PERSON_CONFIDENCE = 0.25
"""People count from here on: a person overlooked may cost a false alert, one imagined only time."""
SAME_ITEM_OVERLAP = 0.6
"""Two boxes with at least this intersection over union are one item seen twice: neighbours on a shelf
stand side by side and hardly overlap."""
SLIVER = 0.05
"""A person's box may cover this share of a zone without hiding it: the box is drawn around the whole
body, its rim holds background."""
SLIVER_OF_FACING = 0.35
"""... but never more than this share of one facing (``1 / capacity`` of the zone), or a single item
could hide behind it."""
NEAR = 0.25
"""A person whose box comes within this share of the zone's width and height is near enough to reach in
by the next frame."""


@dataclass(frozen=True, slots=True)
class ZoneLook:
    """One zone in one frame, captured at ``at`` (seconds since the epoch)."""

    at: float
    count: int
    """Detections of the zone's own SKU with at least ``COUNT_CONFIDENCE``."""
    count_at_most: int
    """The same with at least ``GONE_CONFIDENCE``; never below ``count``."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Detections of other SKUs with at least ``COUNT_CONFIDENCE``, by SKU."""
    confidence: float | None = None
    """Mean confidence of the detections in ``count``; None when there are none."""
    hidden_by_person: bool = False
    person_near: bool = False
    """Somebody could have reached the zone; always true when hidden."""


def look_at(zones: Iterable[Zone], detections: Sequence[Detection], at: float) -> dict[str, ZoneLook]:
    """What ``detections`` (boxes in pixels of the view that the zones are drawn on) say of each zone.

    An item belongs to the zone that its box's centre lies in.
    """
    people = [d.xyxy for d in detections if d.label == PERSON and d.confidence >= PERSON_CONFIDENCE]
    items = [(d.centre, d) for d in distinct(detections)]
    return {zone.id: _look(zone, people, items, at) for zone in zones}


def _look(
    zone: Zone,
    people: Sequence[geometry.Box],
    items: Sequence[tuple[geometry.Point, Detection]],
    at: float,
) -> ZoneLook:
    shape = geometry.shape_of(zone.polygon)
    reach = geometry.grown(shape.box, NEAR)
    sliver = min(SLIVER, SLIVER_OF_FACING / zone.capacity)
    close = [person for person in people if geometry.touches(person, reach)]
    hidden = sum(geometry.covered_share(shape, person) for person in close) > sliver
    count, count_at_most, confidence = 0, 0, 0.0
    others: dict[str, int] = {}
    for centre, item in items:
        if not geometry.contains(shape, centre):
            continue
        sure = item.confidence >= COUNT_CONFIDENCE
        if item.label == zone.sku:
            count_at_most += 1
            if sure:
                count += 1
                confidence += item.confidence
        elif sure:
            others[item.label] = others.get(item.label, 0) + 1
    mean = min(1.0, confidence / count) if count else None
    return ZoneLook(at, count, count_at_most, others, mean, hidden, bool(close))


def distinct(detections: Iterable[Detection]) -> list[Detection]:
    """Items (never people) with at least ``GONE_CONFIDENCE``, the surer of two boxes on the same item.

    Detectors without class-agnostic suppression like to report one pack as two similar SKUs.
    """
    items = sorted(
        (d for d in detections if d.label != PERSON and d.confidence >= GONE_CONFIDENCE),
        key=lambda d: d.xyxy[0],
    )
    doubled: set[int] = set()
    for i, first in enumerate(items):
        for j in range(i + 1, len(items)):
            second = items[j]
            if second.xyxy[0] >= first.xyxy[2]:
                break
            if i in doubled or j in doubled:
                continue
            if geometry.overlap(first.xyxy, second.xyxy) >= SAME_ITEM_OVERLAP:
                doubled.add(j if first.confidence >= second.confidence else i)
    return [item for i, item in enumerate(items) if i not in doubled]
