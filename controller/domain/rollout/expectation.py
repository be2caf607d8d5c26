"""How far each store is from what was to be expected of it, for each thing that is measured.

What a store shows after the change is predicted from what it showed right before and from what it usually
shows in these hours: ``usual_after + r · (before - usual_before)``. The weight ``r`` is the slope by least
squares over pairs of hours in which nothing happened (analysis of covariance; Frison and Pocock, 1992): 1
trusts the hours before alone, 0 the history alone. The rest, divided by the usual value, is the store's
*deviation*: -1 when a class is gone, -0.2 when a fifth of it is missing. It is bounded where a log-ratio is
not, so that the last can of a shelf being sold is not taken for a full shelf that has gone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import median

from contract.messages import CONFIDENCE_BINS
from controller.domain.rollout.hours import Pair, Side
from controller.domain.rollout.statistics import slope_through_zero

CLASS, CONFIDENCE, EVENTS, UNKNOWN = "class", "confidence", "events", "unknown"
Measure = tuple[str, str]
"""What sort of measure, and which class or kind of event; empty where there is only one."""

LEAST_RATE = 0.02
"""Detections per frame that a class usually has, to be judged in a store: once in ten seconds at 5 fps."""
LEAST_PRESENT = 0.1
"""Of the usual rate, right before the change: a product that was taken out of the range is not judged."""
LEAST_EVENTS = 4.0
"""Events that are usual in the hours after, to be judged in a store."""
LEAST_DETECTIONS = 100
"""For a mean confidence."""
LEAST_DAYS = 3
"""Of history, beside the day that is looked at. With less the hours before are the only expectation."""
LEAST_CONTROLS = 3
"""Stores whose median says what was the same for all on a day."""


@dataclass(frozen=True, slots=True)
class Deviation:
    store: str
    back: int
    """Days ago; 0 is today."""
    value: float
    updated: bool
    """After the change; all others are what is normal."""


@dataclass(frozen=True, slots=True)
class _Case:
    store: str
    back: int
    before: float
    after: float
    usual_before: float | None
    usual_after: float | None

    def scale(self) -> float:
        return self.usual_after if self.usual_after is not None else self.before


def deviations(
    stores: Mapping[str, Mapping[int, Pair]], updated: frozenset[str]
) -> dict[Measure, list[Deviation]]:
    """Of all stores on all days, centred by what was the same for the other stores on that day.

    The day of an ``updated`` store that counts as after the change is day 0.
    """
    cases = {measure: list(_cases(measure, stores, updated)) for measure in _measures(stores)}
    slopes = {kind: _slope(kind, cases, updated) for kind in (CLASS, CONFIDENCE, EVENTS, UNKNOWN)}
    found = {}
    for measure, list_ in cases.items():
        slope = slopes[measure[0]]
        raw = [
            Deviation(case.store, case.back, _deviation(measure, case, slope), _is_after(case, updated))
            for case in list_
        ]
        if any(deviation.updated for deviation in raw):
            found[measure] = centred(raw, updated)
    return found


def centred(raw: Sequence[Deviation], updated: frozenset[str]) -> list[Deviation]:
    """Less the median of the control stores on the same day, on days with at least ``LEAST_CONTROLS``."""
    by_day: dict[int, list[float]] = {}
    for deviation in raw:
        if deviation.store not in updated:
            by_day.setdefault(deviation.back, []).append(deviation.value)
    common = {back: median(values) for back, values in by_day.items() if len(values) >= LEAST_CONTROLS}
    return [Deviation(d.store, d.back, d.value - common.get(d.back, 0.0), d.updated) for d in raw]


def _is_after(case: _Case, updated: frozenset[str]) -> bool:
    return case.back == 0 and case.store in updated


def _measures(stores: Mapping[str, Mapping[int, Pair]]) -> list[Measure]:
    classes: set[str] = set()
    kinds: set[str] = set()
    for days in stores.values():
        for pair in days.values():
            classes |= pair.before.detections.keys() | pair.after.detections.keys()
            kinds |= pair.before.events.keys() | pair.after.events.keys()
    return [
        *((CLASS, name) for name in sorted(classes)),
        (CONFIDENCE, ""),
        *((EVENTS, kind) for kind in sorted(kinds)),
        (UNKNOWN, ""),
    ]


def value_of(measure: Measure, side: Side) -> float | None:
    """Detections per frame, mean confidence, events per hour of a watched zone, or the unknown share."""
    kind, name = measure
    if kind == CLASS:
        if side.truncated and name not in side.detections:
            return None
        return side.detections.get(name, 0) / side.frames
    if kind == CONFIDENCE:
        total = sum(side.histogram)
        if total < LEAST_DETECTIONS:
            return None
        return sum((i + 0.5) * count for i, count in enumerate(side.histogram)) / CONFIDENCE_BINS / total
    if side.observed_s <= 0:
        return None
    if kind == UNKNOWN:
        return side.unknown_s / side.observed_s
    watched_s = side.observed_s - side.unknown_s
    return side.events.get(name, 0) / (watched_s / 3600) if watched_s > 0 else None


def _cases(
    measure: Measure, stores: Mapping[str, Mapping[int, Pair]], updated: frozenset[str]
) -> Iterator[_Case]:
    values: dict[str, dict[int, tuple[float, float]]] = {}
    for store, days in stores.items():
        for back, pair in days.items():
            before, after = value_of(measure, pair.before), value_of(measure, pair.after)
            if before is not None and after is not None:
                values.setdefault(store, {})[back] = before, after
    with_history = any(
        len(days.keys() - {0}) >= LEAST_DAYS for store, days in values.items() if store in updated
    )
    for store, known in values.items():
        past = [sides for back, sides in known.items() if back]
        sum_before, sum_after = (fsum(side) for side in zip(*past, strict=True)) if past else (0.0, 0.0)
        for back, (before, after) in known.items():
            case = _Case(store, back, before, after, None, None)
            if with_history:
                own = (before, after) if back else (0.0, 0.0)  # a day is not compared with itself
                others = len(past) - (back > 0)
                if others < LEAST_DAYS:
                    continue
                usual = (sum_before - own[0]) / others, (sum_after - own[1]) / others
                case = _Case(store, back, before, after, *usual)
            if _counts(measure, case, stores[store][back]):
                yield case


def _counts(measure: Measure, case: _Case, pair: Pair) -> bool:
    """Whether there is anything to be judged."""
    kind = measure[0]
    if kind == CLASS:
        return case.scale() >= LEAST_RATE and case.before >= LEAST_PRESENT * case.scale()
    if kind == EVENTS:
        return case.scale() * (pair.after.observed_s - pair.after.unknown_s) / 3600 >= LEAST_EVENTS
    return True


def _slope(kind: str, cases: Mapping[Measure, Sequence[_Case]], updated: frozenset[str]) -> float:
    points = [
        ((case.before - case.usual_before) / case.scale(), (case.after - case.usual_after) / case.scale())
        for measure, list_ in cases.items()
        for case in list_
        if measure[0] == kind
        and not _is_after(case, updated)
        and case.usual_before is not None
        and case.usual_after is not None
        and case.scale() > 0
    ]
    return min(1.0, max(0.0, slope_through_zero(points)))


def _deviation(measure: Measure, case: _Case, slope: float) -> float:
    if case.usual_before is None or case.usual_after is None:
        rest = case.after - case.before
    else:
        rest = case.after - case.usual_after - slope * (case.before - case.usual_before)
    return rest if measure[0] == UNKNOWN else rest / case.scale() if case.scale() > 0 else 0.0
