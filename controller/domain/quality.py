"""What cameras see, rolled up into quarters of an hour: the ground on which a release's quality is judged.

Agents count from the start of their process, so a heartbeat that is lost, comes twice or is skipped costs
nothing: what counts is the difference to the ``Mark`` that was left at the last one that was taken in. Marks
move once a minute, which keeps the database's work small however often agents report.

Only frames of a camera that was ``online`` at both ends of such a minute are counted: what a dark or
blocked camera shows says nothing about a model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from contract.events import EventBase
from contract.messages import CONFIDENCE_BINS, CameraTelemetry, Telemetry
from contract.names import CameraStatus

BUCKET = timedelta(minutes=15)
"""Short enough to see a canary's first hour in parts; 96 rows a day and camera."""
MEMORY_BUCKET = timedelta(minutes=5)
"""A trend needs some points within the first half hour."""
KEPT = timedelta(days=15)
"""Two weeks of the same hours, and the day that is being judged."""
MEMORY_KEPT = timedelta(days=2)
TAKEN_IN_EVERY = timedelta(seconds=60)
LONGEST_STEP = timedelta(minutes=5)
"""Two heartbeats further apart than this (a link that was away) tell what was counted between them, but
not for how long zones were unknown."""

NOT_DEPLOYED = UUID(int=0)
"""Stands for "no deployment" in keys."""
UNCOUNTED_KINDS = frozenset({"zone_known", "zone_unknown", "status_changed", "retracted"})
"""Events that tell of the agent or the camera rather than of what a model saw on the shelf."""

BucketKey = tuple[str, str, UUID, str, datetime]
"""Store, camera, deployment, model digest, begin."""
MemoryKey = tuple[str, str, UUID, datetime]
"""Store, device, deployment, begin."""


@dataclass(frozen=True, slots=True)
class QualityBucket:
    """What one camera of a store showed to one model in a quarter of an hour."""

    store: str
    camera: str
    deployment: UUID
    model_digest: str
    start: datetime
    frames: int = 0
    detections: Mapping[str, int] = field(default_factory=dict)
    """By class. A class that is not here was not seen."""
    histogram: tuple[int, ...] = (0,) * CONFIDENCE_BINS
    """Detections by confidence, in bins of equal width over [0, 1]."""
    events: Mapping[str, int] = field(default_factory=dict)
    """By kind, when they happened."""
    observed_s: float = 0.0
    """Zone-seconds of which it is known whether the zone was unknown."""
    unknown_s: float = 0.0
    """Zone-seconds for which it was."""
    inference_ms: float = 0.0
    """Sum of the medians that ``inference_samples`` heartbeats told."""
    inference_samples: int = 0
    truncated: bool = False
    """Some heartbeat had no room for all classes."""

    @property
    def key(self) -> BucketKey:
        return self.store, self.camera, self.deployment, self.model_digest, self.start


@dataclass(frozen=True, slots=True)
class MemoryBucket:
    """Resident memory of one agent and its camera workers in five minutes."""

    store: str
    device: str
    deployment: UUID
    start: datetime
    mb: float = 0.0
    """Sum over ``samples`` heartbeats."""
    samples: int = 0

    @property
    def key(self) -> MemoryKey:
        return self.store, self.device, self.deployment, self.start


@dataclass(frozen=True, slots=True)
class CameraCount:
    """A camera's counters as the last heartbeat told them."""

    frames: int
    detections: Mapping[str, int]
    histogram: tuple[int, ...]
    online: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the telemetry of one device has been taken in."""

    store: str
    device: str
    session_id: UUID
    deployment: UUID
    at: datetime
    """Of the last heartbeat taken in; by the device's clock, but never after the centre's."""
    restarts: int = 0
    """Agent processes that began after the first one of this deployment."""
    cameras: Mapping[str, CameraCount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one heartbeat adds."""

    mark: Mark
    quality: tuple[QualityBucket, ...]
    memory: MemoryBucket


def begin_of(at: datetime, length: timedelta) -> datetime:
    """The begin of the bucket that holds ``at``; buckets of one length begin together everywhere."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (at - epoch) // length * length


def take_in(mark: Mark | None, store: str, device: str, said: Telemetry, now: datetime) -> Taken | None:
    """None: the heartbeat is old, was taken in already, or the next one will do."""
    at = min(said.at, now)
    deployment = said.rollout_id or NOT_DEPLOYED
    if mark is not None and at <= mark.at:
        return None
    same = mark is not None and mark.session_id == said.session_id
    if mark is not None and same and at - mark.at < TAKEN_IN_EVERY:
        return None
    restarts = 0
    if mark is not None and mark.deployment == deployment:
        restarts = mark.restarts + (not same)
    told = {figures.camera: figures for figures in said.cameras}
    after = Mark(
        store,
        device,
        said.session_id,
        deployment,
        at,
        restarts,
        {name: _count(figures) for name, figures in told.items() if figures.frames_inferred is not None},
    )
    seconds = (at - mark.at).total_seconds() if mark is not None and same else said.interval_s
    watched = seconds if seconds <= LONGEST_STEP.total_seconds() else 0.0
    quality = []
    for name, figures in told.items():
        bucket = QualityBucket(store, name, deployment, said.model.digest, begin_of(at, BUCKET))
        before = mark.cameras.get(name) if mark is not None and same else None
        quality.append(_add_camera(bucket, before, figures, watched))
    memory = MemoryBucket(store, device, deployment, begin_of(at, MEMORY_BUCKET), said.device.memory_mb, 1)
    return Taken(after, tuple(quality), memory)


def _count(figures: CameraTelemetry) -> CameraCount:
    return CameraCount(
        figures.frames_inferred or 0,
        figures.detections_per_class,
        figures.confidence_histogram,
        figures.status is CameraStatus.ONLINE,
    )


def _add_camera(
    bucket: QualityBucket, before: CameraCount | None, figures: CameraTelemetry, seconds: float
) -> QualityBucket:
    if figures.zones:
        unknown = figures.zones if figures.status is not CameraStatus.ONLINE else figures.zones_unknown or 0
        observed_s, unknown_s = seconds * figures.zones, seconds * unknown
        bucket = replace(bucket, observed_s=observed_s, unknown_s=unknown_s)
    if figures.inference_ms_p50 is not None:
        bucket = replace(bucket, inference_ms=figures.inference_ms_p50, inference_samples=1)
    after = _count(figures)
    if figures.frames_inferred is None or not after.online:
        return bucket
    if before is None or after.frames < before.frames:  # the counting began anew
        before = CameraCount(0, {}, (), True)
    if not before.online:
        return bucket
    told = dict(after.detections)
    detections = {name: told[name] - before.detections.get(name, 0) for name in told}
    bins = [*before.histogram, *[0] * CONFIDENCE_BINS]
    histogram = [*after.histogram, *[0] * CONFIDENCE_BINS]
    return replace(
        bucket,
        frames=after.frames - before.frames,
        detections={name: count for name, count in detections.items() if count > 0},
        histogram=tuple(max(0, histogram[i] - bins[i]) for i in range(CONFIDENCE_BINS)),
        truncated=figures.classes_left_out > 0,
    )


def of_events(events: Iterable[EventBase]) -> list[QualityBucket]:
    """What new events add."""
    return [
        QualityBucket(
            event.store,
            event.camera,
            event.rolloutid or NOT_DEPLOYED,
            event.modeldigest,
            begin_of(event.time, BUCKET),
            events={event.kind: 1},
        )
        for event in events
        if event.kind not in UNCOUNTED_KINDS
    ]


def add(a: QualityBucket, b: QualityBucket) -> QualityBucket:
    """Both together; they have one key."""
    return replace(
        a,
        frames=a.frames + b.frames,
        detections=add_counts(a.detections, b.detections),
        histogram=tuple(x + y for x, y in zip(a.histogram, b.histogram, strict=True)),
        events=add_counts(a.events, b.events),
        observed_s=a.observed_s + b.observed_s,
        unknown_s=a.unknown_s + b.unknown_s,
        inference_ms=a.inference_ms + b.inference_ms,
        inference_samples=a.inference_samples + b.inference_samples,
        truncated=a.truncated or b.truncated,
    )


def add_memory(a: MemoryBucket, b: MemoryBucket) -> MemoryBucket:
    return replace(a, mb=a.mb + b.mb, samples=a.samples + b.samples)


def add_counts(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in (*a, *(name for name in b if name not in a))}
