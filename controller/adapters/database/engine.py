"""Connections and transactions.

SQLite has one writer at a time. Writers of this process queue on a lock, without polling; those of
another process wait for the busy timeout. A writing transaction begins IMMEDIATE, because a reader
that turns writer would fail with SQLITE_BUSY at once.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    NotSupportedError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from controller.adapters.database.repositories import TransactionRepositories
from controller.errors import ConflictError, PermanentError, TransientError

BUSY_TIMEOUT_S = 10.0
POOL_SIZE = 10
CONNECT_TIMEOUT_S = 5


class Database:
    """Implements ``ports.Transactions``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._writing = engine.execution_options(storefleet_writing=True)

    @contextmanager
    def connection(self, *, writing: bool) -> Iterator[Connection]:
        """One transaction on a bare connection, for migrations and tests. Raises as the ports say."""
        lock = self._writer if writing else nullcontext()
        engine = self._writing if writing else self.engine
        with translated(self.engine.url), lock, engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[TransactionRepositories]:
        with self.connection(writing=False) as connection:
            yield TransactionRepositories(connection)

    @contextmanager
    def writing(self) -> Iterator[TransactionRepositories]:
        with self.connection(writing=True) as connection:
            yield TransactionRepositories(connection)

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str) -> Database:
    """A database by URL: ``sqlite:///path`` or ``postgresql://user@host/name``. Connects later.

    Raises ``PermanentError`` for a URL that cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise PermanentError(
            "the database URL cannot be read; write sqlite:///path/to/file.db or postgresql://user@host/name"
        ) from error
    try:
        if parsed.get_backend_name() == "sqlite":
            return Database(_sqlite(parsed))
        if parsed.get_backend_name() == "postgresql":
            return Database(_postgresql(parsed))
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise PermanentError(f"no driver for database {parsed.drivername}: {error}") from error
    raise PermanentError(f"database {parsed.drivername!r} is not supported; use sqlite or postgresql")


def _to_json(value: Any) -> str:
    """Not escaped, so that half a surrogate pair is refused on its way in, not on every way out."""
    return json.dumps(value, ensure_ascii=False)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        json_serializer=_to_json,
        pool_size=POOL_SIZE,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("storefleet_writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "storefleet-controller"},
        json_serializer=_to_json,
        pool_size=POOL_SIZE,
        pool_pre_ping=True,
    )


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turns errors of the database into ours. The text never holds the URL's password."""
    name = url.render_as_string(hide_password=True)
    try:
        yield
    except IntegrityError as error:
        raise ConflictError(f"the database refused a row: {_first_line(error.orig)}") from error
    except (OperationalError, InterfaceError, InternalError) as error:
        raise TransientError(f"database {name} is not available: {_first_line(error.orig)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise TransientError(f"the connection to database {name} broke") from error
        if isinstance(error, DataError | NotSupportedError):
            raise PermanentError(f"the database refused a value: {_first_line(error.orig)}") from error
        raise PermanentError(f"database {name} cannot be used: {_first_line(error.orig)}") from error
    except PoolTimeoutError as error:
        raise TransientError(f"all connections to database {name} are in use") from error
    except (OverflowError, UnicodeEncodeError) as error:  # from the driver, before the database sees it
        raise PermanentError(f"the database cannot hold a value: {_first_line(error)}") from error
    except SQLAlchemyError as error:
        raise PermanentError(f"the database could not do this: {_first_line(error)}") from error


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or ["no detail"])[0] if error else "no detail"
