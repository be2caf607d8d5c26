"""Models brought to stores ahead of a release."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import View
from controller.domain.staging import Progress
from controller.ports import Transactions
from controller.staging import progress_among, stage, staging_progress


class NewStaging(BaseModel):
    release: str
    stores: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = None
    """Absent: all stores."""


class NodeStagingView(View):
    device: str
    staged: bool
    share: float
    """Of the artifact's bytes, 0 to 1."""
    online: bool
    problem: str
    centre_bytes: int
    """All artifact bytes that the node ever fetched from the centre."""
    peer_bytes: int
    """And from other nodes of its store."""


class StagingView(BaseModel):
    store: str
    release: str
    model_digest: str
    requested_by: str
    created_at: datetime
    percent: float
    """Of the bytes that the store's nodes need; 100 when each has the whole, checked model."""
    complete: bool
    message: str
    nodes: list[NodeStagingView]

    @classmethod
    def of(cls, progress: Progress) -> "StagingView":
        staging = progress.staging
        return cls(
            store=staging.store,
            release=staging.release,
            model_digest=staging.model_digest,
            requested_by=staging.requested_by,
            created_at=staging.created_at,
            percent=progress.percent,
            complete=progress.complete,
            message=progress.message,
            nodes=[NodeStagingView.model_validate(node) for node in progress.nodes],
        )


def build_router(transactions: Transactions, guard: Guard, clock: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["releases"])
    actor = Annotated[str, Depends(guard.admin)]

    @router.post("/stagings", status_code=202)
    def add_stagings(body: NewStaging, by: actor) -> Listing[StagingView]:
        """Have stores fetch the release's model ahead of time. If one of them does not exist, none does."""
        now = clock()
        made = stage(transactions, body.release, body.stores, actor=by, now=now)
        with transactions.reading() as repositories:
            progress = progress_among(repositories, made, now)
        return Listing(items=[StagingView.of(one) for one in progress])

    @router.get("/stagings", dependencies=[Depends(guard.admin)])
    def stagings(
        paging: Paging, release: str | None = None, store: str | None = None
    ) -> Listing[StagingView]:
        """How far releases are staged, by store."""
        page = staging_progress(transactions, release, store, paging, clock())
        items = [StagingView.of(progress) for progress in page.items]
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    return router
