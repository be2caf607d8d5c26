"""What the centre puts into a pod and what the agent in it finds: environment, files, health.

The controller builds DaemonSets from these names, the agent reads its settings by them.
"""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from contract.base import Message, UtcTime, decode
from contract.names import Digest, Sku
from contract.signing import Signed


class Env(StrEnum):
    """Environment variables of the agent's containers."""

    STORE = "STOREFLEET_STORE"
    DEVICE = "STOREFLEET_DEVICE"
    """The node's name."""
    MQTT_URL = "STOREFLEET_MQTT_URL"
    """``mqtt://host:port`` or ``mqtts://host:port``, without credentials."""
    MQTT_USERNAME = "STOREFLEET_MQTT_USERNAME"
    MQTT_PASSWORD_FILE = "STOREFLEET_MQTT_PASSWORD_FILE"  # noqa: S105 - a path
    MQTT_CA_FILE = "STOREFLEET_MQTT_CA_FILE"
    CONTROLLER_URL = "STOREFLEET_CONTROLLER_URL"
    ARTIFACT_TOKEN_FILE = "STOREFLEET_ARTIFACT_TOKEN_FILE"  # noqa: S105 - a path
    CONFIG_FILE = "STOREFLEET_CONFIG_FILE"
    """The store configuration (``contract.store_config``), watched for changes."""
    MODEL_MANIFEST_FILE = "STOREFLEET_MODEL_MANIFEST_FILE"
    """A ``Signed`` whose payload is a ``ModelManifest``."""
    TRUSTED_KEYS_FILE = "STOREFLEET_TRUSTED_KEYS_FILE"
    """PEM public keys that may sign manifests."""
    DATA_DIR = "STOREFLEET_DATA_DIR"
    """Outbox, lock and model cache of the node; survives pods."""
    HEALTH_FILE = "STOREFLEET_HEALTH_FILE"
    """Where this pod's agent writes ``AgentHealth`` for the probes; not shared between pods."""
    ROLLOUT_ID = "STOREFLEET_ROLLOUT_ID"
    FETCH_RATE = "STOREFLEET_FETCH_RATE"
    """Bytes a second at most from the centre; 0: as fast as it goes."""
    CACHE_MAX_BYTES = "STOREFLEET_CACHE_MAX_BYTES"
    """How large the node's model cache may grow; 0: as large as the disk."""
    PEER_PORT = "STOREFLEET_PEER_PORT"
    """Where the agent serves its cached models to the store's other nodes; 0: not at all."""
    PEERS_HOST = "STOREFLEET_PEERS_HOST"
    """Names or addresses of the store's other nodes, comma separated, ``host`` or ``host:port``."""

    CAMERA_LEASES = "STOREFLEET_CAMERA_LEASES"
    """How nodes of the store share its cameras: ``kubernetes`` for Leases in the pod's namespace, or a
    directory that all of them see. Empty: every node watches all cameras, as is right where there is one."""
    GOLDEN_MANIFEST_FILE = "STOREFLEET_GOLDEN_MANIFEST_FILE"
    """A ``Signed`` whose payload is a ``contract.golden.GoldenManifest``: what the model has to pass here."""
    GOLDEN_MIN_RECALL = "STOREFLEET_GOLDEN_MIN_RECALL"
    """Of each class, 0 to 1."""
    GOLDEN_MAX_COUNT_ERROR = "STOREFLEET_GOLDEN_MAX_COUNT_ERROR"
    """Mean absolute error in facings of each class and frame."""


PEER_PORT = 8471
"""Where agents serve artifacts to one another in a cluster."""
PEERS_SERVICE = "storefleet-agent-peers"
"""The headless Service that resolves to the store's agents."""


class ModelManifest(Message):
    """What a model artifact is. Signed by the centre; the agent believes nothing else."""

    digest: Digest
    """Of the artifact's bytes."""
    size_bytes: Annotated[int, Field(gt=0, le=4 * 1024**3)]
    name: Annotated[str, Field(max_length=128)]
    version: Annotated[str, Field(max_length=128)]
    format: Literal["openvino", "onnx"]
    """``openvino``: a stored (uncompressed) zip of ``model.xml``, ``model.bin``, ``metadata.yaml``.
    ``onnx``: the ONNX file itself."""
    task: Literal["detect"]
    names: tuple[Sku, ...]
    """Class names by class id."""
    image_size: tuple[int, int]
    """Height and width in pixels."""


Phase = Literal["starting", "standby", "active", "draining", "failed"]


class AgentHealth(Message):
    """What the probes look at; rewritten at least every 2 s.

    ``standby``: model loaded, cameras opened, waiting for the node's lock that the agent of the
    previous release still holds. Ready means standby or active.
    """

    pid: int
    at: UtcTime
    phase: Phase
    model_digest: Digest | None = None
    rollout_id: UUID | None = None
    cameras: int = 0
    cameras_fresh: int = 0
    cameras_unreachable: int = 0
    last_inference_at: UtcTime | None = None
    error: str = ""


HEALTH_STALE_S = 10.0
"""Health older than this means that the agent no longer turns."""

MANIFEST_ADAPTER = TypeAdapter(ModelManifest)
HEALTH_ADAPTER = TypeAdapter(AgentHealth)
SIGNED_ADAPTER = TypeAdapter(Signed)


def decode_manifest(payload: bytes) -> ModelManifest:
    return decode(MANIFEST_ADAPTER, payload)


def decode_health(payload: bytes) -> AgentHealth:
    return decode(HEALTH_ADAPTER, payload)


def decode_signed(payload: bytes) -> Signed:
    return decode(SIGNED_ADAPTER, payload)
