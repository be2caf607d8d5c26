"""Brings the database to the newest schema, once, whoever else starts at the same moment.

The lock is the database's own: SQLite's write lock (BEGIN IMMEDIATE), PostgreSQL's advisory lock of
the transaction. The version is read after it is held, and the schema changes in one transaction.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from controller.adapters.database.engine import Database
from controller.errors import PermanentError

ADVISORY_LOCK = 0x5706EF1EE7
"""Any fixed number will do, as long as nobody else uses it in the same database."""


def migrate(database: Database) -> tuple[str | None, str]:
    """Apply what is missing; the versions before and after. Raises ``TransientError`` when the
    database cannot be reached, ``PermanentError`` when it is newer than this program."""
    config = alembic_config()
    try:
        with database.connection(writing=True) as connection:
            _lock(connection)
            before = MigrationContext.configure(connection).get_current_revision()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise PermanentError(
            f"the database's schema is not one that this version of Storefleet knows ({error}); "
            "start the version that wrote it, or a newer one"
        ) from error
    head = ScriptDirectory.from_config(config).get_current_head()
    return before, head or ""


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
