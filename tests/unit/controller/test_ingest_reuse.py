"""A device that lost its last events numbers new ones like those: nothing may vanish under a known number."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from controller.adapters.database import Database, migrate, open_database
from controller.domain.event_log import EventFilter
from controller.domain.fleet import Store
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.ingest_batch import ingest_batch

ALL = PageRequest(MAX_LIMIT)


@pytest.fixture
def database(tmp_path: Path, now: datetime) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    yield database
    database.close()


def test_a_reused_number_is_kept_as_a_letter_and_asks_for_a_new_stream(
    database: Database, device: Any, now: datetime
) -> None:
    stored = [device.event(n) for n in (1, 2, 3)]
    ingest_batch(database, [device.sent(event) for event in stored], now)
    other = device.event(3, data={"facings": 1})
    result = ingest_batch(database, [device.sent(other), device.sent(device.event(4))], now)
    assert (result.stored, result.duplicates, result.refused) == (1, 0, 1)
    (ack,) = result.acks
    assert (ack.ack.committed_sequence, ack.ack.begin_stream) == (4, True)
    with database.reading() as repositories:
        (letter,) = repositories.dead_letters.page("berlin-01", ALL).items
        assert stored[2].id in repositories.events.get([stored[2].id])
        assert repositories.events.get([other.id]) == {}
    assert letter.reason.startswith("sequence reused")
    assert (letter.payload, letter.sequence) == (other.to_bytes(), 3)


def test_the_events_come_in_under_the_new_stream(database: Database, device: Any, now: datetime) -> None:
    ingest_batch(database, [device.sent(device.event(n)) for n in (1, 2)], now)
    again = device.event(2)
    ingest_batch(database, [device.sent(again)], now)
    moved = again.model_copy(update={"streamid": uuid4(), "sequence": 1})
    result = ingest_batch(database, [device.sent(moved)], now)
    assert (result.stored, result.acks[0].ack.begin_stream) == (1, False)
    with database.reading() as repositories:
        ids = [event.event_id for event in repositories.events.page(EventFilter(), ALL).items]
    assert again.id in ids


def test_a_repeat_of_the_stored_event_asks_for_nothing(
    database: Database, device: Any, now: datetime
) -> None:
    event = device.sent(device.event(1))
    result = ingest_batch(database, [event, event], now)
    assert (result.stored, result.refused, result.acks[0].ack.begin_stream) == (1, 0, False)
