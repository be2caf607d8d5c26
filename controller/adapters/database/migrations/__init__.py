"""Alembic's migrations. Expand first, contract in a later release: an older controller may still run."""
