"""The outbox against real faults: kill -9 while it writes, and a file system that is really full."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.adapters.outbox import SqliteOutbox
from agent.envelope import Origin
from agent.errors import TransientError
from agent.ports import EventDraft
from contract.events import FacingsChanged, ZoneData
from contract.names import StockLevel

ORIGIN = Origin("berlin-01", "node-1", "1.0.0", "sha256:" + "00" * 32)


APPENDER = """
import sys, time
from pathlib import Path
from uuid import uuid4
from agent.adapters.outbox import SqliteOutbox
from agent.envelope import Origin
from agent.ports import EventDraft
from contract.events import FacingsChanged, ZoneData
from contract.names import StockLevel

origin = Origin("berlin-01", "node-1", "1.0.0", "sha256:" + "00" * 32)
outbox = SqliteOutbox(Path(sys.argv[1]), origin, clock=time.time)
while True:
    data = ZoneData(sku="cola-can", capacity=10, facings=1, level=StockLevel.LOW)
    drafts = [EventDraft(uuid4(), FacingsChanged, "aisle-1", "zone-1", time.time(), data) for _ in range(3)]
    events = outbox.append(drafts, str(outbox.status().last_sequence + 3).encode())
    print(events[-1].sequence, flush=True)
"""


def make_draft() -> EventDraft:
    data = ZoneData(sku="cola-can", capacity=10, facings=1, level=StockLevel.LOW)
    return EventDraft(uuid4(), FacingsChanged, "aisle-1", "zone-1", time.time(), data)


def test_kill_9_loses_nothing_that_was_reported_stored(tmp_path: Path) -> None:
    confirmed = 0
    for run in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for _ in range(20 + 7 * run):
                confirmed = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
            confirmed = max([confirmed, *map(int, rest)])
        outbox = SqliteOutbox(tmp_path, ORIGIN, clock=time.time)
        status = outbox.status()
        sequences = [event.sequence for event in outbox.pending(0, 100_000)]
        outbox.close()
        assert outbox.damage == ""
        assert sequences == list(range(1, status.last_sequence + 1))
        assert status.last_sequence >= confirmed
        assert status.last_sequence % 3 == 0, "a transaction was stored in part"
        assert status.state == str(status.last_sequence).encode(), "state and events do not belong together"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(  # noqa: PLW1510
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_full_disk_refuses_whole_transactions_and_recovers(small_disk: Path) -> None:
    outbox = SqliteOutbox(small_disk, ORIGIN, clock=time.time)
    outbox.append([make_draft()], b"first")
    (small_disk / "others-data").write_bytes(b"x" * 300_000)
    stored = 1
    with pytest.raises(TransientError, match="free space"):
        while stored < 10_000:
            stored += len(outbox.append([make_draft() for _ in range(20)], b"state"))
    assert outbox.status().last_sequence == stored
    assert [e.sequence for e in outbox.pending(0, 10_000)] == list(range(1, stored + 1))
    (small_disk / "others-data").unlink()
    assert outbox.append([make_draft()], b"after")[0].sequence == stored + 1
    outbox.close()
    again = SqliteOutbox(small_disk, ORIGIN, clock=time.time)
    assert (again.damage, again.status().last_sequence) == ("", stored + 1)
    again.close()


def test_opening_on_a_full_disk_is_transient(small_disk: Path) -> None:
    filler = small_disk / "others-data"
    with (
        pytest.raises(OSError, match="No space"),
        filler.open("wb", buffering=0) as file,
    ):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(TransientError):
        SqliteOutbox(small_disk, ORIGIN, clock=time.time)
    filler.unlink()
    SqliteOutbox(small_disk, ORIGIN, clock=time.time).close()
