"""Which ownership of a camera an event was seen in, where the nodes of a store share its cameras."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("camera_epoch", sa.BigInteger(), nullable=True))
    op.add_column("zones", sa.Column("camera_epoch", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("zones", "camera_epoch")
    op.drop_column("events", "camera_epoch")
