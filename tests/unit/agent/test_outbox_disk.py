"""What only an outbox on a real disk can suffer: restarts, damage, a full disk, a second process."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.adapters.outbox import FILE_NAME, SqliteOutbox
from agent.envelope import Origin
from agent.errors import PermanentError, TransientError
from agent.ports import EventDraft
from contract.messages import EventAck

Draft = Callable[..., EventDraft]


def open_outbox(directory: Path, origin: Origin) -> SqliteOutbox:
    return SqliteOutbox(directory, origin, clock=lambda: 1_700_000_000.0)


def test_restart_keeps_stream_sequence_events_and_state(tmp_path: Path, origin: Origin, draft: Draft) -> None:
    first = open_outbox(tmp_path, origin)
    stored = first.append([draft(), draft()], b"shelf")
    before = first.status()
    first.close()
    second = open_outbox(tmp_path, origin)
    assert second.status() == before
    assert second.pending(0, 10) == stored
    assert second.damage == ""
    second.close()


def test_next_release_continues_the_sequence_under_its_own_name(
    tmp_path: Path, origin: Origin, draft: Draft
) -> None:
    old = open_outbox(tmp_path, origin)
    new = open_outbox(tmp_path, Origin("berlin-01", "node-1", "2.0.0", "sha256:" + "cd" * 32))
    old.append([draft()], b"from old")
    assert new.status().state == b"from old"
    (event,) = new.append([draft()], b"from new")
    assert (event.sequence, event.modelversion) == (2, "2.0.0")
    old.commit(EventAck(stream_id=event.streamid, committed_sequence=1))
    assert [e.modelversion for e in new.pending(0, 10)] == ["2.0.0"]
    old.close()
    new.close()


@pytest.mark.parametrize("damage", ["not a database", "overwritten pages", "truncated"])
def test_damaged_file_is_moved_aside_and_a_new_stream_begins(
    tmp_path: Path, origin: Origin, draft: Draft, damage: str
) -> None:
    outbox = open_outbox(tmp_path, origin)
    outbox.append([draft() for _ in range(50)], b"x" * 20_000)
    old_stream = outbox.status().stream_id
    outbox.close()
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:] = b"rubbish" * 1000
    elif damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[4096 : 8 * 4096] = b"\xff" * (7 * 4096)
    path.write_bytes(bytes(content))

    fresh = open_outbox(tmp_path, origin)
    assert "outbox.db" in fresh.damage
    assert fresh.status().stream_id != old_stream
    assert fresh.append([draft()], b"")[0].sequence == 1
    assert len(list(tmp_path.glob("outbox.db.corrupt-*"))) >= 1
    fresh.close()


def test_event_with_flipped_bits_does_not_stop_the_node_for_ever(
    tmp_path: Path, origin: Origin, draft: Draft
) -> None:
    outbox = open_outbox(tmp_path, origin)
    stored = outbox.append([draft(), draft(), draft()], b"shelf")
    outbox._db.execute("UPDATE events SET payload = x'7b00ff' WHERE sequence = 2")
    with pytest.raises(PermanentError, match="cannot be read"):
        outbox.pending(0, 10)
    outbox.close()
    fresh = open_outbox(tmp_path, origin)
    assert "cannot be read" in fresh.damage
    assert [(e.id, e.sequence) for e in fresh.pending(0, 10)] == [(stored[0].id, 1), (stored[2].id, 2)]
    assert fresh.status().stream_id != stored[0].streamid, "else the centre would wait for the missing one"
    assert fresh.status().state == b"shelf"
    assert fresh._db.execute("SELECT payload FROM unreadable").fetchall() == [(b"\x7b\x00\xff",)]
    assert not list(tmp_path.glob("*.corrupt-*"))
    fresh.close()
    again = open_outbox(tmp_path, origin)
    assert (again.damage, len(again.pending(0, 10))) == ("", 2)
    again.close()


def test_unreadable_event_does_not_prevent_a_new_stream(tmp_path: Path, origin: Origin, draft: Draft) -> None:
    outbox = open_outbox(tmp_path, origin)
    stored = outbox.append([draft(), draft()], b"")
    outbox._db.execute("UPDATE events SET payload = x'7b00ff' WHERE sequence = 1")
    outbox.begin_stream()
    assert [(e.id, e.sequence) for e in outbox.pending(0, 10)] == [(stored[1].id, 1)]
    outbox.close()


def test_event_of_a_newer_release_is_passed_on_as_it_is(tmp_path: Path, origin: Origin, draft: Draft) -> None:
    """After a rollback: the centre, which knows the newer type or keeps what it refuses, decides."""
    outbox = open_outbox(tmp_path, origin)
    stored = outbox.append([draft(), draft()], b"shelf")
    newer = json.loads(stored[0].to_bytes()) | {
        "type": "io.storefleet.shelf.tidied.v1",
        "extension": 7,
        "data": {"tidiness": [1, {"of": 2}]},
    }
    outbox._db.execute("UPDATE events SET payload = ? WHERE sequence = 1", (json.dumps(newer).encode(),))
    unknown, known = outbox.pending(0, 10)
    assert json.loads(unknown.to_bytes()) == newer
    assert known == stored[1]
    outbox.begin_stream()
    moved = json.loads(outbox.pending(0, 1)[0].to_bytes())
    assert moved == newer | {"streamid": str(outbox.status().stream_id), "sequence": 1}
    outbox.close()
    assert open_outbox(tmp_path, origin).damage == ""


def test_file_of_a_newer_release_is_left_alone(tmp_path: Path, origin: Origin) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(PermanentError, match="newer release"):
        open_outbox(tmp_path, origin)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_full_disk_stores_nothing_and_recovers(tmp_path: Path, origin: Origin, draft: Draft) -> None:
    """``max_page_count`` makes SQLite report SQLITE_FULL, the same way as a full file system does."""
    outbox = open_outbox(tmp_path, origin)
    outbox.append([draft()], b"old")
    pages = outbox._db.execute("PRAGMA page_count").fetchone()[0]
    outbox._db.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(TransientError, match="free space"):
        outbox.append([draft() for _ in range(200)], b"new")
    assert (outbox.status().last_sequence, outbox.status().state) == (1, b"old")
    outbox._db.execute("PRAGMA max_page_count=100000")
    assert outbox.append([draft()], b"new")[0].sequence == 2
    outbox.close()


def test_locked_file_is_a_transient_error(
    tmp_path: Path, origin: Origin, draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.adapters.outbox.BUSY_TIMEOUT_S", 0.1)
    outbox = open_outbox(tmp_path, origin)
    other = sqlite3.connect(outbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError):
        outbox.append([draft()], b"")
    other.execute("ROLLBACK")
    other.close()
    assert outbox.append([draft()], b"")[0].sequence == 1
    outbox.close()
