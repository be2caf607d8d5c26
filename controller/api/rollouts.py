"""Rollouts: bringing a release to many stores, and asking why it does what it does."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, Field, model_validator

from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.rollout_views import (
    ChangeView,
    DeferralView,
    ExplanationView,
    PreviewView,
    QuarantinedView,
    RolloutView,
    StoreProgressView,
    SummaryView,
    VerdictView,
)
from controller.api.views import AuditView
from controller.domain.page import Page
from controller.domain.rollout.records import Judged
from controller.domain.rollout.state import Phase, Status
from controller.ports import Transactions
from controller.quarantine import quarantine, unquarantine
from controller.rollout_file import MAX_ROLLOUT_BYTES
from controller.rollout_views import RolloutViews
from controller.rollouts import RolloutService

Comment = Annotated[str, Field(max_length=2000)]


class RolloutFile(BaseModel):
    """Either of the two."""

    yaml: Annotated[str | None, Field(max_length=MAX_ROLLOUT_BYTES)] = None
    """The file as it is; problems are told with line and column."""
    spec: dict[str, Any] | None = None
    """The same as JSON."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.yaml is None) == (self.spec is None):
            raise ValueError("give either yaml or spec")
        return self

    def content(self) -> str | Mapping[str, Any]:
        return self.yaml if self.yaml is not None else self.spec or {}


class Word(BaseModel):
    comment: Comment = ""


class Decision(Word):
    wave: str | None = None
    """Default: the next wave that waits for somebody's word."""


class Skip(Word):
    store: str


class Wish(Word):
    until: AwareDatetime


class Suspicion(BaseModel):
    """Either a rollout or a release."""

    rollout: str | None = None
    release: str | None = None
    reason: Comment = ""


class Retried(BaseModel):
    rollout: RolloutView
    stores: list[str]
    """That get the release once more."""


def build_router(
    transactions: Transactions, guard: Guard, clock: Callable[[], datetime], new_id: Callable[[], UUID]
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["rollouts"], dependencies=[Depends(guard.admin)])
    actor = Annotated[str, Depends(guard.admin)]
    approver = Annotated[str, Depends(guard.approver)]
    service = RolloutService(transactions, clock, new_id)
    views = RolloutViews(transactions)

    def shown(name: str) -> RolloutView:
        return RolloutView.of(views.progress(name, clock()))

    @router.post("/rollouts", status_code=201)
    def create(body: RolloutFile, by: actor) -> RolloutView:
        """Check and keep a rollout as a draft. A draft of the same name is replaced."""
        return shown(service.create(body.content(), actor=by).name)

    @router.post("/rollouts/plan")
    def plan_file(body: RolloutFile) -> PreviewView:
        """What this rollout would do if it were started now. Keeps nothing."""
        return PreviewView.of(views.preview(body.content(), None, clock()))

    @router.get("/rollouts")
    def rollouts(paging: Paging, status: Status | None = None) -> Listing[SummaryView]:
        """Newest first."""
        with transactions.reading() as repositories:
            page = repositories.rollouts.page(status, paging)
        return Listing[SummaryView].model_validate(page, from_attributes=True)

    @router.get("/rollouts/{name}")
    def show(name: str) -> RolloutView:
        """How it stands, what it waits for and why."""
        return shown(name)

    @router.get("/rollouts/{name}/plan")
    def plan_kept(name: str) -> PreviewView:
        """What it would do if it were started now."""
        return PreviewView.of(views.preview(None, name, clock()))

    @router.get("/rollouts/{name}/stores")
    def stores(
        name: str, paging: Paging, wave: str | None = None, phase: Phase | None = None
    ) -> Listing[StoreProgressView]:
        """Where each store is, and why."""
        page = views.stores(name, clock(), paging, wave=wave, phase=phase)
        items = [StoreProgressView.of(one) for one in page.items]
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    @router.get("/rollouts/{name}/stores/{store}")
    def explain(name: str, store: str) -> ExplanationView:
        """Why this store is where it is."""
        return ExplanationView.of(views.explain(name, store, clock()))

    @router.get("/rollouts/{name}/diff")
    def diff(name: str) -> Listing[ChangeView]:
        """What its stores run, grouped by release, and what becomes different for them."""
        return Listing(items=[ChangeView.model_validate(change) for change in views.diff(name)])

    @router.get("/rollouts/{name}/history")
    def history(name: str, paging: Paging) -> Listing[AuditView]:
        """Everything that people and the rollout itself did, newest first."""
        page = views.history(name, paging)
        return Listing[AuditView].model_validate(page, from_attributes=True)

    @router.get("/rollouts/{name}/verdicts")
    def verdicts(name: str, paging: Paging) -> Listing[VerdictView]:
        """What its gates said, one a minute, newest first."""
        return _verdicts(views.verdicts(name, paging))

    @router.post("/rollouts/{name}/{verb}")
    def turn(
        name: str, verb: Literal["start", "pause", "resume", "abort", "rollback"], body: Word, by: actor
    ) -> RolloutView:
        """``409`` says what is possible instead."""
        if verb == "start":
            service.start(name, actor=by)
        else:
            getattr(service, verb)(name, actor=by, comment=body.comment)
        return shown(name)

    @router.post("/rollouts/{name}/approval/approve")
    def approve(name: str, body: Decision, by: approver) -> RolloutView:
        """Let a wave begin that needs somebody's word."""
        service.approve(name, wave=body.wave, actor=by, comment=body.comment)
        return shown(name)

    @router.post("/rollouts/{name}/approval/reject")
    def reject(name: str, body: Decision, by: approver) -> RolloutView:
        """The rollout pauses before this wave."""
        service.reject(name, wave=body.wave, actor=by, comment=body.comment)
        return shown(name)

    @router.post("/rollouts/{name}/stores/retry-failed")
    def retry_failed(name: str, by: actor) -> Retried:
        """Stores that failed get the release once more."""
        _, again = service.retry_failed(name, actor=by)
        return Retried(rollout=shown(name), stores=again)

    @router.post("/rollouts/{name}/stores/skip")
    def skip_store(name: str, body: Skip, by: actor) -> RolloutView:
        """Leave a store out, as it is."""
        service.skip_store(name, body.store, actor=by, comment=body.comment)
        return shown(name)

    @router.get("/deferrals")
    def deferrals(paging: Paging) -> Listing[DeferralView]:
        """Stores that are not to be changed for a while, also those whose time has run out."""
        with transactions.reading() as repositories:
            page = repositories.deferrals.page(paging)
        return Listing[DeferralView].model_validate(page, from_attributes=True)

    @router.put("/deferrals/{store}")
    def defer(store: str, body: Wish, by: actor) -> DeferralView:
        """No rollout changes this store before ``until``, but for an emergency."""
        return DeferralView.model_validate(service.defer(store, body.until, actor=by, comment=body.comment))

    @router.delete("/deferrals/{store}", status_code=200)
    def undefer(store: str, by: actor) -> dict[str, str]:
        service.undefer(store, actor=by)
        return {"store": store}

    @router.post("/quarantine")
    def put_in_quarantine(body: Suspicion, by: actor) -> QuarantinedView:
        """Mark every event of these deployments as not to be trusted, those still to come included."""
        done = quarantine(
            transactions,
            rollout=body.rollout,
            release=body.release,
            reason=body.reason,
            actor=by,
            now=clock(),
        )
        return QuarantinedView.model_validate(done)

    @router.post("/quarantine/end")
    def end_quarantine(body: Suspicion, by: actor) -> QuarantinedView:
        done = unquarantine(transactions, rollout=body.rollout, release=body.release, actor=by, now=clock())
        return QuarantinedView.model_validate(done)

    return router


def _verdicts(page: Page[Judged]) -> Listing[VerdictView]:
    items = [VerdictView.of(one) for one in page.items]
    return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)
