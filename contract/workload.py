"""What the centre puts into a pod and what the agent in it finds: environment, files, health.

The controller builds DaemonSets from these names, the agent reads its settings by them.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from contract.base import Message, UtcTime, decode
from contract.names import Digest, Sku
from contract.pod import HEALTH_STALE_S as HEALTH_STALE_S
from contract.pod import PEER_PORT as PEER_PORT
from contract.pod import PEERS_SERVICE as PEERS_SERVICE
from contract.pod import Env as Env
from contract.pod import Phase as Phase
from contract.signing import Signed


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


MANIFEST_ADAPTER = TypeAdapter(ModelManifest)
HEALTH_ADAPTER = TypeAdapter(AgentHealth)
SIGNED_ADAPTER = TypeAdapter(Signed)


def decode_manifest(payload: bytes) -> ModelManifest:
    return decode(MANIFEST_ADAPTER, payload)


def decode_health(payload: bytes) -> AgentHealth:
    return decode(HEALTH_ADAPTER, payload)


def decode_signed(payload: bytes) -> Signed:
    return decode(SIGNED_ADAPTER, payload)
