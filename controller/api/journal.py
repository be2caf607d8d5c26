"""What the centre wrote down about itself: audit log, refused messages, gaps, handovers."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import AuditView, DeadLetterView, GapView, HandoverView, ReplayedView
from controller.domain.journal import DeadLetter, GapRecord
from controller.ports import Transactions
from controller.replay import replay_dead_letters


class Replay(BaseModel):
    store: str | None = None
    """Only this store's letters."""


def build_router(transactions: Transactions, guard: Guard, clock: Callable[[], datetime]) -> APIRouter:
    actor = Annotated[str, Depends(guard.admin)]
    router = APIRouter(prefix="/v1", tags=["journal"], dependencies=[Depends(guard.admin)])

    @router.get("/audit")
    def audit(paging: Paging) -> Listing[AuditView]:
        """Who did what, newest first."""
        with transactions.reading() as repositories:
            page = repositories.audit.page(paging)
        return Listing[AuditView].model_validate(page, from_attributes=True)

    @router.get("/dead-letters")
    def dead_letters(paging: Paging, store: str | None = None) -> Listing[DeadLetterView]:
        """Messages that were refused, and why, newest first."""
        with transactions.reading() as repositories:
            page = repositories.dead_letters.page(store, paging)
        items = [_letter_view(letter) for letter in page.items]
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    @router.post("/dead-letters/replay")
    def replay(body: Replay, by: actor) -> ReplayedView:
        """Take in refused events that are no longer objected to, for instance because the centre's clock
        is right again. Their letters go; the others stay."""
        return ReplayedView.model_validate(
            replay_dead_letters(transactions, body.store, actor=by, now=clock())
        )

    @router.get("/gaps")
    def gaps(paging: Paging, store: str | None = None, open_only: bool = False) -> Listing[GapView]:
        """Missing events, newest first; ``open_only`` leaves out gaps that were filled or given up."""
        with transactions.reading() as repositories:
            page = repositories.streams.page_gaps(store, open_only, paging)
        items = [_gap_view(gap) for gap in page.items]
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    @router.get("/handovers")
    def handovers(paging: Paging, rollout_id: UUID | None = None) -> Listing[HandoverView]:
        """How long cameras went unwatched when an agent took over from another."""
        with transactions.reading() as repositories:
            page = repositories.handovers.page(rollout_id, paging)
        return Listing[HandoverView].model_validate(page, from_attributes=True)

    return router


def _letter_view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id,
        topic=letter.topic,
        reason=letter.reason,
        payload=letter.payload.decode(errors="replace"),
        size=letter.size,
        received_at=letter.received_at,
        times=letter.times,
        store=letter.store,
        device=letter.device,
        stream_id=letter.stream_id,
        sequence=letter.sequence,
    )


def _gap_view(gap: GapRecord) -> GapView:
    return GapView(
        id=gap.id,
        store=gap.key.store,
        device=gap.key.device,
        stream_id=gap.key.stream_id,
        first=gap.first,
        last=gap.last,
        opened_at=gap.opened_at,
        closed_at=gap.closed_at,
        lost=gap.lost,
    )
