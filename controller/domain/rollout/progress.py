"""A rollout and its records after the steps of a plan. The one place that says what a step means for them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
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
    Status,
    Step,
    StoreRecord,
    WaveState,
)


def applied(
    rollout: Rollout,
    records: Mapping[str, StoreRecord],
    steps: Iterable[Step],
    made: Mapping[str, UUID],
    refused: Mapping[str, str],
    now: datetime,
) -> tuple[Rollout, dict[str, StoreRecord]]:
    """The rollout afterwards, and those records that changed.

    ``made``: store → the deployment that its ``Deploy`` or ``Restore`` became. ``refused``: store → why it
    became none; a store that cannot run the release has then failed, unexposed.
    """
    changed: dict[str, StoreRecord] = {}
    for step in steps:
        match step:
            case Deploy() | Restore() | Observe():
                before = changed.get(step.store, records[step.store])
                changed[step.store] = _record(before, step, made, refused, now)
            case OpenWave():
                rollout = _wave(rollout, step.wave, opened_at=now)
            case PassWave():
                rollout = _wave(rollout, step.wave, passed_at=now)
            case ChangeStatus():
                rollout = with_status(rollout, step.status, step.reason, now, step.failed_wave)
    return rollout, {store: record for store, record in changed.items() if record != records[store]}


def with_status(
    rollout: Rollout, status: Status, reason: str, now: datetime, failed_wave: int | None = None
) -> Rollout:
    """The wave that failed is remembered until the rollout runs again."""
    if status is Status.RUNNING:
        failed_wave = None
    elif failed_wave is None:
        failed_wave = rollout.failed_wave
    return replace(
        rollout,
        status=status,
        reason=reason,
        status_since=now if status is not rollout.status else rollout.status_since,
        ended_at=now if status in ENDED else None,
        failed_wave=failed_wave,
    )


def _record(
    record: StoreRecord,
    step: Deploy | Restore | Observe,
    made: Mapping[str, UUID],
    refused: Mapping[str, str],
    now: datetime,
) -> StoreRecord:
    match step:
        case Deploy():
            if step.store in refused:
                return replace(record, failed_at=now, failure=refused[step.store])
            deployment = made[step.store]
            return replace(
                record,
                back_to=record.back_to if record.exposed_at else step.back_to,
                deployment=deployment,
                exposed_at=record.exposed_at or now,
            )
        case Restore():
            if step.store in refused:
                return replace(record, failure=f"cannot be put back: {refused[step.store]}")
            return replace(record, restoring=made[step.store], restored_at=None)
        case Observe():
            return replace(
                record,
                ready_at=step.ready_at or record.ready_at,
                failed_at=step.failed_at or record.failed_at,
                failure=step.failure or record.failure,
                restored_at=step.restored_at or record.restored_at,
            )


def _wave(
    rollout: Rollout, number: int, *, opened_at: datetime | None = None, passed_at: datetime | None = None
) -> Rollout:
    waves: list[WaveState] = list(rollout.waves)
    before = waves[number]
    waves[number] = replace(
        before, opened_at=before.opened_at or opened_at, passed_at=before.passed_at or passed_at
    )
    return replace(rollout, waves=tuple(waves))
