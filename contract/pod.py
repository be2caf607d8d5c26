"""What a pod of the agent is told by name: environment, ports, phases.

Apart from the messages in ``contract.workload``, because probes read it and may import little: pydantic
alone costs several times what the whole probe does.
"""

from enum import StrEnum
from typing import Literal


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
    DETECTOR_DEVICE = "STOREFLEET_DETECTOR_DEVICE"
    """What computes: ``cpu``, ``gpu`` (Intel's, by OpenVINO) or ``cuda`` (NVIDIA's, by ONNX Runtime)."""
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

Phase = Literal["starting", "standby", "active", "draining", "failed"]

HEALTH_STALE_S = 10.0
"""Health older than this means that the agent no longer turns."""
