"""Every table of the centre. A change here needs a migration; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from controller.adapters.database.types import BigId, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = String(63)
DIGEST = String(71)

stores = Table(
    "stores",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("timezone", String(64), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("cluster", JSON, nullable=False),
    Column("config_digest", DIGEST),
    Column("created_at", UtcDateTime, nullable=False),
)

store_configs = Table(
    "store_configs",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("digest", DIGEST, primary_key=True),
    Column("yaml", Text, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_reason", Text, nullable=False),
    Column("session_id", Uuid),
    Column("session_at", UtcDateTime),
    Column("agent_version", String(128), nullable=False),
    Column("model_digest", DIGEST),
    Column("model_version", String(128)),
    Column("rollout_id", Uuid),
    Column("stream_id", Uuid),
    Column("heartbeat_interval_s", Float, nullable=False),
    Column("heartbeat_at", UtcDateTime),
    Column("config_digest", DIGEST),
    Column("config_error", Text, nullable=False),
    Column("outbox_last_sequence", BigInteger, nullable=False),
    Column("outbox_pending", BigInteger, nullable=False),
    Column("outbox_full", Boolean, nullable=False),
    Column("outbox_ahead_since", UtcDateTime, index=True),
    Column("telemetry", JSON(none_as_null=True)),
    Column("cached_models", JSON(none_as_null=True)),
    Column("delivery", JSON(none_as_null=True)),
)

cameras = Table(
    "cameras",
    metadata,
    Column("store", NAME, primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("camera", NAME, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", UtcDateTime),
    Column("reported_at", UtcDateTime),
    Column("telemetry", JSON(none_as_null=True)),
    ForeignKeyConstraint(["store", "device"], ["devices.store", "devices.device"]),
)

camera_handovers = Table(
    "camera_handovers",
    metadata,
    Column("store", NAME, primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("camera", NAME, primary_key=True),
    Column("session_id", Uuid, primary_key=True),
    Column("rollout_id", Uuid, index=True),
    Column("gap_s", Float, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["store", "device"], ["devices.store", "devices.device"]),
)

zones = Table(
    "zones",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("zone", NAME, primary_key=True),
    Column("device", NAME, nullable=False),
    Column("camera", NAME, nullable=False),
    Column("sku", String(64), nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("level", String(16), nullable=False),
    Column("facings", Integer),
    Column("reason", String(32), nullable=False),
    Column("level_since", UtcDateTime, nullable=False),
    Column("event_time", UtcDateTime, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("stream_id", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("model_digest", DIGEST, nullable=False),
    Column("rollout_id", Uuid),
    Column("camera_epoch", BigInteger),
)

stock_history = Table(
    "stock_history",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("store", NAME, ForeignKey("stores.name"), nullable=False),
    Column("zone", NAME, nullable=False),
    Column("event_time", UtcDateTime, nullable=False),
    Column("stream_id", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("sku", String(64), nullable=False),
    Column("level", String(16), nullable=False),
    Column("facings", Integer),
    Index("ix_stock_history_place", "store", "zone", "event_time", "sequence"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("store", NAME, ForeignKey("stores.name"), nullable=False),
    Column("device", NAME, nullable=False),
    Column("camera", NAME, nullable=False),
    Column("zone", NAME),
    Column("type", String(96), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("event_time", UtcDateTime, nullable=False),
    Column("record_time", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("stream_id", Uuid, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("model_version", String(128), nullable=False),
    Column("model_digest", DIGEST, nullable=False),
    Column("rollout_id", Uuid),
    Column("camera_epoch", BigInteger),
    Column("retracted_by", Uuid),
    Column("data", JSON, nullable=False),
    UniqueConstraint("store", "device", "stream_id", "sequence"),
    Index("ix_events_store_time", "store", "event_time"),
    Index("ix_events_rollout", "rollout_id"),
    Index("ix_events_model", "model_digest"),
)

retractions = Table(
    "retractions",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("retracted_by", Uuid, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    comment="Retractions that came before the event they retract.",
)

streams = Table(
    "streams",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("stream_id", Uuid, primary_key=True),
    Column("highest", BigInteger, nullable=False),
    Column("committed", BigInteger, nullable=False),
    Column("advanced_at", UtcDateTime),
    Column("first_seen", UtcDateTime, nullable=False),
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("store", NAME, nullable=False),
    Column("device", NAME, nullable=False),
    Column("stream_id", Uuid, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("lost", Boolean, nullable=False),
    ForeignKeyConstraint(
        ["store", "device", "stream_id"], ["streams.store", "streams.device", "streams.stream_id"]
    ),
    Index("ix_gaps_stream", "store", "device", "stream_id"),
    Index(
        "ix_gaps_open",
        "opened_at",
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("topic", String(512), nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("store", NAME),
    Column("device", NAME),
    Column("stream_id", Uuid),
    Column("sequence", BigInteger),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("times", Integer, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("digest", DIGEST, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("version", String(128), nullable=False),
    Column("format", String(16), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("name", "version", "format"),
)

releases = Table(
    "releases",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("model_digest", DIGEST, ForeignKey("models.digest"), nullable=False),
    Column("agent_image", String(512), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("notes", Text, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

stagings = Table(
    "stagings",
    metadata,
    Column("store", NAME, ForeignKey("stores.name"), primary_key=True),
    Column("release", NAME, ForeignKey("releases.name"), primary_key=True),
    Column("model_digest", DIGEST, nullable=False),
    Column("requested_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


deployments = Table(
    "deployments",
    metadata,
    Column("rollout_id", Uuid, primary_key=True),
    Column("store", NAME, ForeignKey("stores.name"), nullable=False),
    Column("release", NAME, ForeignKey("releases.name"), nullable=False),
    Column("config_digest", DIGEST),
    Column("desired", String(16), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("observed_generation", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("requested_by", String(128), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("applied_at", UtcDateTime),
    Column("ready_at", UtcDateTime),
    Column("superseded_by", Uuid),
    Column("rollout", NAME, index=True),
    UniqueConstraint("store", "generation"),
    Index(
        "uq_deployments_current",
        "store",
        unique=True,
        sqlite_where=text("superseded_by IS NULL"),
        postgresql_where=text("superseded_by IS NULL"),
    ),
)


audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(256), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_log_target", "target"),
)
