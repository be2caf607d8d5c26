"""Ingest of batches into a real SQLite database; the integration tests repeat it with PostgreSQL."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.messages import CameraStatusMessage
from contract.names import CameraStatus
from controller.adapters.database import Database, migrate, open_database
from controller.domain.event_log import EventFilter
from controller.domain.fleet import Store
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.domain.sequence import StreamKey
from controller.errors import TransientError
from controller.ingest_batch import ingest_batch
from controller.ports import Received

ALL = PageRequest(MAX_LIMIT)


@pytest.fixture
def database(tmp_path: Path, now: datetime) -> Any:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    yield database
    database.close()


def sequences(database: Database) -> list[int]:
    with database.reading() as repositories:
        return sorted(e.sequence for e in repositories.events.page(EventFilter(), ALL).items)


def test_a_batch_is_stored_projected_and_acknowledged(database: Database, device: Any, now: datetime) -> None:
    messages = [device.birth(), device.heartbeat(2, 2), device.event(1), device.event(2, data={"facings": 3})]
    result = ingest_batch(database, [device.sent(message) for message in messages], now)
    assert (result.stored, result.duplicates, result.refused) == (2, 0, 0)
    (ack,) = result.acks
    assert (ack.store, ack.device) == ("berlin-01", "node-1")
    assert (ack.ack.stream_id, ack.ack.committed_sequence, ack.ack.resend) == (device.stream, 2, False)
    with database.reading() as repositories:
        (zone,) = repositories.stock.page("berlin-01", ALL).items
        history = repositories.stock.history("berlin-01", "zone-1", ALL).items
        (known,) = repositories.fleet.page_devices(ALL).items
    assert (zone.facings, zone.sequence) == (3, 2)
    assert [change.sequence for change in history] == [2, 1]
    assert (known.status, known.stream_id, known.outbox_ahead_since) == ("online", device.stream, None)


def test_the_same_batch_again_changes_nothing(database: Database, device: Any, now: datetime) -> None:
    batch = [device.sent(device.event(n)) for n in range(1, 6)]
    first = ingest_batch(database, batch, now)
    second = ingest_batch(database, batch + batch, now)
    assert (first.stored, second.stored, second.duplicates) == (5, 0, 10)
    assert second.acks == first.acks
    assert sequences(database) == [1, 2, 3, 4, 5]


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_loss_repeats_and_reordering_end_in_every_event_once(
    data: st.DataObject,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
    new_device: Callable[..., Any],
    now: datetime,
) -> None:
    chance = random.Random(seed)
    device = new_device()
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('db') / 'central.db'}")
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
    events = [device.event(n) for n in range(1, 31)]
    committed = 0
    for _ in range(4):
        sample = chance.sample(events, data.draw(st.integers(0, 20)))
        result = ingest_batch(database, [device.sent(e) for e in sample + sample[:3]], now)
        for ack in result.acks:
            assert ack.ack.committed_sequence >= committed
            committed = ack.ack.committed_sequence
        assert set(range(1, committed + 1)) <= set(sequences(database))
    ingest_batch(database, [device.sent(e) for e in events if e.sequence > committed], now)
    assert sequences(database) == list(range(1, 31))
    with database.reading() as repositories:
        assert repositories.streams.page_gaps(None, True, ALL).items == ()
        (zone,) = repositories.stock.page(None, ALL).items
    assert zone.sequence == 30
    database.close()


def test_a_gap_is_recorded_holds_the_watermark_and_closes(
    database: Database, device: Any, now: datetime
) -> None:
    later = now + timedelta(seconds=9)
    result = ingest_batch(database, [device.sent(device.event(n)) for n in (1, 2, 5)], now)
    assert result.acks[0].ack.committed_sequence == 2
    assert ingest_batch(database, [device.sent(device.event(4))], later).acks[0].ack.committed_sequence == 2
    assert ingest_batch(database, [device.sent(device.event(3))], later).acks[0].ack.committed_sequence == 5
    with database.reading() as repositories:
        gaps = repositories.streams.page_gaps("berlin-01", False, ALL).items
    assert [(g.first, g.last, g.opened_at, g.closed_at) for g in gaps] == [
        (3, 3, now, later),
        (3, 4, now, later),
    ]


def test_poison_harms_only_itself(database: Database, device: Any, now: datetime) -> None:
    bad = [
        Received("nonsense", b"x", now),
        Received(device.topics.events, b"{", now),
        device.sent(device.event(2, time=now + timedelta(hours=1))),
        device.sent(device.event(1, streamid=device.stream)),
    ]
    good = [device.sent(device.event(1)), device.sent(device.event(3))]
    result = ingest_batch(database, [good[0], *bad, good[1]], now)
    assert (result.stored, result.refused) == (2, 4)
    assert result.acks[0].ack.committed_sequence == 3, "a refused event is accounted for"
    with database.reading() as repositories:
        letters = repositories.dead_letters.page(None, ALL).items
    assert sorted(letter.reason.split(":")[0][:22] for letter in letters) == [
        "'nonsense' is not unde", "event time is 3600 s i", "message", "sequence reused",
    ]  # fmt: skip


def test_a_repeated_poison_message_is_one_dead_letter(database: Database, device: Any, now: datetime) -> None:
    for _ in range(3):
        ingest_batch(database, [Received(device.topics.events, b"{", now)] * 2, now)
    with database.reading() as repositories:
        (letter,) = repositories.dead_letters.page("berlin-01", ALL).items
    assert letter.times == 6


def test_an_unregistered_store_is_refused_and_not_acknowledged(
    database: Database, new_device: Any, now: datetime
) -> None:
    stranger = new_device("oslo-03")
    batch = [stranger.sent(stranger.event(n)) for n in (1, 2)]
    result = ingest_batch(database, batch, now)
    assert (result.stored, result.refused, result.acks) == (0, 2, ())
    with database.writing() as repositories:
        (letter,) = repositories.dead_letters.page("oslo-03", ALL).items
        assert "unknown store oslo-03" in letter.reason
        assert letter.times == 2
        repositories.stores.add(Store("oslo-03", created_at=now))
    assert ingest_batch(database, batch, now).stored == 2


@pytest.mark.parametrize("early", [False, True], ids=["after the event", "before the event"])
def test_a_retraction_marks_the_event_it_retracts(
    database: Database, device: Any, now: datetime, early: bool
) -> None:
    wrong = device.event(1, "low_stock", data={"level": "low"})
    retraction = device.event(2, "retracted", data={"retracts": str(wrong.id)})
    order = [retraction, wrong] if early else [wrong, retraction]
    for event in order:
        ingest_batch(database, [device.sent(event)], now)
    with database.reading() as repositories:
        events = {e.event_id: e for e in repositories.events.page(EventFilter(), ALL).items}
        history = repositories.stock.history("berlin-01", "zone-1", ALL).items
    assert events[wrong.id].retracted_by == retraction.id
    assert events[retraction.id].retracted_by is None
    assert [change.retracted for change in history] == [False, True]


def test_a_heartbeat_ahead_of_the_watermark_is_noticed_until_it_is_not(
    database: Database, device: Any, now: datetime
) -> None:
    def stalled(seconds: int) -> list[tuple[StreamKey, int]]:
        with database.reading() as repositories:
            found = repositories.streams.stalled(
                now + timedelta(seconds=seconds), now - timedelta(hours=1), 10
            )
        return [(s.key, s.committed) for s in found]

    key = StreamKey("berlin-01", "node-1", device.stream)
    ingest_batch(database, [device.sent(device.event(1)), device.sent(device.heartbeat(3, 2))], now)
    assert stalled(-1) == []
    assert stalled(1) == [(key, 1)]
    ingest_batch(database, [device.sent(device.event(n)) for n in (2, 3)], now)
    assert stalled(1) == []


def test_a_stream_whose_every_event_is_missing_is_noticed(
    database: Database, device: Any, now: datetime
) -> None:
    ingest_batch(database, [device.sent(device.heartbeat(3, 3))], now)
    with database.reading() as repositories:
        (found,) = repositories.streams.stalled(now, now, 10)
    assert found.committed == 0


def test_a_device_that_missed_its_ack_gets_another(database: Database, device: Any, now: datetime) -> None:
    ingest_batch(database, [device.sent(device.event(n)) for n in (1, 2)], now)
    (ack,) = ingest_batch(database, [device.sent(device.heartbeat(2, 2))], now).acks
    assert ack.ack.committed_sequence == 2
    assert ingest_batch(database, [device.sent(device.heartbeat(2, 0))], now).acks == ()


def test_events_that_the_device_no_longer_has_are_reported_lost_and_block_nothing(
    database: Database, device: Any, now: datetime
) -> None:
    """As after the database was restored from a backup."""
    ingest_batch(database, [device.sent(device.event(n)) for n in (11, 12)], now)
    later = now + timedelta(seconds=31)
    result = ingest_batch(database, [device.sent(device.heartbeat(12, 2))], later)
    assert result.lost == 10
    assert result.acks[0].ack.committed_sequence == 12
    with database.reading() as repositories:
        (gap,) = repositories.streams.page_gaps(None, False, ALL).items
    assert (gap.first, gap.last, gap.lost, gap.closed_at) == (1, 10, True, later)


def test_a_full_disk_stores_nothing_and_is_over_when_there_is_room(
    database: Database, device: Any, now: datetime
) -> None:
    batch = [device.sent(device.event(n)) for n in range(1, 300)]
    with database.connection(writing=True) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 90")
    with pytest.raises(TransientError, match="full"):
        ingest_batch(database, batch, now)
    assert sequences(database) == []
    with database.connection(writing=True) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert ingest_batch(database, batch, now).stored == 299


def test_a_camera_that_is_no_longer_configured_is_forgotten(
    database: Database, device: Any, now: datetime
) -> None:
    def beat(digit: str, *names: str) -> Received:
        figures = [{"camera": name, "status": "online", "fps_read": 5, "fps_inferred": 5} for name in names]
        told: Received = device.sent(device.heartbeat(config_digest="sha256:" + digit * 64, cameras=figures))
        return told

    def cameras() -> list[str]:
        with database.reading() as repositories:
            return [camera.camera for camera in repositories.fleet.of_stores(["berlin-01"])[1]]

    ingest_batch(database, [beat("1", "cam-1", "cam-2")], now)
    ingest_batch(database, [beat("1", "cam-1"), beat("1")], now)
    assert cameras() == ["cam-1", "cam-2"], "the configuration is the same"
    ingest_batch(database, [beat("2", "cam-2", "cam-3")], now)
    assert cameras() == ["cam-2", "cam-3"]


def test_trimming_spares_dead_letters_that_hold_the_only_copy(
    database: Database, device: Any, now: datetime
) -> None:
    future = device.sent(device.event(1, time=now + timedelta(hours=1)))
    garbage = [Received(device.topics.events, b"%d{" % n, now) for n in range(5)]
    ingest_batch(database, [future, *garbage], now)
    with database.writing() as repositories:
        assert repositories.dead_letters.trim(2) == 3
        left = repositories.dead_letters.page(None, ALL).items
    assert len(left) == 3
    assert any(letter.sequence == 1 for letter in left)


def beat_of(device: Any, config: str, *statuses: str, **changes: Any) -> Received:
    """A heartbeat with cameras cam-1, cam-2 … in these states; ``config`` is a hexadecimal digit."""
    figures = [
        {"camera": f"cam-{n}", "status": status, "fps_read": 5, "fps_inferred": 5}
        for n, status in enumerate(statuses, 1)
    ]
    told: Received = device.sent(
        device.heartbeat(config_digest="sha256:" + config * 64, cameras=figures, **changes)
    )
    return told


def test_a_device_whose_clock_ran_ahead_is_believed_once_it_is_right_again(
    database: Database, device: Any, now: datetime
) -> None:
    def status() -> str:
        with database.reading() as repositories:
            (camera,) = repositories.fleet.of_stores(["berlin-01"])[1]
            return camera.status

    tomorrow = now + timedelta(days=1)
    ahead = CameraStatusMessage(camera="cam-1", status=CameraStatus.STALLED, since=tomorrow, at=tomorrow)
    ingest_batch(database, [device.sent(ahead)], now)
    ingest_batch(database, [beat_of(device, "1", "online", at=tomorrow)], now)
    assert status() == "online"
    ingest_batch(
        database, [beat_of(device, "1", "dark", at=now + timedelta(seconds=2))], now + timedelta(seconds=2)
    )
    assert status() == "dark"


def test_a_late_heartbeat_of_an_older_session_brings_no_camera_back(
    database: Database, device: Any, now: datetime
) -> None:
    late = beat_of(device, "1", "online", "online")
    later = now + timedelta(seconds=5)
    newer = {"session_id": uuid4(), "at": later}
    birth = device.sent(device.birth(**newer))
    ingest_batch(database, [birth, beat_of(device, "2", "online", **newer)], later)
    ingest_batch(database, [late], later)
    with database.reading() as repositories:
        cameras = [camera.camera for camera in repositories.fleet.of_stores(["berlin-01"])[1]]
    assert cameras == ["cam-1"]


@pytest.mark.parametrize("early", [False, True], ids=["after the event", "before the event"])
def test_a_store_cannot_retract_the_events_of_another(
    database: Database, new_device: Callable[..., Any], now: datetime, early: bool
) -> None:
    with database.writing() as repositories:
        repositories.stores.add(Store("paris-02", created_at=now))
    victim, attacker = new_device(), new_device(store="paris-02")
    event = victim.event(1, "low_stock", data={"level": "low"})
    attack = attacker.event(1, "retracted", data={"retracts": str(event.id)})
    batch = [victim.sent(event), attacker.sent(attack)]
    for message in reversed(batch) if early else batch:
        ingest_batch(database, [message], now)
    with database.reading() as repositories:
        stored = repositories.events.get([event.id])[event.id]
    assert stored.retracted_by is None


def test_a_camera_that_another_device_took_over_is_forgotten(
    database: Database, device: Any, now: datetime
) -> None:
    def cameras() -> list[str]:
        with database.reading() as repositories:
            return [camera.camera for camera in repositories.fleet.of_stores(["berlin-01"])[1]]

    ingest_batch(database, [beat_of(device, "1", "online", "online")], now)
    assert cameras() == ["cam-1", "cam-2"]
    ingest_batch(database, [device.sent(device.birth(cameras=["cam-2"]))], now)
    assert cameras() == ["cam-2"]
    ingest_batch(database, [device.sent(device.birth(cameras=[]))], now)
    assert cameras() == []
    ingest_batch(database, [beat_of(device, "1", "online", "online")], now)
    reborn = device.sent(device.birth(cameras=["cam-1"]))
    ingest_batch(
        database, [beat_of(device, "1", "online", "online"), reborn, beat_of(device, "1", "online")], now
    )
    assert cameras() == ["cam-1"], "whatever came before and after it in the same batch"


def test_only_living_devices_of_registered_stores_are_signs_of_life(
    database: Database, new_device: Callable[..., Any], now: datetime
) -> None:
    device, stranger = new_device(), new_device(store="paris-02")

    def heard(*messages: Received) -> set[str]:
        return set(ingest_batch(database, messages, now).heard)

    assert heard(device.sent(device.birth())) == {"berlin-01"}
    assert heard(device.sent(device.heartbeat())) == {"berlin-01"}
    assert heard(device.sent(device.event(1))) == {"berlin-01"}
    assert heard(device.sent(device.birth(), retained=True)) == set(), "the broker kept it"
    assert heard(device.sent(device.birth(status="offline"))) == set(), "the last will"
    assert heard(stranger.sent(stranger.heartbeat())) == set()
