"""Devices, cameras and handovers."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, delete, select

from controller.adapters.database.rows import Order, as_dict, chunks, insert_for, key_in, page, upsert
from controller.adapters.database.tables import camera_handovers, cameras, devices
from controller.domain.fleet import Camera, Device, Handover
from controller.domain.keys import CameraKey, DeviceKey
from controller.domain.page import Page, PageRequest


class Fleet:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def devices(self, keys: Iterable[DeviceKey]) -> dict[DeviceKey, Device]:
        found: dict[DeviceKey, Device] = {}
        for chunk in chunks(set(keys)):
            query = select(devices).where(key_in([devices.c.store, devices.c.device], chunk))
            for row in self._connection.execute(query):
                found[row.store, row.device] = _device(row)
        return found

    def cameras(self, keys: Iterable[CameraKey]) -> dict[CameraKey, Camera]:
        found: dict[CameraKey, Camera] = {}
        for chunk in chunks(set(keys)):
            columns = [cameras.c.store, cameras.c.device, cameras.c.camera]
            for row in self._connection.execute(select(cameras).where(key_in(columns, chunk))):
                found[row.store, row.device, row.camera] = Camera(**row._mapping)
        return found

    def save(self, devices_: Iterable[Device], cameras_: Iterable[Camera]) -> None:
        upsert(self._connection, devices, [as_dict(device) for device in devices_])
        upsert(self._connection, cameras, [as_dict(camera) for camera in cameras_])

    def keep_cameras(self, key: DeviceKey, names: Iterable[str]) -> None:
        store, device = key
        self._connection.execute(
            delete(cameras).where(
                cameras.c.store == store, cameras.c.device == device, cameras.c.camera.not_in(list(names))
            )
        )

    def forget_cameras(self, keys: Iterable[CameraKey]) -> None:
        columns = [cameras.c.store, cameras.c.device, cameras.c.camera]
        for chunk in chunks(set(keys)):
            self._connection.execute(delete(cameras).where(key_in(columns, chunk)))

    def of_stores(self, stores: Iterable[str]) -> tuple[list[Device], list[Camera]]:
        found: tuple[list[Device], list[Camera]] = ([], [])
        for chunk in chunks(set(stores)):
            device_query: Select[Any] = select(devices).where(devices.c.store.in_(chunk))
            camera_query: Select[Any] = select(cameras).where(cameras.c.store.in_(chunk))
            found[0].extend(_device(row) for row in self._connection.execute(device_query))
            found[1].extend(Camera(**row._mapping) for row in self._connection.execute(camera_query))
        found[0].sort(key=lambda device: (device.store, device.device))
        found[1].sort(key=lambda camera: (camera.store, camera.device, camera.camera))
        return found

    def devices_of(self, stores: Iterable[str]) -> list[Device]:
        columns = [column for column in devices.c if column.name not in ("telemetry", "delivery")]
        found: list[Device] = []
        for chunk in chunks(sorted(set(stores))):
            query = select(*columns).where(devices.c.store.in_(chunk)).order_by(*columns[:2])
            found.extend(_device(row) for row in self._connection.execute(query))
        return found

    def page_devices(self, request: PageRequest) -> Page[Device]:
        order: Order = [(devices.c.store, str), (devices.c.device, str)]
        return page(self._connection, select(devices), request, order, _device)


class Handovers:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def save(self, handovers: Iterable[Handover]) -> None:
        rows = [as_dict(handover) for handover in handovers]
        if rows:
            statement = insert_for(self._connection, camera_handovers).on_conflict_do_nothing()
            self._connection.execute(statement, rows)

    def page(self, rollout_id: UUID | None, request: PageRequest) -> Page[Handover]:
        query = select(camera_handovers)
        if rollout_id is not None:
            query = query.where(camera_handovers.c.rollout_id == rollout_id)
        columns = camera_handovers.c
        order: Order = [
            (columns.store, str),
            (columns.device, str),
            (columns.camera, str),
            (columns.session_id, UUID),
        ]
        return page(self._connection, query, request, order, lambda row: Handover(**row._mapping))


def _device(row: Any) -> Device:
    values = dict(row._mapping)
    if values["cached_models"] is not None:
        values["cached_models"] = tuple(values["cached_models"])
    return Device(**values)
