"""The central database: SQLite embedded by default, PostgreSQL by URL. The only user of SQLAlchemy."""

from controller.adapters.database.engine import Database, open_database
from controller.adapters.database.migrate import migrate

__all__ = ["Database", "migrate", "open_database"]
