"""Releases, and where they are deployed."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import View
from controller.errors import NotFoundError
from controller.ports import Transactions
from controller.releases import MAX_SETTINGS, create_release, deploy


class NewRelease(BaseModel):
    name: str
    model: Annotated[str, Field(max_length=300)]
    """Digest, or ``name:version``."""
    image: str
    notes: Annotated[str, Field(max_length=10_000)] = ""
    settings: Annotated[dict[str, str], Field(max_length=MAX_SETTINGS)] = {}
    """Environment of the agent beyond what the centre sets."""


class NewDeployment(BaseModel):
    release: str
    stores: Annotated[list[str], Field(min_length=1, max_length=10_000)]


class ReleaseView(View):
    name: str
    model_digest: str
    agent_image: str
    notes: str
    settings: dict[str, str]
    created_at: datetime
    created_by: str


class DeploymentView(View):
    rollout_id: UUID
    store: str
    release: str
    desired: str = "present"
    """``absent``: the release was taken away, and the store shall run nothing."""
    generation: int
    observed_generation: int
    """Equal to ``generation`` once the store's cluster was seen with this deployment."""
    state: str
    message: str
    requested_by: str
    created_at: datetime
    applied_at: datetime | None
    ready_at: datetime | None
    superseded_by: UUID | None
    config_digest: str | None
    rollout: str | None = None
    """The fleet rollout that made it; null: made by hand."""
    detail: dict[str, Any]
    """Nodes, problems and drift as last observed, and the last known good release."""


def build_router(
    transactions: Transactions,
    guard: Guard,
    clock: Callable[[], datetime],
    new_id: Callable[[], UUID],
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["releases"])
    actor = Annotated[str, Depends(guard.admin)]

    @router.post("/releases", status_code=201)
    def add_release(body: NewRelease, by: actor) -> ReleaseView:
        """Bind a model to an agent image. A release never changes afterwards."""
        release = create_release(
            transactions,
            body.name,
            model=body.model,
            image=body.image,
            notes=body.notes,
            settings=body.settings,
            actor=by,
            now=clock(),
        )
        return ReleaseView.model_validate(release)

    @router.get("/releases", dependencies=[Depends(guard.admin)])
    def releases(paging: Paging) -> Listing[ReleaseView]:
        with transactions.reading() as repositories:
            page = repositories.releases.page(paging)
        return Listing[ReleaseView].model_validate(page, from_attributes=True)

    @router.get("/releases/{name}", dependencies=[Depends(guard.admin)])
    def release(name: str) -> ReleaseView:
        with transactions.reading() as repositories:
            found = repositories.releases.get(name)
        if found is None:
            raise NotFoundError(f"release {name[:80]!r} does not exist; GET /v1/releases lists those that do")
        return ReleaseView.model_validate(found)

    @router.post("/deployments", status_code=202)
    def add_deployments(body: NewDeployment, by: actor) -> Listing[DeploymentView]:
        """Send a release to stores. If one of them cannot run it, none is changed."""
        made = deploy(transactions, body.release, body.stores, actor=by, now=clock(), new_id=new_id)
        return Listing(items=[DeploymentView.model_validate(d) for d in made])

    @router.get("/deployments", dependencies=[Depends(guard.admin)])
    def deployments(paging: Paging, store: str | None = None) -> Listing[DeploymentView]:
        """Newest first, superseded ones included."""
        with transactions.reading() as repositories:
            page = repositories.deployments.page(store, paging)
        return Listing[DeploymentView].model_validate(page, from_attributes=True)

    @router.get("/deployments/current", dependencies=[Depends(guard.admin)])
    def current(
        store: Annotated[list[str] | None, Query(max_length=1000)] = None,
    ) -> Listing[DeploymentView]:
        """What each store shall run now: all stores, or those named."""
        with transactions.reading() as repositories:
            found = repositories.deployments.current(store)
        return Listing(items=[DeploymentView.model_validate(d) for d in found])

    return router
