"""What a step of a plan means for what is kept: the executor, the simulation and the tests share this.

A step is carried out by writing these values in one transaction together with the deployment that a
``Deploy`` or ``Restore`` makes; a controller that dies before has done nothing.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from controller.domain.rollout.state import (
    ENDED,
    ChangeStatus,
    Deploy,
    Observe,
    OpenWave,
    PassWave,
    Restore,
    Rollout,
    StoreRecord,
)


def record_after(
    record: StoreRecord, step: Deploy | Restore | Observe, now: datetime, deployment: UUID | None = None
) -> StoreRecord:
    """``deployment`` is the id of the one that a ``Deploy`` or ``Restore`` makes."""
    if isinstance(step, Deploy):
        return replace(
            record,
            deployment=deployment,
            back_to=step.back_to,
            exposed_at=now,
            lost_at=None,
            away=timedelta(0),
        )
    if isinstance(step, Restore):
        return replace(record, restoring=deployment, back_to=step.release, lost_at=None)
    if step.restored_at is not None:
        return replace(record, restored_at=step.restored_at)
    if step.failed_at is not None:
        return replace(record, failed_at=step.failed_at, failure=step.failure, lost_at=None)
    if step.ready_at is not None:
        return replace(record, ready_at=step.ready_at, failed_at=None, failure="", lost_at=None)
    if step.away is not None:
        return replace(record, lost_at=None, away=step.away)
    return replace(record, lost_at=step.lost_at)


def rollout_after(rollout: Rollout, step: OpenWave | PassWave | ChangeStatus, now: datetime) -> Rollout:
    """``revision`` is left to whoever saves."""
    if isinstance(step, ChangeStatus):
        return replace(
            rollout,
            status=step.status,
            reason=step.reason,
            status_since=now,
            ended_at=now if step.status in ENDED else None,
            failed_wave=rollout.failed_wave if step.failed_wave is None else step.failed_wave,
        )
    waves = list(rollout.waves)
    if isinstance(step, OpenWave):
        waves[step.wave] = replace(waves[step.wave], opened_at=now)
    else:
        waves[step.wave] = replace(waves[step.wave], passed_at=now)
    return replace(rollout, waves=tuple(waves))


def retried(record: StoreRecord) -> StoreRecord:
    """After ``retry-failed``: due to be given the release anew. It still runs what failed, and knows
    (``exposed_at``, ``back_to``) that it has to go back if the rollout does."""
    return replace(
        record,
        deployment=None,
        ready_at=None,
        failed_at=None,
        failure="",
        lost_at=None,
        away=timedelta(0),
        attempts=record.attempts + 1,
    )
