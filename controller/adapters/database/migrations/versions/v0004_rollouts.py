"""Rollouts, what they did with each store, verdicts of their gates; deferrals and quarantines."""

import sqlalchemy as sa
from alembic import op

from controller.adapters.database import types

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None

NAME = sa.String(length=63)


def upgrade() -> None:
    op.add_column("deployments", sa.Column("rollout", NAME, nullable=True))
    op.create_index(op.f("ix_deployments_rollout"), "deployments", ["rollout"])
    op.create_index("ix_audit_log_target", "audit_log", ["target"])
    op.create_table(
        "rollouts",
        sa.Column("name", NAME, nullable=False),
        sa.Column("release", NAME, nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "waves", sa.JSON(), nullable=False, comment="Without the stores, which are in rollout_stores."
        ),
        sa.Column("failed_wave", sa.Integer(), nullable=True),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("started_at", types.UtcDateTime(), nullable=True),
        sa.Column("ended_at", types.UtcDateTime(), nullable=True),
        sa.Column("status_since", types.UtcDateTime(), nullable=True),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["release"], ["releases.name"], name=op.f("fk_rollouts_release")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rollouts")),
    )
    op.create_index(op.f("ix_rollouts_settled"), "rollouts", ["settled"])
    op.create_table(
        "rollout_stores",
        sa.Column("rollout", NAME, nullable=False),
        sa.Column("store", NAME, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=True),
        sa.Column("back_to", NAME, nullable=True),
        sa.Column("exposed_at", types.UtcDateTime(), nullable=True),
        sa.Column("ready_at", types.UtcDateTime(), nullable=True),
        sa.Column("failed_at", types.UtcDateTime(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("restoring", sa.Uuid(), nullable=True),
        sa.Column("restored_at", types.UtcDateTime(), nullable=True),
        sa.Column("skipped", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lost_at", types.UtcDateTime(), nullable=True),
        sa.Column("away", sa.Interval(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.name"], name=op.f("fk_rollout_stores_rollout")),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_rollout_stores_store")),
        sa.PrimaryKeyConstraint("rollout", "store", name=op.f("pk_rollout_stores")),
    )
    op.create_index("ix_rollout_stores_store", "rollout_stores", ["store"])
    op.create_table(
        "rollout_verdicts",
        sa.Column("rollout", NAME, nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("gate", sa.Integer(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("observed_at", types.UtcDateTime(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("judged_at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.name"], name=op.f("fk_rollout_verdicts_rollout")),
        sa.PrimaryKeyConstraint("rollout", "wave", "gate", "slot", name=op.f("pk_rollout_verdicts")),
        comment="One row a minute (slot) for each gate of a wave; the newest of the minute stays.",
    )
    op.create_table(
        "store_deferrals",
        sa.Column("store", NAME, nullable=False),
        sa.Column("until", types.UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["store"], ["stores.name"], name=op.f("fk_store_deferrals_store")),
        sa.PrimaryKeyConstraint("store", name=op.f("pk_store_deferrals")),
    )
    op.create_table(
        "quarantines",
        sa.Column("rollout_id", sa.Uuid(), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["deployments.rollout_id"], name=op.f("fk_quarantines_rollout_id")
        ),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_quarantines")),
        comment="Deployments whose events are not to be trusted, also those that are still to come.",
    )


def downgrade() -> None:
    op.drop_table("quarantines")
    op.drop_table("store_deferrals")
    op.drop_table("rollout_verdicts")
    op.drop_table("rollout_stores")
    op.drop_table("rollouts")
    op.drop_index("ix_audit_log_target", "audit_log")
    op.drop_index(op.f("ix_deployments_rollout"), "deployments")
    op.drop_column("deployments", "rollout")
