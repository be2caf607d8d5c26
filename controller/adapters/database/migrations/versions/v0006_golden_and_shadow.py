"""Golden sets and what came of them; shadow runs and what came of those."""

import sqlalchemy as sa
from alembic import op

from controller.adapters.database import types

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None

NAME, DIGEST = sa.String(length=63), sa.String(length=71)


def upgrade() -> None:
    op.create_table(
        "golden_sets",
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_golden_sets")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_golden_sets_name_version")),
    )
    op.create_table(
        "golden_demands",
        sa.Column("rollout_id", sa.Uuid(), nullable=False),
        sa.Column("golden_digest", DIGEST, nullable=False),
        sa.Column("min_recall", sa.Float(), nullable=False),
        sa.Column("max_count_error", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["deployments.rollout_id"], name=op.f("fk_golden_demands_rollout_id")
        ),
        sa.ForeignKeyConstraint(
            ["golden_digest"], ["golden_sets.digest"], name=op.f("fk_golden_demands_golden_digest")
        ),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_golden_demands")),
        comment="What a deployment's model has to pass on the store's nodes before they are handed over.",
    )
    op.create_table(
        "golden_results",
        sa.Column("store", NAME, nullable=False),
        sa.Column("device", NAME, nullable=False),
        sa.Column("model_digest", DIGEST, nullable=False),
        sa.Column("golden_digest", DIGEST, nullable=False),
        sa.Column("rollout_id", sa.Uuid(), nullable=True),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("received_at", types.UtcDateTime(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_golden_results_store")),
        sa.PrimaryKeyConstraint(
            "store", "device", "model_digest", "golden_digest", name=op.f("pk_golden_results")
        ),
    )
    op.create_table(
        "shadow_orders",
        sa.Column("store", NAME, nullable=False),
        sa.Column("model_digest", DIGEST, nullable=False),
        sa.Column("cpu_percent", sa.Float(), nullable=False),
        sa.Column("until", types.UtcDateTime(), nullable=False),
        sa.Column("rollout_id", sa.Uuid(), nullable=True),
        sa.Column("requested_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_shadow_orders_store")),
        sa.ForeignKeyConstraint(
            ["model_digest"], ["models.digest"], name=op.f("fk_shadow_orders_model_digest")
        ),
        sa.PrimaryKeyConstraint("store", name=op.f("pk_shadow_orders")),
    )
    op.create_table(
        "shadow_results",
        sa.Column("store", NAME, nullable=False),
        sa.Column("device", NAME, nullable=False),
        sa.Column("model_digest", DIGEST, nullable=False),
        sa.Column("since", types.UtcDateTime(), nullable=False),
        sa.Column("received_at", types.UtcDateTime(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_shadow_results_store")),
        sa.PrimaryKeyConstraint("store", "device", "model_digest", "since", name=op.f("pk_shadow_results")),
    )


def downgrade() -> None:
    for table in ("shadow_results", "shadow_orders", "golden_results", "golden_demands", "golden_sets"):
        op.drop_table(table)
