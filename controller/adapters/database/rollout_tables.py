"""Tables of rollouts and of what judges them: golden sets, shadow runs, what cameras saw. See ``tables``."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Interval,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from controller.adapters.database.tables import DIGEST, NAME, metadata
from controller.adapters.database.types import UtcDateTime

golden_sets = Table(
    "golden_sets",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("name", "version"),
)


golden_demands = Table(
    "golden_demands",
    metadata,
    Column("rollout_id", Uuid, ForeignKey("deployments.rollout_id"), primary_key=True),
    Column("golden_digest", DIGEST, ForeignKey("golden_sets.digest"), nullable=False),
    Column("min_recall", Float, nullable=False),
    Column("max_count_error", Float, nullable=False),
    comment="What a deployment's model has to pass on the store's nodes before they are handed over.",
)


golden_results = Table(
    "golden_results",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("model_digest", DIGEST, primary_key=True),
    Column("golden_digest", DIGEST, primary_key=True),
    Column("rollout_id", Uuid),
    Column("at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("report", JSON, nullable=False),
)


shadow_orders = Table(
    "shadow_orders",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("model_digest", DIGEST, ForeignKey("models.digest"), nullable=False),
    Column("cpu_percent", Float, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("rollout_id", Uuid),
    Column("requested_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


shadow_results = Table(
    "shadow_results",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("model_digest", DIGEST, primary_key=True),
    Column("since", UtcDateTime, primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
    Column("figures", JSON, nullable=False),
)


rollouts = Table(
    "rollouts",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("release", NAME, ForeignKey("releases.name"), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("waves", JSON, nullable=False, comment="Without the stores, which are in rollout_stores."),
    Column("failed_wave", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("status_since", UtcDateTime),
    Column("settled", Boolean, nullable=False, index=True),
    Column("revision", BigInteger, nullable=False),
)


rollout_stores = Table(
    "rollout_stores",
    metadata,
    Column("rollout", NAME, ForeignKey("rollouts.name"), primary_key=True),
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("deployment", Uuid),
    Column("back_to", NAME),
    Column("exposed_at", UtcDateTime),
    Column("ready_at", UtcDateTime),
    Column("failed_at", UtcDateTime),
    Column("failure", Text, nullable=False),
    Column("restoring", Uuid),
    Column("restored_at", UtcDateTime),
    Column("skipped", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lost_at", UtcDateTime),
    Column("away", Interval, nullable=False),
    Index("ix_rollout_stores_store", "store"),
)


rollout_verdicts = Table(
    "rollout_verdicts",
    metadata,
    Column("rollout", NAME, ForeignKey("rollouts.name"), primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("gate", Integer, primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("observed_at", UtcDateTime, nullable=False),
    Column("figures", JSON, nullable=False),
    Column("judged_at", UtcDateTime, nullable=False),
    comment="One row a minute (slot) for each gate of a wave; the newest of the minute stays.",
)


store_deferrals = Table(
    "store_deferrals",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Column("by", String(128), nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)


quarantines = Table(
    "quarantines",
    metadata,
    Column("rollout_id", Uuid, ForeignKey("deployments.rollout_id"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    comment="Deployments whose events are not to be trusted, also those that are still to come.",
)


quality_marks = Table(
    "quality_marks",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("session_id", Uuid, nullable=False),
    Column("deployment", Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("cameras", JSON, nullable=False),
)


quality_buckets = Table(
    "quality_buckets",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("camera", NAME, primary_key=True),
    Column("deployment", Uuid, primary_key=True),
    Column("model_digest", DIGEST, primary_key=True),
    Column("start", UtcDateTime, primary_key=True, index=True),
    Column("frames", BigInteger, nullable=False),
    Column("detections", JSON, nullable=False),
    Column("histogram", JSON, nullable=False),
    Column("events", JSON, nullable=False),
    Column("observed_s", Float, nullable=False),
    Column("unknown_s", Float, nullable=False),
    Column("inference_ms", Float, nullable=False),
    Column("inference_samples", Integer, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Index("ix_quality_buckets_place", "store", "start"),
)


memory_buckets = Table(
    "memory_buckets",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("deployment", Uuid, primary_key=True),
    Column("start", UtcDateTime, primary_key=True, index=True),
    Column("mb", Float, nullable=False),
    Column("samples", Integer, nullable=False),
)
