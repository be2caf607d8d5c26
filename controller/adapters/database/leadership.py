"""Who acts on stores, when several controllers share one database.

PostgreSQL: an advisory lock that one session holds. The server frees it when that session ends, so a killed
controller is followed at once. What a network that was cut leaves behind is bounded from both sides: the
leader counts from before it asked and stops ``HOLD_S`` later unless it was answered again; whoever gets the
lock waits ``GRACE_S``, which is longer, before it acts; and the server ends a session that was silent for
``IDLE_S``. Nobody reads a wall clock. A connection pooler must not share the session (pgbouncer: session
pooling).

SQLite: a lock on a file beside the database. The kernel frees it with the process.
"""

import fcntl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from controller.adapters.database.engine import translated
from controller.errors import PermanentError
from controller.ports import Leadership

HOLD_S = 4.0
GRACE_S = 5.0
IDLE_S = 10.0
CONNECT_S = 3

LEADER_LOCK = 0x5706EF1EE8
"""Any fixed number will do, as long as nobody else uses it in the same database."""


def open_leadership(url: str, clock: Callable[[], float] = time.monotonic) -> Leadership:
    """For the database of ``open_database(url)``. ``clock``: steady, in seconds. Connects later."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return PostgresLeadership(parsed, clock)
    return FileLeadership(Path(f"{parsed.database}.leader") if parsed.database else None)


class PostgresLeadership:
    def __init__(self, url: URL, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "connect_timeout": CONNECT_S,
                "application_name": "storefleet-leader",
                "keepalives_idle": 2,
                "keepalives_interval": 1,
                "keepalives_count": 3,
                "tcp_user_timeout": int(HOLD_S * 1000),
            },
        )
        self._connection: Connection | None = None
        self._leads = False
        self._since = self._until = 0.0
        """Leads between these, if nothing comes between."""

    def renew(self) -> None:
        try:
            with translated(self._url):
                self._ask()
        except BaseException:
            self._drop()
            raise

    def held(self) -> bool:
        return self._leads and self._since <= self._clock() < self._until

    def release(self) -> None:
        if self._leads and self._connection is not None:
            self._leads = False  # first, so that nothing is done while another one may begin
            with suppress(SQLAlchemyError):  # a session that is broken has lost the lock already
                self._connection.execute(text("SELECT pg_advisory_unlock_all()"))
        self._drop()

    def _drop(self) -> None:
        self._leads = False
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except SQLAlchemyError:
                connection.invalidate()  # It was broken already; the server frees the lock.

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._guard(self._connection)
        asked = self._clock()
        if self._leads:
            self._connection.execute(text("SELECT 1"))
        elif self._connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK}):
            self._since = self._clock() + GRACE_S
            self._leads = True
        if self._leads:
            self._until = asked + HOLD_S

    @staticmethod
    def _guard(connection: Connection) -> None:
        """Have the server end the session when this program has fallen silent. PostgreSQL 14 and later."""
        if int(connection.scalar(text("SHOW server_version_num")) or 0) >= 140000:
            connection.execute(text(f"SET idle_session_timeout = '{int(IDLE_S)}s'"))
        connection.execute(text("SET tcp_keepalives_idle = 3"))
        connection.execute(text("SET tcp_keepalives_interval = 2"))
        connection.execute(text("SET tcp_keepalives_count = 3"))


class FileLeadership:
    def __init__(self, path: Path | None) -> None:
        """None: a database in memory, which no other process sees."""
        self._path = path
        self._file: BinaryIO | None = None
        self._leads = path is None

    def renew(self) -> None:
        if self._leads or self._path is None:
            return
        try:
            file = self._path.open("ab")
        except OSError as error:
            words = f"{self._path}: {error.strerror}; the database's directory must be writable"
            raise PermanentError(words) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()  # another controller of this database leads
            return
        self._file, self._leads = file, True

    def held(self) -> bool:
        return self._leads

    def release(self) -> None:
        self._leads = self._path is None
        if self._file is not None:
            self._file.close()
            self._file = None
