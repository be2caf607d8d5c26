"""What cameras saw, rolled up: what the quality of a release is judged by."""

import sqlalchemy as sa
from alembic import op

from controller.adapters.database import types

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quality_marks",
        sa.Column("store", sa.String(length=63), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("cameras", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_quality_marks_store")),
        sa.PrimaryKeyConstraint("store", "device", name=op.f("pk_quality_marks")),
    )
    op.create_table(
        "quality_buckets",
        sa.Column("store", sa.String(length=63), nullable=False),
        sa.Column("camera", sa.String(length=63), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("model_digest", sa.String(length=71), nullable=False),
        sa.Column("start", types.UtcDateTime(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("detections", sa.JSON(), nullable=False),
        sa.Column("histogram", sa.JSON(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("observed_s", sa.Float(), nullable=False),
        sa.Column("unknown_s", sa.Float(), nullable=False),
        sa.Column("inference_ms", sa.Float(), nullable=False),
        sa.Column("inference_samples", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_quality_buckets_store")),
        sa.PrimaryKeyConstraint(
            "store", "camera", "deployment", "model_digest", "start", name=op.f("pk_quality_buckets")
        ),
    )
    op.create_index("ix_quality_buckets_place", "quality_buckets", ["store", "start"])
    op.create_index(op.f("ix_quality_buckets_start"), "quality_buckets", ["start"])
    op.create_table(
        "memory_buckets",
        sa.Column("store", sa.String(length=63), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("start", types.UtcDateTime(), nullable=False),
        sa.Column("mb", sa.Float(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_memory_buckets_store")),
        sa.PrimaryKeyConstraint("store", "device", "deployment", "start", name=op.f("pk_memory_buckets")),
    )
    op.create_index(op.f("ix_memory_buckets_start"), "memory_buckets", ["start"])


def downgrade() -> None:
    op.drop_table("memory_buckets")
    op.drop_table("quality_buckets")
    op.drop_table("quality_marks")
