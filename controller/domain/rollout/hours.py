"""Which hours are compared, and what each store showed in them: today, and in those hours of earlier days.

*After* are the full quarters of an hour since the last store of the wave was ready; *before* are as many that
the stores were watched in, before the first one was touched. The same clock times on earlier days are the
store's own history; no release happened between those, so they show how much such a pair of hours differs by
itself.

There are two pairs: *near* the change, where a step shows best, as shelves had no time to change by
themselves (the idea of a regression discontinuity design); and *whole*, all hours since, where an effect
shows that builds up or that only some hours have.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from contract.messages import CONFIDENCE_BINS
from controller.domain.quality import BUCKET, QualityBucket, begin_of

DAYS = 14
"""Of history."""
LEAST_BEFORE = 4
MOST = 16
"""Quarters of an hour on each side: four hours. What was seen long before tells little of what came after."""
LOOK_BACK = timedelta(hours=24)
"""A store that was closed before the release is compared with its last open hours."""
NEAR = 2
"""Quarters of an hour on each side."""
MAX_CONTROLS = 60
"""Stores to compare with; more make a verdict slower and hardly surer."""
LATE = timedelta(minutes=2)
"""How long after its end a quarter of an hour is waited for: a mark is taken once a minute."""


@dataclass(frozen=True, slots=True)
class Hours:
    before: tuple[datetime, ...]
    after: tuple[datetime, ...]
    """Begins of quarters of an hour, today."""

    def near(self) -> "Hours":
        return Hours(self.before[-NEAR:], self.after[:NEAR])

    def spans(self) -> list[tuple[datetime, datetime]]:
        """Everything that has to be loaded to compare these hours."""
        day = timedelta(days=1)
        found = []
        for part in (self.before, self.after):
            if part:
                first, end = min(part), max(part) + BUCKET
                found += [(first - back * day, end - back * day) for back in range(DAYS + 1)]
        return sorted(found)


def choose(
    updated: Mapping[str, Sequence[QualityBucket]],
    deployments: Mapping[str, UUID],
    first_ready: datetime,
    last_ready: datetime,
    now: datetime,
) -> Hours:
    """``updated`` holds what the updated stores showed since ``LOOK_BACK`` before ``first_ready``."""
    seen_before: dict[datetime, set[str]] = {}
    after: set[datetime] = set()
    begin, cut = begin_of(last_ready, BUCKET), begin_of(first_ready, BUCKET)
    for store, buckets in updated.items():
        for bucket in buckets:
            if not bucket.frames:
                continue
            if bucket.deployment == deployments[store]:
                if bucket.start >= begin and bucket.start + BUCKET + LATE <= now:
                    after.add(bucket.start)
            elif first_ready - LOOK_BACK <= bucket.start < cut:
                seen_before.setdefault(bucket.start, set()).add(store)
    chosen_after = sorted(after)[:MOST]
    most_stores = max(map(len, seen_before.values()), default=0)
    before = sorted(at for at, stores in seen_before.items() if 2 * len(stores) >= most_stores)
    wanted = max(LEAST_BEFORE, len(chosen_after))
    return Hours(tuple(before[-wanted:]), tuple(chosen_after))


@dataclass(slots=True)
class Side:
    """What one store showed in some quarters of an hour. Counts as in ``QualityBucket``."""

    frames: int = 0
    detections: dict[str, int] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * CONFIDENCE_BINS)
    events: dict[str, int] = field(default_factory=dict)
    observed_s: float = 0.0
    unknown_s: float = 0.0
    truncated: bool = False
    models: set[str] = field(default_factory=set)

    def add(self, bucket: QualityBucket) -> None:
        self.frames += bucket.frames
        self.observed_s += bucket.observed_s
        self.unknown_s += bucket.unknown_s
        self.truncated = self.truncated or bucket.truncated
        if bucket.frames:
            self.models.add(bucket.model_digest)
        for name, count in bucket.detections.items():
            self.detections[name] = self.detections.get(name, 0) + count
        for name, count in bucket.events.items():
            self.events[name] = self.events.get(name, 0) + count
        for i, count in enumerate(bucket.histogram):
            self.histogram[i] += count


@dataclass(frozen=True, slots=True)
class Pair:
    """One store on one day."""

    before: Side
    after: Side


def pairs(
    buckets: Iterable[QualityBucket], hours: Hours, deployment: UUID | None, min_frames: int
) -> dict[int, Pair]:
    """Days back → the pair, where both sides have ``min_frames`` frames of one model (today, of an updated
    store: only ``deployment`` after, anything else before)."""
    by_start: dict[datetime, list[QualityBucket]] = {}
    for bucket in buckets:
        by_start.setdefault(bucket.start, []).append(bucket)
    found = {}
    for back in range(DAYS + 1):
        shift = timedelta(days=back)

        def is_other(bucket: QualityBucket) -> bool:
            return bucket.deployment != deployment

        def is_target(bucket: QualityBucket) -> bool:
            return bucket.deployment == deployment

        before = _side(by_start, hours.before, shift, is_other)
        wanted = is_target if back == 0 and deployment is not None else is_other
        after = _side(by_start, hours.after, shift, wanted)
        if min(before.frames, after.frames) < max(1, min_frames) or len(before.models) != 1:
            continue
        if wanted is is_other and after.models != before.models:
            continue
        found[back] = Pair(before, after)
    return found


def _side(
    by_start: Mapping[datetime, Sequence[QualityBucket]],
    starts: Iterable[datetime],
    shift: timedelta,
    wanted: Callable[[QualityBucket], bool],
) -> Side:
    side = Side()
    for start in starts:
        for bucket in by_start.get(start - shift, ()):
            if wanted(bucket):
                side.add(bucket)
    return side
