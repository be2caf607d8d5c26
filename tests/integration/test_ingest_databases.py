"""Ingest into SQLite and PostgreSQL, and a PostgreSQL that comes and goes."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.messages import EventAck
from controller.adapters.database import Database, migrate, open_database
from controller.domain.event_log import EventFilter
from controller.domain.fleet import Store
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.errors import TransientError
from controller.ingest import Ingest
from controller.ingest_batch import ingest_batch
from controller.ports import BusStatus, Received

ALL = PageRequest(MAX_LIMIT)


@pytest.fixture
def database(database_url: str, now: datetime) -> Iterator[Database]:
    database = open_database(database_url)
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    yield database
    database.close()


def stored(database: Database) -> list[int]:
    with database.reading() as repositories:
        return sorted(event.sequence for event in repositories.events.page(EventFilter(), ALL).items)


@pytest.mark.parametrize("seed", range(3))
def test_reordered_repeated_and_lost_messages_end_in_every_event_once(
    database: Database, device: Any, now: datetime, seed: int
) -> None:
    chance = random.Random(seed)
    events = [device.event(n) for n in range(1, 201)]
    sent = chance.choices(events, k=400)
    for start in range(0, len(sent), 37):
        ingest_batch(database, [device.sent(event) for event in sent[start : start + 37]], now)
    assert stored(database) == sorted({event.sequence for event in sent})
    result = ingest_batch(database, [device.sent(event) for event in events], now)
    assert stored(database) == list(range(1, 201))
    assert result.acks[-1].ack.committed_sequence == 200
    with database.reading() as repositories:
        assert repositories.streams.page_gaps(None, True, ALL).items == ()
        (zone,) = repositories.stock.page(None, ALL).items
    assert zone.sequence == 200


def test_two_batches_at_once_store_every_event_once(database: Database, device: Any, now: datetime) -> None:
    """As when two controllers run for a moment."""
    batch = [device.sent(device.event(n)) for n in range(1, 101)]
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(ingest_batch(database, batch, now).stored))
        for _ in range(2)
    ]
    ingest_batch(database, [device.sent(device.birth())], now)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(results) == 100
    assert stored(database) == list(range(1, 101))


def test_what_only_the_database_refuses_becomes_a_dead_letter(
    postgres_url: str, device: Any, now: datetime
) -> None:
    database = open_database(postgres_url)
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    too_long = device.sent(device.birth(agent_version="x" * 200))
    events = [device.sent(device.event(n)) for n in range(1, 8)]
    result = ingest_batch(database, [*events[:3], too_long, *events[3:]], now)
    assert (result.stored, result.refused) == (7, 1)
    with database.reading() as repositories:
        (letter,) = repositories.dead_letters.page(None, ALL).items
    assert "not storable" in letter.reason
    database.close()


class Bus:
    """A broker in memory: gives out what is not acknowledged, and keeps what is sent to devices."""

    def __init__(self, messages: Iterable[Received]) -> None:
        self._waiting = list(messages)
        self.acknowledged: list[Received] = []
        self.sent: list[EventAck] = []
        self.sessions_lost = 0
        self.backlog = 0

    def take(self, limit: int, wait_s: float) -> list[Received]:
        taken, self._waiting = self._waiting[:limit], self._waiting[limit:]
        if not taken:
            time.sleep(0.02)
        return taken

    def acknowledge(self, messages: Iterable[Received]) -> None:
        self.acknowledged.extend(messages)

    def send_ack(self, store: str, device: str, ack: EventAck) -> None:
        self.sent.append(ack)

    def status(self) -> BusStatus:
        return BusStatus(True, len(self._waiting) + self.backlog, self.sessions_lost)


@pytest.fixture
def running() -> Iterator[Callable[[Ingest], None]]:
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(ingest: Ingest) -> None:
        threads.append(threading.Thread(target=ingest.run, args=(stop,)))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)


def until(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def utc_now() -> datetime:
    return datetime.now(UTC)


def test_nothing_is_acknowledged_while_the_database_is_down(
    postgres: Any, postgres_url: str, device: Any, now: datetime, running: Callable[[Ingest], None]
) -> None:
    database = open_database(postgres_url)
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    bus = Bus(device.sent(device.event(n)) for n in range(1, 11))
    ingest = Ingest(database, bus, utc_now)
    postgres.stop()
    try:
        with pytest.raises(TransientError):
            ingest_batch(database, [device.sent(device.event(1))], now)
        running(ingest)
        until(lambda: ingest.status().error, "an error in the status")
        assert "is not available" in ingest.status().error
        assert bus.acknowledged == []
        assert bus.sent == []
    finally:
        postgres.start()
    until(lambda: len(bus.acknowledged) == 10, "acknowledged after the database came back")
    assert stored(database) == list(range(1, 11))
    until(lambda: ingest.status().error == "", "no error any more")
    assert bus.sent[-1].committed_sequence == 10
    database.close()


def test_after_a_lost_session_every_known_device_is_asked_to_send_again(
    database: Database, new_device: Any, now: datetime, running: Callable[[Ingest], None]
) -> None:
    devices = [new_device(device=f"node-{n}") for n in range(3)]
    for device in devices:
        ingest_batch(database, [device.sent(device.birth()), device.sent(device.event(1))], now)
    bus = Bus([])
    running(Ingest(database, bus, utc_now))
    bus.sessions_lost = 1
    until(lambda: len(bus.sent) == 3, "three requests")
    assert {ack.stream_id for ack in bus.sent} == {device.stream for device in devices}
    assert all(ack.resend and ack.committed_sequence == 1 for ack in bus.sent)


def test_nobody_is_asked_again_for_what_may_still_be_in_the_queue(
    database: Database, device: Any, running: Callable[[Ingest], None]
) -> None:
    """Else every device would double a backlog that is only slow to be worked off."""
    ten_seconds_ago = utc_now() - timedelta(seconds=10)
    ingest_batch(
        database, [device.sent(device.birth()), device.sent(device.heartbeat(5, 5))], ten_seconds_ago
    )
    bus = Bus([])
    bus.backlog = 1000
    running(Ingest(database, bus, utc_now))
    time.sleep(2.5)
    assert bus.sent == []
    bus.backlog = 0
    until(lambda: [ack.resend for ack in bus.sent] == [True], "a request")


def test_a_gap_that_stays_open_makes_the_device_send_again(
    database: Database, device: Any, running: Callable[[Ingest], None]
) -> None:
    started = utc_now()
    bus = Bus(device.sent(device.event(n, time=started, recordtime=started)) for n in (1, 3))
    running(Ingest(database, bus, utc_now))
    until(lambda: any(ack.resend for ack in bus.sent), "a request to send again")
    waited = (utc_now() - started).total_seconds()
    request = next(ack for ack in bus.sent if ack.resend)
    assert (request.stream_id, request.committed_sequence) == (device.stream, 1)
    assert 5.0 <= waited < 9.0
    time.sleep(1.5)
    assert sum(ack.resend for ack in bus.sent) == 1, "not more often than every 5 s"
