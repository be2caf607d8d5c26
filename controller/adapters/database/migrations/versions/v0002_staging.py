"""Models staged ahead of a release, and what devices tell of their model caches."""

import sqlalchemy as sa
from alembic import op

from controller.adapters.database import types

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("cached_models", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("devices", sa.Column("delivery", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "stagings",
        sa.Column("store", sa.String(length=63), nullable=False),
        sa.Column("release", sa.String(length=63), nullable=False),
        sa.Column("model_digest", sa.String(length=71), nullable=False),
        sa.Column("requested_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_stagings_store")),
        sa.ForeignKeyConstraint(["release"], ["releases.name"], name=op.f("fk_stagings_release")),
        sa.PrimaryKeyConstraint("store", "release", name=op.f("pk_stagings")),
    )


def downgrade() -> None:
    op.drop_table("stagings")
    op.drop_column("devices", "delivery")
    op.drop_column("devices", "cached_models")
