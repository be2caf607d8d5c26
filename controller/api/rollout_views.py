"""Rollouts as the API shows them. Fields are only ever added within ``v1``."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from controller.api.views import AuditView, View
from controller.domain.rollout.records import Judged
from controller.rollout_views import Explanation, Outlook, Progress, StoreProgress


class SummaryView(View):
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
    """Stores that got the release, whatever became of it."""
    ready: int
    failed: int
    skipped: int
    restored: int
    revision: int


class VerdictView(BaseModel):
    wave: int
    gate: int
    kind: str
    verdict: str
    reason: str
    observed_at: datetime
    """Of the newest evidence that it rests on."""
    judged_at: datetime
    figures: dict[str, Any]

    @classmethod
    def of(cls, judged: Judged) -> "VerdictView":
        one = judged.verdict
        return cls(
            wave=judged.wave,
            gate=one.gate,
            kind=one.kind,
            verdict=one.verdict.value,
            reason=one.reason,
            observed_at=one.observed_at,
            judged_at=judged.judged_at,
            figures=dict(one.figures),
        )


class WaveView(View):
    name: str
    stores: int
    phases: dict[str, int]
    opened_at: datetime | None
    passed_at: datetime | None
    needs_approval: bool
    approved: bool | None
    """null: nobody has said anything yet."""
    approval_by: str
    approval_at: datetime | None
    approval_comment: str


class RolloutView(BaseModel):
    name: str
    release: str
    status: str
    reason: str
    """Why it has this status."""
    waiting_for: str
    """What it does or waits for now."""
    check_at: datetime | None
    """When time alone may change that."""
    spec: dict[str, Any]
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None
    status_since: datetime | None
    failed_wave: str | None
    revision: int
    stores: int
    phases: dict[str, int]
    """Phase → how many stores."""
    done: float
    """Of its stores, 0 to 1."""
    eta: datetime | None
    waves: list[WaveView]
    verdicts: list[VerdictView]
    """The newest of each gate and wave."""
    possible: list[str]
    """What may be done with it now."""

    @classmethod
    def of(cls, progress: Progress) -> "RolloutView":
        rollout = progress.rollout
        failed = rollout.failed_wave
        return cls(
            name=rollout.name,
            release=rollout.spec.release,
            status=rollout.status.value,
            reason=rollout.reason,
            waiting_for=progress.waiting_for,
            check_at=progress.check_at,
            spec=rollout.spec.model_dump(mode="json"),
            created_at=rollout.created_at,
            created_by=rollout.created_by,
            started_at=rollout.started_at,
            ended_at=rollout.ended_at,
            status_since=rollout.status_since,
            failed_wave=rollout.spec.waves[failed].name if failed is not None else None,
            revision=rollout.revision,
            stores=sum(progress.phases.values()),
            phases=dict(progress.phases),
            done=progress.done,
            eta=progress.eta,
            waves=[WaveView.model_validate(wave) for wave in progress.waves],
            verdicts=[VerdictView.of(one) for one in progress.verdicts],
            possible=list(progress.possible),
        )


class StoreProgressView(BaseModel):
    store: str
    wave: str
    phase: str
    reason: str
    release: str | None
    """What it shall run now."""
    state: str
    message: str
    reachable: bool | None
    deployment: UUID | None
    """The one that brought the release."""
    back_to: str | None
    exposed_at: datetime | None
    ready_at: datetime | None
    failed_at: datetime | None
    failure: str
    restored_at: datetime | None
    skipped: str
    attempts: int
    deferred_until: datetime | None

    @classmethod
    def of(cls, one: StoreProgress) -> "StoreProgressView":
        record, now = one.record, one.now
        return cls(
            store=one.store,
            wave=one.wave,
            phase=one.view.phase.value,
            reason=one.view.reason,
            release=now.release if now else None,
            state=now.state if now else "",
            message=now.message if now else "",
            reachable=now.reachable if now else None,
            deployment=record.deployment,
            back_to=record.back_to,
            exposed_at=record.exposed_at,
            ready_at=record.ready_at,
            failed_at=record.failed_at,
            failure=record.failure,
            restored_at=record.restored_at,
            skipped=record.skipped,
            attempts=record.attempts,
            deferred_until=now.deferred_until if now else None,
        )


class ExplanationView(BaseModel):
    store: StoreProgressView
    rollout_status: str
    rollout_reason: str
    waiting_for: str
    """What the rollout as a whole waits for."""
    verdicts: list[VerdictView]
    """Of the store's wave."""
    history: list[AuditView]

    @classmethod
    def of(cls, told: Explanation) -> "ExplanationView":
        return cls(
            store=StoreProgressView.of(told.store),
            rollout_status=told.rollout.status.value,
            rollout_reason=told.rollout.reason,
            waiting_for=told.waiting_for,
            verdicts=[VerdictView.of(one) for one in told.verdicts],
            history=[AuditView.model_validate(entry) for entry in told.history],
        )


class WavePreviewView(View):
    name: str
    stores: list[str]
    to_fetch: int
    """Stores whose nodes do not have the model yet."""
    wan_bytes: int
    begins_at: datetime | None
    ends_at: datetime | None
    """Soak included; null: some store of it has no time at which it may be changed."""
    obstacles: list[str]


class PreviewView(BaseModel):
    name: str
    release: str
    stores: int
    waves: list[WavePreviewView]
    wan_bytes: int
    ends_at: datetime | None
    assumptions: list[str]
    """What the estimate takes for granted."""
    refused: dict[str, str]
    """Store → why it cannot run the release."""

    @classmethod
    def of(cls, outlook: Outlook) -> "PreviewView":
        preview = outlook.preview
        return cls(
            name=outlook.spec.name,
            release=outlook.spec.release,
            stores=sum(len(wave.stores) for wave in preview.waves),
            waves=[WavePreviewView.model_validate(wave) for wave in preview.waves],
            wan_bytes=preview.wan_bytes,
            ends_at=preview.ends_at,
            assumptions=list(preview.assumptions),
            refused=dict(outlook.refused),
        )


class ChangeView(View):
    release: str | None
    """null: these stores run nothing."""
    stores: int
    first: list[str]
    """The first twenty of them."""
    differences: dict[str, tuple[str, str]]
    """Part → before and after."""


class DeferralView(View):
    store: str
    until: datetime
    by: str
    at: datetime
    comment: str


class QuarantinedView(View):
    deployments: int
    stores: int
    events: int
    """That these deployments have brought so far."""
