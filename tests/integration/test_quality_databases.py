"""The quality roll-up in SQLite and PostgreSQL, through ingest."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from controller.adapters.database import Database, migrate, open_database
from controller.domain.fleet import Store
from controller.ingest_batch import ingest_batch

ROLLOUT = UUID(int=7)


@pytest.fixture
def database(database_url: str, now: datetime) -> Iterator[Database]:
    database = open_database(database_url)
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    yield database
    database.close()


def messages(device: Any, start: datetime, minutes: int) -> list[Any]:
    return [
        device.sent(
            device.heartbeat(
                at=start + timedelta(minutes=i),
                rollout_id=ROLLOUT,
                cameras=[
                    {
                        "camera": "cam-1",
                        "status": "online",
                        "fps_read": 5,
                        "fps_inferred": 5,
                        "frames_inferred": 300 * i,
                        "detections_per_class": {"cola": 900 * i},
                        "confidence_histogram": [0] * 8 + [900 * i],
                        "zones": 3,
                        "zones_unknown": 0,
                    }
                ],
            ),
            at=start + timedelta(minutes=i),
        )
        for i in range(minutes)
    ]


def test_telemetry_is_rolled_up_once_however_often_it_arrives(
    database: Database, device: Any, now: datetime
) -> None:
    start = now - timedelta(hours=1)
    batch = messages(device, start, 31)
    events = [device.sent(device.event(n, "picked", rolloutid=ROLLOUT)) for n in range(1, 4)]
    for part in (batch[:10], batch[5:20], batch[20:], batch, events, events):
        ingest_batch(database, part, now)
    span = (now - timedelta(days=1), now + timedelta(days=1))
    with database.reading() as repositories:
        found = repositories.quality.of_stores(["berlin-01"], [span])
        memory = repositories.quality.memory_of_stores(["berlin-01"], start)
        nothing = repositories.quality.of_stores(["berlin-01"], [(now + timedelta(days=1), span[1])])
        (mark,) = repositories.quality.marks([("berlin-01", "node-1")]).values()
    assert sum(bucket.frames for bucket in found) == 9000
    assert sum(bucket.detections.get("cola", 0) for bucket in found) == 27_000
    assert sum(bucket.histogram[8] for bucket in found) == 27_000
    assert sum(bucket.events.get("picked", 0) for bucket in found) == 3
    assert {bucket.deployment for bucket in found} == {ROLLOUT}
    assert len([bucket for bucket in found if bucket.frames]) == 3
    assert sum(bucket.samples for bucket in memory) == 31
    assert (mark.restarts, mark.cameras["cam-1"].frames) == (0, 9000)
    assert nothing == []


def test_old_buckets_are_forgotten(database: Database, device: Any, now: datetime) -> None:
    ingest_batch(database, messages(device, now - timedelta(hours=1), 40), now)
    border = now - timedelta(minutes=45)
    with database.writing() as repositories:
        repositories.quality.trim(border, border)
    with database.reading() as repositories:
        found = repositories.quality.of_stores(["berlin-01"], [(now - timedelta(days=1), now)])
        memory = repositories.quality.memory_of_stores(["berlin-01"], now - timedelta(days=1))
    assert [bucket.start for bucket in found] == [border, border + timedelta(minutes=15)]
    assert min(bucket.start for bucket in memory) == border
