"""Stores, their configuration, and the devices and cameras in them."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from contract.store_config import MAX_CONFIG_BYTES
from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import CameraView, ConfigView, DeviceView, FleetStoreView, StoreView
from controller.domain.fleet import Camera, Device, Store, liveness
from controller.domain.page import Page
from controller.errors import NotFoundError
from controller.ports import Transactions
from controller.stores import put_config, register_store


class NewStore(BaseModel):
    name: str
    config: Annotated[str, Field(max_length=MAX_CONFIG_BYTES)] | None = None
    """The store's configuration as YAML text."""
    labels: Annotated[dict[str, str], Field(max_length=64)] = {}
    cluster: dict[str, Any] = {"kind": "local"}


class NewConfig(BaseModel):
    yaml: Annotated[str, Field(max_length=MAX_CONFIG_BYTES)]


def build_router(transactions: Transactions, guard: Guard, clock: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["fleet"])
    actor = Annotated[str, Depends(guard.admin)]

    @router.get("/fleet", dependencies=[Depends(guard.admin)])
    def fleet(paging: Paging, store: str | None = None) -> Listing[FleetStoreView]:
        """Stores with their devices and cameras, a page of stores at a time."""
        now = clock()
        with transactions.reading() as repositories:
            if store is not None:
                found = repositories.stores.get(store)
                if found is None:
                    raise NotFoundError(f"store {store} does not exist; GET /v1/stores lists those that do")
                page = Page((found,))
            else:
                page = repositories.stores.page(paging)
            devices, cameras = repositories.fleet.of_stores(s.name for s in page.items)
        items = _store_views(page.items, devices, cameras, now)
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    @router.get("/stores", dependencies=[Depends(guard.admin)])
    def stores(paging: Paging) -> Listing[StoreView]:
        with transactions.reading() as repositories:
            page = repositories.stores.page(paging)
        return Listing[StoreView].model_validate(page, from_attributes=True)

    @router.post("/stores", status_code=201)
    def add_store(body: NewStore, by: actor) -> StoreView:
        """Register a store; a configuration with problems is refused with all of them."""
        store = register_store(
            transactions,
            body.name,
            config_yaml=body.config,
            labels=body.labels,
            cluster=body.cluster,
            actor=by,
            now=clock(),
        )
        return StoreView.model_validate(store)

    @router.get("/stores/{store}/config", dependencies=[Depends(guard.admin)])
    def config(store: str) -> ConfigView:
        """The current configuration, as it was given."""
        with transactions.reading() as repositories:
            if repositories.stores.get(store) is None:
                raise NotFoundError(f"store {store} does not exist; GET /v1/stores lists those that do")
            version = repositories.configs.current(store)
        if version is None:
            raise NotFoundError(f"store {store} has no configuration yet; PUT /v1/stores/{store}/config")
        return ConfigView.model_validate(version)

    @router.put("/stores/{store}/config")
    def change_config(store: str, body: NewConfig, by: actor) -> ConfigView:
        """Make this the store's configuration; one with problems is refused with all of them."""
        version = put_config(transactions, store, body.yaml, actor=by, now=clock())
        return ConfigView.model_validate(version)

    return router


def _store_views(
    stores: Iterable[Store], devices: Iterable[Device], cameras: Iterable[Camera], now: datetime
) -> list[FleetStoreView]:
    of_device: dict[tuple[str, str], list[Camera]] = defaultdict(list)
    for camera in cameras:
        of_device[camera.store, camera.device].append(camera)
    of_store: dict[str, list[DeviceView]] = defaultdict(list)
    for device in devices:
        view = _device_view(device, of_device[device.store, device.device], now)
        of_store[device.store].append(view)
    return [
        FleetStoreView(
            store=store.name,
            timezone=store.timezone,
            labels=dict(store.labels),
            devices=of_store[store.name],
        )
        for store in stores
    ]


def _device_view(device: Device, cameras: Iterable[Camera], now: datetime) -> DeviceView:
    alive = liveness(device, now)
    return DeviceView(
        device=device.device,
        online=alive.online,
        offline_reason=alive.reason,
        last_seen=device.last_seen,
        agent_version=device.agent_version,
        model_version=device.model_version,
        model_digest=device.model_digest,
        rollout_id=device.rollout_id,
        config_digest=device.config_digest,
        config_error=device.config_error,
        outbox_pending=device.outbox_pending,
        outbox_full=device.outbox_full,
        telemetry=dict(device.telemetry) if device.telemetry is not None else None,
        cached_models=list(device.cached_models) if device.cached_models is not None else None,
        delivery=dict(device.delivery) if device.delivery is not None else None,
        cameras=[CameraView.model_validate(camera) for camera in cameras],
    )
