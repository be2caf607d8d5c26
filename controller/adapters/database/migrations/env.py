"""Run by Alembic. The connection, inside a transaction that holds the lock, comes from ``migrate``."""

from alembic import context

from controller.adapters.database import rollout_tables  # noqa: F401 - its tables belong to metadata
from controller.adapters.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=False,
)
context.run_migrations()
