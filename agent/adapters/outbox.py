"""The outbox on disk: one SQLite file that survives power cuts, full disks and the next release.

Why SQLite: events and the shelf state they came from must become durable together, or a power cut
would repeat or lose a change. Write-ahead log with ``synchronous=FULL`` makes each commit durable
before ``append`` returns. Only the holder of the node's lock appends; a second process may have the
file open meanwhile (handover), which WAL and the busy timeout allow.

A damaged file is never repaired in place: it is moved aside, a new stream begins (with a new
``stream_id``, so the centre does not take the missing tail for a gap), and ``damage`` says so. In a sound
file an event that cannot be read (flipped bits) is set aside alone, and all others go on in a new stream.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from agent.envelope import Origin, read_stored, renumber, seal
from agent.errors import PermanentError, TransientError
from agent.ports import EventDraft, OutboxStatus
from contract.errors import MessageError
from contract.events import Event, EventBase
from contract.messages import EventAck

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_NAME = "outbox.db"
BUSY_TIMEOUT_S = 5.0
_SCHEMA_VERSION = 1
_UNREADABLE_EVENT_VERSION = -1
"""Marks a sound file in which an event cannot be read."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stream (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    stream_id TEXT NOT NULL,
    last_sequence INTEGER NOT NULL,
    state BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS unreadable (
    stream_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
"""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_RETRY = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
)

_log = logging.getLogger(__name__)


class _DamagedError(PermanentError):
    """The file is not a sound outbox."""


class SqliteOutbox:
    """Implements ``agent.ports.Outbox`` in ``directory / "outbox.db"``. Safe to use from several threads.

    Raises ``TransientError`` when the disk cannot be written at the moment, ``PermanentError`` when the
    file was damaged while open (opening it again moves it aside) or comes from a newer release.
    """

    def __init__(
        self,
        directory: Path,
        origin: Origin,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self.path = directory / FILE_NAME
        self.damage = ""
        """Why a new stream had to be begun; empty when the file was sound or new."""
        self._origin = origin
        self._clock = clock
        self._new_id = new_id
        self._lock = threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TransientError(f"cannot create {directory}: {error.strerror}", 5.0) from error
        try:
            self._db = self._open()
        except _DamagedError as error:
            aside = self._move_aside()
            self.damage = f"{error}; moved to {aside.name}, a new event stream begins"
            _log.error("outbox damaged", extra={"detail": self.damage})
            self._db = self._open()

    def append(self, drafts: Sequence[EventDraft], state: bytes) -> list[Event]:
        with self._lock, self._transaction():
            stream_id, last = self._stream()
            events = seal(
                drafts,
                self._origin,
                stream_id=stream_id,
                last_sequence=last,
                now=self._clock(),
            )
            self._db.executemany(
                "INSERT INTO events (sequence, payload) VALUES (?, ?)",
                [(event.sequence, event.to_bytes()) for event in events],
            )
            self._db.execute(
                "UPDATE stream SET last_sequence = ?, state = ?",
                (last + len(events), state),
            )
        return events

    def pending(self, after: int, limit: int) -> list[EventBase]:
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT payload FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
                (after, limit),
            ).fetchall()
        try:
            return [read_stored(payload) for (payload,) in rows]
        except MessageError as error:
            self._mark_unreadable_event()
            raise _DamagedError(f"{self.path.name} holds an event that cannot be read: {error}") from error

    def commit(self, ack: EventAck) -> int:
        with self._lock, self._transaction():
            stream_id, last = self._stream()
            if ack.stream_id != stream_id or ack.committed_sequence > last:
                return 0
            done = self._db.execute("DELETE FROM events WHERE sequence <= ?", (ack.committed_sequence,))
            return done.rowcount

    def begin_stream(self) -> None:
        with self._lock, self._transaction():
            _begin_stream(self._db, self._new_id())

    def status(self) -> OutboxStatus:
        with self._lock, self._translated():
            stream_id, last, state, first = self._db.execute(
                "SELECT stream_id, last_sequence, state, (SELECT min(sequence) FROM events) FROM stream"
            ).fetchone()
        # Commits delete from the front only, so what is left has no gap and need not be counted.
        pending = 0 if first is None else last - first + 1
        return OutboxStatus(UUID(stream_id), last, pending, state)

    def close(self) -> None:
        """Close the file; uncommitted events stay in it."""
        with self._lock:
            self._db.close()

    def _mark_unreadable_event(self) -> None:
        """SQLite sees damaged pages, not flipped bits in a payload; so that the next start does not stumble
        over the same event for ever, it finds this mark and sets that event aside."""
        with self._lock, self._translated():
            self._db.execute(f"PRAGMA user_version={_UNREADABLE_EVENT_VERSION}")

    def _stream(self) -> tuple[UUID, int]:
        stream_id, last = self._db.execute("SELECT stream_id, last_sequence FROM stream").fetchone()
        return UUID(stream_id), last

    def _open(self) -> sqlite3.Connection:
        with self._translated():
            db = sqlite3.connect(
                self.path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise PermanentError(
                f"{self.path} was written by a newer release (layout {version}); "
                "run that release again, or move the file away to begin a new stream"
            )
        (check,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise _DamagedError(f"{self.path.name}: {check}")
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        db.execute(
            "INSERT INTO stream (one, stream_id, last_sequence) VALUES (1, ?, 0) ON CONFLICT DO NOTHING",
            (str(self._new_id()),),
        )
        db.execute("BEGIN IMMEDIATE")
        if version == _UNREADABLE_EVENT_VERSION:
            count = _begin_stream(db, self._new_id())
            self.damage = (
                f"{self.path.name} held {count} event(s) that cannot be read; they are kept in its table "
                "'unreadable', a new event stream begins with the others"
            )
            _log.error("outbox damaged", extra={"detail": self.damage})
        db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        db.execute("COMMIT")

    def _move_aside(self) -> Path:
        aside = self.path.with_name(
            f"{FILE_NAME}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(self._clock()))}"
        )
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                side = self.path.with_name(FILE_NAME + suffix)
                if side.exists():
                    side.replace(aside.with_name(aside.name + suffix))
        except OSError as error:
            raise TransientError(
                f"cannot move the damaged {self.path} aside: {error.strerror}", 5.0
            ) from error
        return aside

    @contextmanager
    def _transaction(self) -> "Iterator[None]":
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> "Iterator[None]":
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            if code in _DAMAGE:
                raise _DamagedError(f"{self.path.name} is damaged ({name}): {error}") from error
            if code in _RETRY:
                raise TransientError(
                    f"cannot write {self.path} ({name}): {error}; free space on that disk",
                    1.0,
                ) from error
            raise PermanentError(f"{self.path}: {error} ({name})") from error


def _begin_stream(db: sqlite3.Connection, stream_id: UUID) -> int:
    """Number what waits anew, from 1; returns how many events could not be read and were set aside. Within a
    transaction of the caller's."""
    waiting = db.execute("SELECT sequence, payload FROM events ORDER BY sequence").fetchall()
    readable: list[EventBase] = []
    for sequence, payload in waiting:
        try:
            readable.append(read_stored(payload))
        except MessageError as error:
            _log.error("event set aside", extra={"sequence": sequence, "detail": str(error)})
            db.execute(
                "INSERT INTO unreadable SELECT stream_id, ?, ? FROM stream",
                (sequence, payload),
            )
    db.execute("DELETE FROM events")
    db.executemany(
        "INSERT INTO events (sequence, payload) VALUES (?, ?)",
        [
            (number, renumber(event, stream_id, number).to_bytes())
            for number, event in enumerate(readable, start=1)
        ],
    )
    db.execute("UPDATE stream SET stream_id = ?, last_sequence = ?", (str(stream_id), len(readable)))
    return len(waiting) - len(readable)
