"""What an operator may do with a rollout, and what it makes of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from controller.domain.rollout.apply import retried, rollout_after
from controller.domain.rollout.state import (
    Approval,
    ChangeStatus,
    Rollout,
    Status,
    StoreRecord,
    WaveState,
)


class Verb(StrEnum):
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    REJECT = "reject"
    ABORT = "abort"
    ROLLBACK = "rollback"
    RETRY_FAILED = "retry-failed"
    SKIP_STORE = "skip-store"


_UNDER_WAY = frozenset({Status.RUNNING, Status.PAUSED})

ALLOWED: Mapping[Verb, frozenset[Status]] = {
    Verb.START: frozenset({Status.DRAFT}),
    Verb.PAUSE: frozenset({Status.RUNNING}),
    Verb.RESUME: frozenset({Status.PAUSED}),
    Verb.APPROVE: _UNDER_WAY,
    Verb.REJECT: _UNDER_WAY,
    Verb.ABORT: _UNDER_WAY | {Status.DRAFT},
    Verb.ROLLBACK: _UNDER_WAY | {Status.ABORTED, Status.SUCCEEDED},
    Verb.RETRY_FAILED: _UNDER_WAY,
    Verb.SKIP_STORE: _UNDER_WAY,
}
"""In which states each verb means something."""


def refusal(rollout: Rollout, verb: Verb) -> str | None:
    """None, or why not and what is possible instead."""
    if rollout.status in ALLOWED[verb]:
        return None
    since = f" ({rollout.reason})" if rollout.reason else ""
    possible = [other.value for other in Verb if rollout.status in ALLOWED[other]]
    words = f"possible now: {', '.join(possible)}" if possible else "nothing can be done with it any more"
    return f"rollout {rollout.name} is {rollout.status}{since}, so {verb.value} is not possible; {words}"


def with_status(rollout: Rollout, status: Status, reason: str, now: datetime) -> Rollout:
    """The wave that failed is forgotten when the rollout runs again."""
    after = rollout_after(rollout, ChangeStatus(status, reason), now)
    return replace(after, failed_wave=None) if status is Status.RUNNING else after


def started(rollout: Rollout, waves: Sequence[Sequence[str]], by: str, now: datetime) -> Rollout:
    """``waves``: the stores of each, which stay as they are from now on."""
    frozen = tuple(WaveState(tuple(stores)) for stores in waves)
    begun = replace(rollout, waves=frozen, started_at=now)
    return with_status(begun, Status.RUNNING, f"started by {by}", now)


def fresh_records(waves: Sequence[Sequence[str]]) -> list[StoreRecord]:
    return [StoreRecord(store, number) for number, stores in enumerate(waves) for store in stores]


def wave_to_approve(rollout: Rollout) -> int | None:
    """The first wave that waits for somebody's word, or will."""
    for number, (wave, state) in enumerate(zip(rollout.spec.waves, rollout.waves, strict=True)):
        approved = state.approval is not None and state.approval.approved
        if wave.approval and state.opened_at is None and not approved:
            return number
    return None


def decided(rollout: Rollout, number: int, approval: Approval) -> Rollout:
    waves = list(rollout.waves)
    waves[number] = replace(waves[number], approval=approval)
    return replace(rollout, waves=tuple(waves))


def to_retry(records: Iterable[StoreRecord]) -> list[StoreRecord]:
    """Records of the stores that failed, as they are when they may be tried again."""
    return [
        retried(record)
        for record in records
        if record.failed_at is not None and not record.skipped and record.restoring is None
    ]
