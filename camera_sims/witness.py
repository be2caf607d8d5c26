"""The perfect observer of one camera: plays the script again and lets a ``ZoneObserver`` watch each zone."""

from collections import Counter
from collections.abc import Sequence

from camera_sims.people import Box
from camera_sims.planogram import Gondola
from camera_sims.shoppers import Script
from camera_sims.truth import TICK_S, TruthRecord, ZoneObserver
from contract.store_config import Point, Policy

SLIVER = 0.05
"""A person's box may cover this share of a zone's bounding box without hiding it."""
SLIVER_OF_FACING = 0.35
"""... and of a zone with few places at most this share of one place."""


class Witness:
    """Moves on with ``advance`` and keeps nothing of what it has told. Owns its script."""

    def __init__(self, gondola: Gondola, script: Script, policy: Policy, start: float) -> None:
        self._script = script
        self._start = start
        self._zones = gondola.zone_configs()
        self._observers = [ZoneObserver(zone, policy) for zone in self._zones]
        self._boxes = [_bounds(zone.polygon) for zone in self._zones]
        self._changed_at = [start] * len(self._zones)
        self._told: list[tuple[int, bool] | None] = [None] * len(self._zones)
        self._ticks = 0

    def advance(self, until: float) -> list[TruthRecord]:
        """What is new up to epoch time ``until``, in order of time."""
        records: list[TruthRecord] = []
        while self._start + self._ticks * TICK_S <= until:
            records += self._tick(self._ticks * TICK_S)
            self._ticks += 1
        return records

    def _tick(self, t: float) -> list[TruthRecord]:
        now = round(self._start + t, 3)
        for change in self._script.advance(t):
            self._changed_at[change.zone] = round(self._start + change.at, 3)
        people = [box for visit in self._script.present(t) if (box := visit.pose(t).box) is not None]
        records = []
        for i, (zone, observer) in enumerate(zip(self._zones, self._observers, strict=True)):
            standing = Counter(item.sku for item in self._script.contents[i] if item is not None)
            count = standing.pop(zone.sku, 0)
            covered = is_covered(self._boxes[i], people, zone.capacity)
            if self._told[i] != (count, covered):
                self._told[i] = (count, covered)
                records.append(
                    TruthRecord(
                        "zone",
                        now,
                        zone.camera,
                        zone.id,
                        zone.sku,
                        count,
                        zone.capacity,
                        observable=not covered,
                    )
                )
            records += observer.look(now, TICK_S, count, standing, covered, self._changed_at[i])
        return records


def is_covered(zone: Box, people: Sequence[Box], capacity: int) -> bool:
    """Whether people's boxes cover more than a sliver of the zone."""
    left, top, right, bottom = zone
    area = (right - left) * (bottom - top)
    hidden = sum(
        max(0.0, min(right, x1) - max(left, x0)) * max(0.0, min(bottom, y1) - max(top, y0))
        for x0, y0, x1, y1 in people
    )
    return hidden > min(SLIVER, SLIVER_OF_FACING / capacity) * area


def _bounds(polygon: Sequence[Point]) -> Box:
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)
