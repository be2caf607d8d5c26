"""What was taken out of a store's configuration stays out, whatever an agent of yesterday still reports."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from contract.messages import CameraStatusMessage
from contract.names import CameraStatus
from controller.adapters.database import Database, migrate, open_database
from controller.domain.event_log import EventFilter
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.ingest_batch import ingest_batch
from controller.ports import Received
from controller.stores import put_config, register_store

ALL = PageRequest(MAX_LIMIT)
CONFIG = """\
version: 1
store: berlin-01
timezone: Europe/Berlin
planogram: [{sku: cola, gtin: "04012345678901", name: Cola}]
cameras: [{id: cam-1, url: "rtsp://10.0.0.1/a", frame_size: [1280, 720]}]
zones:
  - {id: zone-1, camera: cam-1, sku: cola, capacity: 6, polygon: [[10, 10], [90, 10], [90, 90], [10, 90]]}
  - {id: zone-2, camera: cam-1, sku: cola, capacity: 6, polygon: [[110, 10], [190, 10], [190, 90], [110, 90]]}
"""
LESS = "".join(line for line in CONFIG.splitlines(keepends=True) if "zone-2" not in line)


@pytest.fixture
def database(tmp_path: Path, now: datetime) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    register_store(
        database, "berlin-01", config_yaml=CONFIG, labels={}, cluster={"kind": "local"}, actor="t", now=now
    )
    yield database
    database.close()


def zones(database: Database) -> list[str]:
    with database.reading() as repositories:
        return [zone.zone for zone in repositories.stock.page("berlin-01", ALL).items]


def cameras(database: Database) -> list[str]:
    with database.reading() as repositories:
        return [camera.camera for camera in repositories.fleet.of_stores(["berlin-01"])[1]]


def test_an_old_agent_does_not_bring_back_a_removed_zone(
    database: Database, device: Any, now: datetime
) -> None:
    events = [device.event(n, subject=f"zone-{n}") for n in (1, 2)]
    ingest_batch(database, [device.sent(event) for event in events], now)
    assert zones(database) == ["zone-1", "zone-2"]
    put_config(database, "berlin-01", LESS, actor="t", now=now)
    result = ingest_batch(database, [device.sent(device.event(3, subject="zone-2"))], now)
    assert (result.stored, zones(database)) == (1, ["zone-1"])
    with database.reading() as repositories:
        log = repositories.events.page(EventFilter(zone="zone-2"), ALL).items
        assert len(log) == len(repositories.stock.history("berlin-01", "zone-2", ALL).items) == 2
    put_config(database, "berlin-01", CONFIG, actor="t", now=now)
    ingest_batch(database, [device.sent(device.event(4, subject="zone-2"))], now)
    assert zones(database) == ["zone-1", "zone-2"]


def test_an_empty_camera_status_forgets_the_camera(database: Database, device: Any, now: datetime) -> None:
    def status(name: str) -> Received:
        said = CameraStatusMessage(camera=name, status=CameraStatus.ONLINE, since=now, at=now)
        told: Received = device.sent(said)
        return told

    def gone(name: str) -> Received:
        return Received(device.topics.camera_status(name), b"", now)

    ingest_batch(database, [status("cam-1"), status("cam-2")], now)
    assert cameras(database) == ["cam-1", "cam-2"]
    result = ingest_batch(database, [gone("cam-2"), status("cam-3"), gone("cam-3"), gone("never-seen")], now)
    assert (result.refused, cameras(database)) == (0, ["cam-1"])
    ingest_batch(database, [gone("cam-1"), status("cam-1")], now)
    assert cameras(database) == ["cam-1"], "the last word counts"


def test_an_empty_message_elsewhere_is_still_refused(database: Database, device: Any, now: datetime) -> None:
    assert ingest_batch(database, [Received(device.topics.events, b"", now)], now).refused == 1
