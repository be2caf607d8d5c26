"""Whether updated stores see what they should: the test behind the quality gate (see docs/gates.md).

The store is the unit, however many frames it saw: frames of one camera are nearly copies of one another, so
any test that counts frames or detections would be certain of everything. How much the mean deviation of the
updated stores may differ by itself is learnt from *placebos*: the same hours of stores and days that no
release happened to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from controller.domain.rollout.expectation import (
    CLASS,
    CONFIDENCE,
    EVENTS,
    LEAST_CONTROLS,
    UNKNOWN,
    Deviation,
    Measure,
    deviations,
)
from controller.domain.rollout.hours import Pair
from controller.domain.rollout.statistics import Placebo, holm, robust_scale

LEAST_PLACEBOS = 30
SHRINK = 20
"""Placebo values of all measures of a sort that count beside a measure's own when its spread is estimated."""
STORE_SHRINK = 10
"""The same for one store: values of all stores that count beside its own."""
LEAST_SPREAD = {CLASS: 0.02, CONFIDENCE: 0.005, EVENTS: 0.05, UNKNOWN: 0.02}
"""Of deviations: no store is steadier than this for ever, however steady the placebos were."""
SHARE_OF_MIN_CHANGE = {CLASS: 1.0, CONFIDENCE: 0.5, EVENTS: 1.0, UNKNOWN: 1.0}
"""Confidence moves within narrow bounds: from 0.9 to 0.8 is much."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Finding:
    """One hypothesis."""

    measure: Measure
    group: str
    """``all``, or ``label=value``."""
    near: bool
    """In the hours right around the change; else in all hours since."""
    stores: int
    deviation: float
    """Mean of the updated stores; relative, but for the unknown share."""
    p: float
    adjusted_p: float
    visible: float | None
    """Of a class, in all stores: the least fall that would have been significant; more than 1: not even its
    end would have been."""
    failed: bool

    def words(self) -> str:
        kind, name = self.measure
        amount = f"{abs(self.deviation):.0%} {'fewer' if self.deviation < 0 else 'more'}"
        what = {
            CLASS: f"{amount} detections of {name} per frame",
            CONFIDENCE: f"confidence {abs(self.deviation):.0%} {'lower' if self.deviation < 0 else 'higher'}",
            EVENTS: f"{amount} {name} events",
            UNKNOWN: f"zones unknown for {self.deviation:+.0%} of the time",
        }[kind]
        where = f" where {self.group}" if self.group != ALL else ""
        where += " right after the change" if self.near else ""
        return f"{what}{where} ({_counted(self.stores)}, adjusted p {self.adjusted_p:.2g})"


@dataclass(frozen=True, slots=True)
class Comparison:
    findings: tuple[Finding, ...]
    """The most certain first."""
    not_judged: Mapping[str, str]
    """Class → why nothing can be said of it."""
    controls: int
    """Stores that were compared with; below ``LEAST_CONTROLS`` the own history is all there is."""
    days: int
    """Of history, at most, of any store."""

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.failed)


@dataclass(frozen=True, slots=True)
class Sample:
    """What stores showed in one choice of hours."""

    near: bool
    updated: Mapping[str, Mapping[int, Pair]]
    controls: Mapping[str, Mapping[int, Pair]]


@dataclass(frozen=True, slots=True)
class _Test:
    measure: Measure
    group: str
    near: bool
    values: Mapping[str, float]
    """Store → deviation."""
    normal: "_Normal"


def compare(
    samples: Sequence[Sample], groups: Mapping[str, frozenset[str]], *, alpha: float, min_change: float
) -> Comparison:
    """``groups``: strata of updated stores, to be looked at each for itself. All strata, measures and samples
    are one family of tests."""
    not_judged: dict[str, str] = {}
    tests = [test for sample in samples for test in _tests(sample, groups, not_judged)]
    p_values = [test.normal.p(test.measure[0], test.values) for test in tests]
    findings = []
    for test, p, adjusted_p in zip(tests, p_values, holm(p_values), strict=True):
        kind, mean, stores = test.measure[0], fmean(test.values.values()), len(test.values)
        enough = abs(mean) >= min_change * SHARE_OF_MIN_CHANGE[kind]
        watched = kind == CLASS and test.group == ALL
        visible = test.normal.visible(test.values, alpha / len(tests)) if watched else None
        failed = adjusted_p <= alpha and enough
        findings.append(
            Finding(test.measure, test.group, test.near, stores, mean, p, adjusted_p, visible, failed)
        )
    findings.sort(key=lambda f: (not f.failed, f.adjusted_p, -abs(f.deviation), f.measure, f.group, f.near))
    judged = {finding.measure[1] for finding in findings if finding.measure[0] == CLASS}
    for name in judged & not_judged.keys():
        del not_judged[name]
    compared = {name for sample in samples for name in sample.controls}
    alone = all(_alone(sample) for sample in samples)
    days = [len(known.keys() - {0}) for sample in samples for known in sample.updated.values()]
    return Comparison(tuple(findings), not_judged, 0 if alone else len(compared), max(days, default=0))


def _alone(sample: Sample) -> bool:
    return sum(0 in days for days in sample.controls.values()) < LEAST_CONTROLS


def _tests(sample: Sample, groups: Mapping[str, frozenset[str]], not_judged: dict[str, str]) -> list[_Test]:
    """The same stores are tested once, under the widest group. Adds to ``not_judged``."""
    names = frozenset(sample.updated)
    alone = _alone(sample)
    found = deviations(dict(sample.updated) if alone else {**sample.controls, **sample.updated}, names)
    tests: dict[tuple[Measure, frozenset[str]], _Test] = {}
    not_judged |= _absent(sample.updated, sample.controls, found)
    for kind in (CLASS, CONFIDENCE, EVENTS, UNKNOWN):
        of_kind = {measure: list_ for measure, list_ in found.items() if measure[0] == kind}
        for group, members in {ALL: names, **groups}.items():
            if group != ALL and members >= names:
                continue
            normals = _normal(kind, of_kind, members, alone)
            for measure, list_ in of_kind.items():
                values = {d.store: d.value for d in list_ if d.updated and d.store in members}
                size = normals[measure].placebo.size
                if values and size >= LEAST_PLACEBOS:
                    test = _Test(measure, group, sample.near, values, normals[measure])
                    tests.setdefault((measure, frozenset(values)), test)
                elif values and group == ALL and kind == CLASS:
                    not_judged[measure[1]] = f"only {size} earlier hours to compare with"
    return list(tests.values())


@dataclass(frozen=True, slots=True)
class _Normal:
    """What is normal for one measure."""

    placebo: Placebo
    spread: float
    of_store: Mapping[str, float]
    """The spread of single stores, where they have enough history to have one of their own."""
    of_means: bool
    """The placebo values are means of all updated stores on one day, not single stores."""
    controls: int

    def p(self, kind: str, values: Mapping[str, float]) -> float:
        """Two-sided; more unknown time is the only direction that is bad."""
        total, n = self._total(values), 1 if self.of_means else len(values)
        upper = self.placebo.tail(total, n)
        return upper if kind == UNKNOWN else min(1.0, 2 * min(upper, self.placebo.below(total, n)))

    def visible(self, stores: Iterable[str], level: float) -> float:
        """By halving, to a percent: the least fall of a class that reaches ``level``."""
        low, high = 0.0, 1.28
        while high - low > 0.02:
            middle = (low + high) / 2
            if self.p(CLASS, dict.fromkeys(stores, -middle)) <= level:
                high = middle
            else:
                low = middle
        return high

    def _total(self, values: Mapping[str, float]) -> float:
        if self.of_means:
            return fmean(values.values()) / self.spread
        # What is the same for all stores today was itself estimated from the controls.
        inflation = sqrt(1 + len(values) / self.controls) if self.controls else 1.0
        return (
            sum(value / self.of_store.get(store, self.spread) for store, value in values.items()) / inflation
        )


def _normal(
    kind: str, found: Mapping[Measure, Sequence[Deviation]], members: frozenset[str], alone: bool
) -> dict[Measure, _Normal]:
    samples = {measure: _placebos(list_, members, alone) for measure, list_ in found.items()}
    pooled = robust_scale([value for values in samples.values() for value in values])
    spreads = {}
    for measure, values in samples.items():
        own, n = robust_scale(values), len(values)
        mixed = sqrt((n * own**2 + SHRINK * pooled**2) / (n + SHRINK))
        spreads[measure] = max(LEAST_SPREAD[kind], mixed)
    of_store = {m: {} if alone else _store_spreads(kind, list_, spreads[m]) for m, list_ in found.items()}
    if alone:
        standard = [value / spreads[measure] for measure, values in samples.items() for value in values]
    else:
        standard = [
            d.value / of_store[measure].get(d.store, spreads[measure])
            for measure, list_ in found.items()
            for d in list_
            if not d.updated
        ]
    placebo = Placebo(standard, _independent(found.values(), alone))
    controls = {
        measure: 0 if alone else len({d.store for d in list_ if d.back == 0 and not d.updated})
        for measure, list_ in found.items()
    }
    return {m: _Normal(placebo, spreads[m], of_store[m], alone, controls[m]) for m in found}


def _store_spreads(kind: str, list_: Iterable[Deviation], spread: float) -> dict[str, float]:
    """A store that shows a product in four places is steadier than one that shows it in one."""
    by_store: dict[str, list[float]] = {}
    for d in list_:
        if not d.updated:
            by_store.setdefault(d.store, []).append(d.value)
    found = {}
    for store, values in by_store.items():
        own, n = robust_scale(values), len(values)
        mixed = sqrt((n * own**2 + STORE_SHRINK * spread**2) / (n + STORE_SHRINK))
        found[store] = max(LEAST_SPREAD[kind], mixed)
    return found


def _placebos(list_: Iterable[Deviation], members: frozenset[str], alone: bool) -> list[float]:
    """Single stores on single days; without control stores, means of the group's stores on single days,
    because what is the same for all on a day does not fall out then."""
    if not alone:
        return [d.value for d in list_ if not d.updated]
    by_day: dict[int, list[float]] = {}
    for d in list_:
        if not d.updated and d.store in members:
            by_day.setdefault(d.back, []).append(d.value)
    return [fmean(values) for values in by_day.values()]


def _independent(found: Iterable[Sequence[Deviation]], alone: bool) -> int:
    """Hours of one store resemble one another, and so do those of one day."""
    units: set[object] = set()
    for list_ in found:
        units |= {d.back if alone else d.store for d in list_ if not d.updated}
    return len(units)


def _absent(
    updated: Mapping[str, Mapping[int, Pair]],
    controls: Mapping[str, Mapping[int, Pair]],
    found: Mapping[Measure, object],
) -> dict[str, str]:
    """Classes that stores see, but no updated one saw (enough of) before the change."""
    classes = {
        name
        for days in (*updated.values(), *controls.values())
        for pair in days.values()
        for name in pair.before.detections
    }
    return {
        name: "not seen in the updated stores before"
        for name in sorted(classes)
        if (CLASS, name) not in found
    }


def _counted(stores: int) -> str:
    return "1 store" if stores == 1 else f"{stores} stores"
