"""Golden sets and what nodes reported on them; shadow runs and what they counted."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from contract.base import UtcTime
from contract.golden import MAX_GOLDEN_BYTES, GoldenReport
from contract.shadow import ShadowTelemetry
from controller import shadow
from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import View
from controller.golden import GoldenSets
from controller.models.registry import LABEL_PATTERN
from controller.ports import Transactions

UPLOAD_PATH = "/v1/golden-sets"
MAX_UPLOAD_BYTES = MAX_GOLDEN_BYTES

Label = Annotated[str, Query(pattern=LABEL_PATTERN)]
Stores = Annotated[list[str], Query(min_length=1, max_length=1000)]
Digest = Annotated[str | None, Query(max_length=80)]


class GoldenSetView(View):
    digest: str
    name: str
    version: str
    size_bytes: int
    frames: int
    counts: Mapping[str, int]
    """Class → objects in all frames together."""
    created_at: datetime
    created_by: str


class GoldenResultView(View):
    store: str
    device: str
    received_at: datetime
    said: GoldenReport


class NewShadow(BaseModel):
    release: str
    stores: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    cpu_percent: Annotated[float, Field(gt=0, le=100)] = 20.0
    """Of one core of each node, at most."""
    until: UtcTime


class ShadowRunView(View):
    store: str
    model_digest: str
    cpu_percent: float
    until: datetime
    rollout_id: UUID | None
    requested_by: str
    created_at: datetime


class ShadowResultView(View):
    store: str
    device: str
    received_at: datetime
    said: ShadowTelemetry


def build_router(
    sets: GoldenSets, transactions: Transactions, guard: Guard, clock: Callable[[], datetime]
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["judgements"])
    actor = Annotated[str, Depends(guard.admin)]

    @router.post("/golden-sets", status_code=201, summary="Import a golden set; the body is the archive")
    async def import_golden(request: Request, name: Label, version: Label, by: actor) -> GoldenSetView:
        with await run_in_threadpool(sets.receive) as incoming:
            async for chunk in request.stream():
                await run_in_threadpool(incoming.write, chunk)
            found = await run_in_threadpool(sets.import_set, incoming, name, version, by)
        return GoldenSetView.model_validate(found)

    @router.get("/golden-sets", dependencies=[Depends(guard.admin)])
    def golden_sets(paging: Paging) -> Listing[GoldenSetView]:
        return Listing[GoldenSetView].model_validate(sets.page(paging), from_attributes=True)

    @router.get("/golden-results", dependencies=[Depends(guard.admin)])
    def golden_results(store: Stores, model: Digest = None) -> Listing[GoldenResultView]:
        """What the nodes of these stores reported, of all models or one."""
        with transactions.reading() as repositories:
            found = repositories.golden.results(store, model)
        return Listing(items=[GoldenResultView.model_validate(one) for one in found])

    @router.post("/shadows", status_code=202)
    def add_shadows(body: NewShadow, by: actor) -> Listing[ShadowRunView]:
        """Have stores try the release's model beside their own. If one of them does not exist, none does."""
        with transactions.writing() as repositories:
            made = shadow.order(
                repositories,
                body.release,
                body.stores,
                cpu_percent=body.cpu_percent,
                until=body.until,
                actor=by,
                now=clock(),
            )
        return Listing(items=[ShadowRunView.model_validate(run) for run in made])

    @router.get("/shadows", dependencies=[Depends(guard.admin)])
    def shadows(paging: Paging) -> Listing[ShadowRunView]:
        with transactions.reading() as repositories:
            page = repositories.shadows.page(paging)
        return Listing[ShadowRunView].model_validate(page, from_attributes=True)

    @router.delete("/shadows/{store}")
    def end_shadow(store: str, by: actor) -> Listing[ShadowResultView]:
        """End the store's shadow run; what its nodes counted."""
        with transactions.writing() as repositories:
            shadow.withdraw(repositories, [store], actor=by, now=clock())
            found = repositories.shadows.results([store])
        return Listing(items=[ShadowResultView.model_validate(one) for one in found])

    @router.get("/shadow-results", dependencies=[Depends(guard.admin)])
    def shadow_results(store: Stores, model: Digest = None) -> Listing[ShadowResultView]:
        """What the nodes of these stores counted, of all models or one."""
        with transactions.reading() as repositories:
            found = repositories.shadows.results(store, model)
        return Listing(items=[ShadowResultView.model_validate(one) for one in found])

    return router
