"""Scores reported events against the ground truth. Pure; used by the demo and by the benchmarks.

An observed event matches an expected one of the same store, zone and kind when it lies in the window
from ``MARGIN_S`` before the shelf really changed to ``tolerance_s`` after a perfect observer would
have reported it. Matching is one to one, earliest first, so a second report of the same change counts
as false. Time to detect runs from the moment the change was first in unobstructed view.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MARGIN_S = 1.0
"""Clocks and frame times of two processes differ by this much at most."""

ALERT_KINDS = ("low_stock", "out_of_stock", "restocked")
"""The kinds that people act on, and that accuracy targets speak of."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a perfect observer reports. Times in seconds since the epoch (or of the simulation)."""

    store: str
    zone: str
    kind: str
    time: float
    changed_at: float
    observable_at: float


@dataclass(frozen=True, slots=True)
class Observed:
    store: str
    zone: str
    kind: str
    time: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    expected: Expected
    observed: Observed

    @property
    def time_to_detect_s(self) -> float:
        return max(0.0, self.observed.time - self.expected.observable_at)


@dataclass(frozen=True, slots=True)
class Score:
    """``precision`` and ``recall`` are None when nothing was reported or expected."""

    matches: tuple[Match, ...] = ()
    missed: tuple[Expected, ...] = ()
    false: tuple[Observed, ...] = ()

    @property
    def precision(self) -> float | None:
        reported = len(self.matches) + len(self.false)
        return len(self.matches) / reported if reported else None

    @property
    def recall(self) -> float | None:
        expected = len(self.matches) + len(self.missed)
        return len(self.matches) / expected if expected else None

    def time_to_detect(self, quantile: float) -> float | None:
        return nearest_rank([match.time_to_detect_s for match in self.matches], quantile)

    def only(self, kinds: Iterable[str]) -> "Score":
        wanted = set(kinds)
        return Score(
            tuple(m for m in self.matches if m.expected.kind in wanted),
            tuple(e for e in self.missed if e.kind in wanted),
            tuple(o for o in self.false if o.kind in wanted),
        )

    def __add__(self, other: "Score") -> "Score":
        return Score(self.matches + other.matches, self.missed + other.missed, self.false + other.false)


def score(expected: Sequence[Expected], observed: Sequence[Observed], tolerance_s: float = 10.0) -> Score:
    """Match ``observed`` with ``expected``; see the module's first lines for the rule."""
    open_by_key: dict[tuple[str, str, str], list[Expected]] = {}
    for event in sorted(expected, key=lambda e: e.time):
        open_by_key.setdefault((event.store, event.zone, event.kind), []).append(event)
    matches, false = [], []
    for report in sorted(observed, key=lambda o: o.time):
        candidates = open_by_key.get((report.store, report.zone, report.kind), [])
        hit = next(
            (e for e in candidates if e.changed_at - MARGIN_S <= report.time <= e.time + tolerance_s), None
        )
        if hit is None:
            false.append(report)
        else:
            candidates.remove(hit)
            matches.append(Match(hit, report))
    missed = [event for events in open_by_key.values() for event in events]
    return Score(tuple(matches), tuple(sorted(missed, key=lambda e: e.time)), tuple(false))


def nearest_rank(values: Sequence[float], quantile: float) -> float | None:
    """The ``quantile`` (0 to 1) by the nearest-rank definition; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-int(quantile * 1000) * len(ordered) // 1000) - 1)]
