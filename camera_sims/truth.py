"""What really happened on the shelves, and what a perfect observer would have reported, as JSON lines.

Every line is one ``TruthRecord``; fields without a value are left out. Times are seconds since the epoch.

``record: "zone"``
    Written at the start and whenever something changes: ``facings`` of the zone's own SKU on the shelf
    and ``observable``, whether nobody stands in front of it.
``record: "event"``
    One event of ``docs/architecture.md``, ``type`` being its kind (``low_stock``, ``picked`` ...).
    ``time`` is when the perfect observer reports it; ``changed_at`` when the shelf changed to what is
    reported; ``observable_at`` when that was first in unobstructed view. So ``time`` follows
    ``observable_at`` by ``settle_s`` and ``dwell_s`` at least.

The rules are written here a second time, from the architecture page and not from the agent, so that a
mistake there does not become the measure of itself.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from contract.names import StockLevel
from contract.store_config import Policy, Zone

TICK_S = 0.1
"""The perfect observer looks this often."""


@dataclass(frozen=True, slots=True)
class TruthRecord:
    record: Literal["zone", "event"]
    time: float
    camera: str
    zone: str
    sku: str
    facings: int | None
    capacity: int
    observable: bool | None = None
    type: str | None = None
    level: StockLevel | None = None
    previous_facings: int | None = None
    quantity: int | None = None
    found_sku: str | None = None
    changed_at: float | None = None
    observable_at: float | None = None

    def to_json(self) -> str:
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})


@dataclass(slots=True)
class _Stray:
    """Another SKU in the zone: seconds of observable time it has been there, or been gone."""

    there: float = 0.0
    gone: float = 0.0
    reported: bool = False
    since: float = 0.0


class ZoneObserver:
    """Watches one zone and believes what it should. All times are of one clock, in seconds."""

    def __init__(self, zone: Zone, policy: Policy) -> None:
        self._zone = zone
        self._policy = policy
        self._believed: int | None = None
        self._level = StockLevel.UNKNOWN
        self._unknown = True
        self._count: int | None = None
        self._changed_at = 0.0
        self._seen_at: float | None = None
        self._held: float | None = None
        self._covered_since: float | None = None
        self._covered_at: float | None = None
        self._picked = 0
        self._strays: dict[str, _Stray] = {}

    def look(
        self,
        now: float,
        tick: float,
        count: int,
        others: Mapping[str, int],
        covered: bool,
        changed_at: float,
    ) -> list[TruthRecord]:
        """One look, ``tick`` seconds after the last one. ``count`` facings of the zone's SKU are on the shelf
        since ``changed_at``, beside ``others`` (SKU to number); ``covered`` if somebody is in the way."""
        if count != self._count:
            self._count, self._changed_at, self._seen_at, self._held = (
                count,
                changed_at,
                None,
                None,
            )
        if covered:
            return self._hidden(now)
        self._covered_since = None
        if self._seen_at is None:
            self._seen_at = now
        if self._covered_at is not None and now - self._covered_at < self._policy.settle_s - 1e-6:
            return []
        self._held = 0.0 if self._held is None else self._held + tick
        events = self._believe(now) if self._held >= self._policy.dwell_s - 1e-6 else []
        return events + self._look_for_strays(now, tick, others)

    def _hidden(self, now: float) -> list[TruthRecord]:
        self._covered_at = now
        if self._covered_since is None:
            self._covered_since = now
        if self._unknown or now - self._covered_since <= self._policy.occlusion_unknown_s:
            return []
        self._unknown = True
        self._held = None
        return [
            self._event(
                "zone_unknown",
                now,
                changed_at=self._covered_since,
                level=StockLevel.UNKNOWN,
            )
        ]

    def _believe(self, now: float) -> list[TruthRecord]:
        count, before, level_before = self._count or 0, self._believed, self._level
        events = []
        if self._unknown:
            self._unknown = False
            known = self._level_of(count, level_before) if before is None else level_before
            facings = count if before is None else before
            events.append(self._event("zone_known", now, facings=facings, level=known))
        if count == before:
            return events
        self._believed = count
        self._level = self._level_of(count, level_before)
        if before is not None:
            events += self._moved(now, count, before)
        if self._level is not level_before:
            kind = self._alert(level_before, self._level)
            if kind:
                quantity = count - before if kind == "restocked" and before is not None else None
                events.append(self._event(kind, now, previous_facings=before, quantity=quantity))
        return events

    def _moved(self, now: float, count: int, before: int) -> list[TruthRecord]:
        events = [self._event("facings_changed", now, previous_facings=before)]
        if count < before:
            self._picked += before - count
            events.append(self._event("picked", now, previous_facings=before, quantity=before - count))
        elif count - before <= self._picked:
            self._picked -= count - before
            events.append(self._event("put_back", now, previous_facings=before, quantity=count - before))
        else:
            self._picked = 0
        return events

    def _level_of(self, count: int, before: StockLevel) -> StockLevel:
        low = self._zone.low_threshold
        if count == 0:
            return StockLevel.OUT_OF_STOCK
        if count <= low:
            return StockLevel.LOW
        if count >= max(low + 1, low + self._policy.restock_margin) or before is StockLevel.UNKNOWN:
            return StockLevel.STOCKED
        return before

    @staticmethod
    def _alert(before: StockLevel, after: StockLevel) -> str | None:
        match before, after:
            case _, StockLevel.OUT_OF_STOCK:
                return "out_of_stock"
            case ((StockLevel.STOCKED | StockLevel.UNKNOWN), StockLevel.LOW):
                return "low_stock"
            case ((StockLevel.LOW | StockLevel.OUT_OF_STOCK), StockLevel.STOCKED):
                return "restocked"
        return None

    def _look_for_strays(self, now: float, tick: float, others: Mapping[str, int]) -> list[TruthRecord]:
        dwell = self._policy.dwell_s - 1e-6
        events = []
        for sku in others:
            stray = self._strays.setdefault(sku, _Stray(there=-tick, since=now))
            stray.there, stray.gone = stray.there + tick, 0.0
            if stray.there >= dwell and not stray.reported:
                stray.reported = True
                events.append(
                    self._event(
                        "misplaced",
                        now,
                        found_sku=sku,
                        quantity=others[sku],
                        changed_at=stray.since,
                    )
                )
        for sku in [sku for sku in self._strays if sku not in others]:
            self._strays[sku].gone += tick
            if self._strays[sku].gone >= dwell or not self._strays[sku].reported:
                del self._strays[sku]
        return events

    def _event(
        self, kind: str, now: float, *, facings: int | None = None, level: StockLevel | None = None,
        previous_facings: int | None = None, quantity: int | None = None, found_sku: str | None = None,
        changed_at: float | None = None,
    ) -> TruthRecord:  # fmt: skip
        return TruthRecord(
            record="event",
            time=now,
            camera=self._zone.camera,
            zone=self._zone.id,
            sku=self._zone.sku,
            facings=self._believed if facings is None else facings,
            capacity=self._zone.capacity,
            type=kind,
            level=level or self._level,
            previous_facings=previous_facings,
            quantity=quantity,
            found_sku=found_sku,
            changed_at=self._changed_at if changed_at is None else changed_at,
            observable_at=changed_at if changed_at is not None else self._seen_at,
        )
