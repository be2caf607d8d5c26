"""One suite for the outbox in memory and the one on disk, so that the fake cannot drift."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.adapters.ids import new_event_id
from agent.adapters.memory import MemoryOutbox
from agent.adapters.outbox import SqliteOutbox
from agent.envelope import Origin
from agent.ports import EventDraft, Outbox
from contract.messages import EventAck

Draft = Callable[..., EventDraft]
NOW = 1_700_000_005.0


@pytest.fixture(params=["memory", "sqlite"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path, origin: Origin) -> Iterator[Outbox]:
    if request.param == "memory":
        yield MemoryOutbox(origin, clock=lambda: NOW, new_id=new_event_id)
    else:
        on_disk = SqliteOutbox(tmp_path, origin, clock=lambda: NOW)
        yield on_disk
        on_disk.close()


def sequences(outbox: Outbox, after: int = 0, limit: int = 1000) -> list[int]:
    return [event.sequence for event in outbox.pending(after, limit)]


def test_new_outbox_is_empty_and_has_a_stream(outbox: Outbox) -> None:
    status = outbox.status()
    assert (status.last_sequence, status.pending, status.state) == (0, 0, None)
    assert status.stream_id.version in (4, 7)


def test_events_are_numbered_without_gap_and_state_is_kept(outbox: Outbox, draft: Draft) -> None:
    first = outbox.append([draft(3), draft(2)], b"one")
    second = outbox.append([draft(1)], b"two")
    assert [event.sequence for event in (*first, *second)] == [1, 2, 3]
    assert outbox.status().state == b"two"
    assert outbox.pending(0, 10) == [*first, *second]


def test_event_carries_origin_times_and_stream(outbox: Outbox, draft: Draft, origin: Origin) -> None:
    sent = draft(at=NOW - 2)
    (event,) = outbox.append([sent], b"")
    assert (event.store, event.device, event.camera) == (
        origin.store,
        origin.device,
        "aisle-1",
    )
    assert (event.id, event.subject, event.modeldigest) == (
        sent.id,
        "a1-cola",
        origin.model_digest,
    )
    assert (event.recordtime - event.time).total_seconds() == 2.0
    assert event.streamid == outbox.status().stream_id
    assert event.historical is False


def test_state_alone_can_be_stored(outbox: Outbox) -> None:
    assert outbox.append([], b"state") == []
    assert (outbox.status().state, outbox.status().last_sequence) == (b"state", 0)


@pytest.mark.parametrize(("after", "limit", "expected"), [(0, 2, [1, 2]), (2, 10, [3, 4]), (4, 10, [])])
def test_pending_pages_in_order(
    outbox: Outbox, draft: Draft, after: int, limit: int, expected: list[int]
) -> None:
    outbox.append([draft() for _ in range(4)], b"")
    assert sequences(outbox, after, limit) == expected


def test_commit_forgets_events_but_not_their_numbers(outbox: Outbox, draft: Draft) -> None:
    outbox.append([draft() for _ in range(3)], b"s")
    stream = outbox.status().stream_id
    assert outbox.commit(EventAck(stream_id=stream, committed_sequence=2)) == 2
    assert outbox.commit(EventAck(stream_id=stream, committed_sequence=3)) == 1
    assert (outbox.status().last_sequence, outbox.status().pending) == (3, 0)
    (event,) = outbox.append([draft()], b"s")
    assert event.sequence == 4


def test_late_or_repeated_ack_does_nothing(outbox: Outbox, draft: Draft) -> None:
    outbox.append([draft() for _ in range(3)], b"")
    ack = EventAck(stream_id=outbox.status().stream_id, committed_sequence=2)
    outbox.commit(ack)
    assert outbox.commit(ack) == 0
    assert sequences(outbox) == [3]


def test_ack_of_events_that_never_were_deletes_none(outbox: Outbox, draft: Draft) -> None:
    outbox.append([draft(), draft()], b"")
    ack = EventAck(stream_id=outbox.status().stream_id, committed_sequence=3)
    assert outbox.commit(ack) == 0
    assert sequences(outbox) == [1, 2]


def test_new_stream_takes_over_the_state_and_the_events_that_wait(outbox: Outbox, draft: Draft) -> None:
    before = outbox.append([draft() for _ in range(5)], b"state")
    old = outbox.status().stream_id
    outbox.commit(EventAck(stream_id=old, committed_sequence=3))
    outbox.begin_stream()
    status = outbox.status()
    assert status.stream_id != old
    assert (status.last_sequence, status.pending, status.state) == (2, 2, b"state")
    moved = outbox.pending(0, 10)
    assert [(event.id, event.sequence, event.streamid) for event in moved] == [
        (event.id, number, status.stream_id) for number, event in enumerate(before[3:], start=1)
    ]
    assert moved[0].time == before[3].time
    (event,) = outbox.append([draft()], b"")
    assert (event.sequence, event.streamid) == (3, status.stream_id)


def test_ack_of_another_stream_does_nothing(outbox: Outbox, draft: Draft) -> None:
    outbox.append([draft()], b"")
    assert outbox.commit(EventAck(stream_id=uuid4(), committed_sequence=9)) == 0
    assert sequences(outbox) == [1]
