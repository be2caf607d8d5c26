"""What is kept of a rollout between two looks at it, and what is known of its stores at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from controller.domain.rollout.spec import RolloutSpec


class Status(StrEnum):
    DRAFT = "draft"
    """Checked and kept; nothing happens until it is started."""
    RUNNING = "running"
    PAUSED = "paused"
    """No further store is changed; those in the middle of the change go on."""
    ROLLING_BACK = "rolling_back"
    ABORTED = "aborted"
    """Stores that had become ready keep the release; those in the middle were put back."""
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    """A newer rollout took over every store that was still to come."""
    SUCCEEDED = "succeeded"


ENDED = frozenset({Status.ABORTED, Status.ROLLED_BACK, Status.SUPERSEDED, Status.SUCCEEDED})


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What one gate says of one wave."""

    gate: int
    """Index in the spec's ``gates``."""
    kind: str
    verdict: Verdict
    reason: str
    """A sentence for an operator, with the figures that decided."""
    observed_at: datetime
    """Of the newest evidence that it rests on."""
    figures: Mapping[str, object] = field(default_factory=dict)
    """For charts; plain JSON."""


@dataclass(frozen=True, slots=True)
class Approval:
    approved: bool
    by: str
    at: datetime
    comment: str = ""


@dataclass(frozen=True, slots=True)
class WaveState:
    stores: tuple[str, ...]
    """Fixed when the rollout is started; by name."""
    approval: Approval | None = None
    opened_at: datetime | None = None
    """Its stores may be changed since then."""
    passed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    spec: RolloutSpec
    status: Status
    created_at: datetime
    created_by: str
    reason: str = ""
    """Why it has this status."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status_since: datetime | None = None
    waves: tuple[WaveState, ...] = ()
    """Empty until it is started."""
    failed_wave: int | None = None
    """The wave whose gate or budget stopped it."""
    revision: int = 0
    """Rises with every change; whoever saves names the one that it read."""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """What one rollout did with one store. Kept, so that a restarted controller knows."""

    store: str
    wave: int
    deployment: UUID | None = None
    """The deployment (its ``rollout_id``) that brought the release; None: not touched yet."""
    back_to: str | None = None
    """Its last known good release, recorded before the deployment is made. None: none ever was ready."""
    exposed_at: datetime | None = None
    ready_at: datetime | None = None
    failed_at: datetime | None = None
    failure: str = ""
    restoring: UUID | None = None
    """The deployment that puts it back."""
    restored_at: datetime | None = None
    skipped: str = ""
    """Who left it out, and why."""
    attempts: int = 0
    """Rises with ``retry-failed``."""
    lost_at: datetime | None = None
    """Before it was ready: since when it is out of reach. Afterwards: since when it is not ready any more."""
    away: timedelta = timedelta(0)
    """How long it was out of reach, in all, since the release was applied; its deadline moves by that."""


@dataclass(frozen=True, slots=True)
class StoreNow:
    """The present of one store, whatever rollout it concerns."""

    store: str
    reachable: bool
    """Somebody of it was heard of lately, or its cluster answered."""
    reachable_reason: str = ""
    timezone: str = "UTC"
    labels: Mapping[str, str] = field(default_factory=dict)
    deployment: UUID | None = None
    """The current one, by any rollout or hand."""
    release: str | None = None
    state: str = ""
    """``controller.domain.deployment.State`` of it."""
    message: str = ""
    created_at: datetime | None = None
    applied_at: datetime | None = None
    ready_at: datetime | None = None
    last_known_good: str | None = None
    staged: bool | None = None
    """Whether the rollout's model lies on its nodes; None: not known."""
    deferred_until: datetime | None = None
    deferred_by: str = ""
    claimed_by: str = ""
    """A rollout of higher rank that wants this store; empty: none."""


class Phase(StrEnum):
    """Where one store is in a rollout."""

    PENDING = "pending"
    """Its wave has not begun."""
    WAITING = "waiting"
    """Its turn, but something holds it back; the reason says what."""
    OFFLINE = "offline"
    """Its turn, but it is out of reach: neither failed nor forgotten."""
    UPDATING = "updating"
    READY = "ready"
    FAILED = "failed"
    SKIPPED = "skipped"
    RESTORING = "restoring"
    RESTORED = "restored"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class StoreView:
    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Deploy:
    """Give the store the rollout's release. ``back_to`` is recorded first."""

    store: str
    back_to: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Give the store ``release``, its last known good one, back. None: take the workload away."""

    store: str
    release: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Observe:
    """Write down what became of the store: ready, failed (``failure`` says why) or restored, or that it was
    lost or found again. ``apply.record_after`` is what it means for the record."""

    store: str
    ready_at: datetime | None = None
    failed_at: datetime | None = None
    failure: str = ""
    restored_at: datetime | None = None
    lost_at: datetime | None = None
    away: timedelta | None = None
    """It was found again; the new sum of its absences. The record's ``lost_at`` is cleared."""


@dataclass(frozen=True, slots=True)
class OpenWave:
    wave: int
    reason: str


@dataclass(frozen=True, slots=True)
class PassWave:
    wave: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    status: Status
    reason: str
    failed_wave: int | None = None


Step = Deploy | Restore | Observe | OpenWave | PassWave | ChangeStatus


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    """In this order, in one transaction."""
    stores: Mapping[str, StoreView]
    """Every target; also those for which nothing is done, with the reason."""
    reason: str
    """One sentence on what the rollout as a whole waits for."""
    check_at: datetime | None = None
    """When time alone may change the plan: a window opens, a soak or a deferral ends, a deadline passes."""
