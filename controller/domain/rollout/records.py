"""What the database keeps beside a rollout and its stores: verdicts, deferrals, quarantines, summaries."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from controller.domain.rollout.state import GateVerdict


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and when it was reached."""

    wave: int
    verdict: GateVerdict
    judged_at: datetime


@dataclass(frozen=True, slots=True)
class Deferral:
    """A store's own wish not to be changed for a while; an emergency rollout does not heed it."""

    store: str
    until: datetime
    by: str
    at: datetime
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The events of one deployment are not to be trusted, those that are still to come included."""

    rollout_id: UUID
    at: datetime
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RolloutSummary:
    """A line of a listing. Counts are stores."""

    name: str
    release: str
    status: str
    reason: str
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None
    waves: int
    waves_passed: int
    stores: int
    exposed: int
    """That got the release, whatever became of it."""
    ready: int
    failed: int
    skipped: int
    restored: int
    revision: int
