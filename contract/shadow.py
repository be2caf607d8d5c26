"""A shadow run: a candidate model looks at a sample of live frames beside the current one, and reports
nothing but how the two differ.

The order is a retained ``Signed`` on ``storefleet/v1/{store}/shadow``, since it makes a store load a model;
it names its store and its end, so that it can be neither moved to another store nor played back for ever.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from contract.base import Message, UtcTime, decode
from contract.names import Digest, Name, Sku
from contract.workload import ModelManifest

MAX_SHADOW_CLASSES = 100
"""Classes that a heartbeat tells of one by one: those that differ most."""

Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]


class ShadowOrder(Message):
    """Replaces the order before it; an empty message withdraws it."""

    kind: Literal["shadow"] = "shadow"
    store: Name
    model: ModelManifest
    cpu_percent: Annotated[float, Field(gt=0, le=100)]
    """Of one core, at most, on the average."""
    until: UtcTime
    rollout_id: UUID | None = None
    """The rollout that wants to know."""


class ShadowClass(Message):
    """Detections of one class since the counting began."""

    matched: Count = 0
    only_current: Count = 0
    only_candidate: Count = 0


class ShadowTelemetry(Message):
    """How the candidate compares so far, on this node. Counts only ever rise for the same ``model`` and
    ``since``."""

    model: Digest
    rollout_id: UUID | None = None
    state: Literal["waiting", "fetching", "loading", "running", "ended", "failed"]
    """``waiting``: for a frame of a camera that is online. ``ended``: by its date or withdrawn."""
    problem: Annotated[str, Field(max_length=1000)] = ""
    since: UtcTime
    """When the counting began."""
    frames: Count = 0
    """Frames that both models looked at."""
    matched: Count = 0
    """Detections that both make: same class, IoU 0.5 or more."""
    only_current: Count = 0
    only_candidate: Count = 0
    classes: Annotated[dict[Sku, ShadowClass], Field(max_length=MAX_SHADOW_CLASSES)] = Field(
        default_factory=dict
    )
    confidence_delta: float | None = None
    """Mean of the candidate's confidence less the current one's, over what both see."""
    inference_ms_p50: NonNegative | None = None
    inference_ms_p95: NonNegative | None = None
    """Of the candidate, which has one thread and the lowest priority: the live ones do not compare."""
    cpu_ms: NonNegative | None = None
    """Processor time of one candidate's inference, on the average."""
    cpu_percent: NonNegative = 0.0
    """Of one core, spent so far, loading included, on the average since ``since``."""


ORDER_ADAPTER = TypeAdapter(ShadowOrder)


def decode_shadow_order(payload: bytes) -> ShadowOrder:
    return decode(ORDER_ADAPTER, payload)
