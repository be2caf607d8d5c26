"""What is known about a rollout's stores at one moment, as gates see it.

Everything carries the deployment that it was seen under and when: gates believe nothing else (only fresh
evidence counts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from controller.domain.golden import GoldenResult
from controller.domain.quality import QualityBucket
from controller.domain.rollout.state import Verdict
from controller.domain.shadow import ShadowResult


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The newest one of a device."""

    device: str
    deployment: UUID | None
    observed_at: datetime
    """When the centre received it."""
    memory_percent: float | None = None
    """Of the node's memory, by the agent and its camera workers."""
    restarts: int = 0
    """Agent processes after the first of this deployment."""
    memory_mb: Sequence[tuple[datetime, float]] = ()
    """Under this deployment, in order: begin of five minutes, and the mean of resident memory in them."""


@dataclass(frozen=True, slots=True)
class CameraNow:
    """What the newest heartbeat says of one camera."""

    camera: str
    deployment: UUID | None
    observed_at: datetime
    status: str
    fps_inferred: float
    fps_wanted: float | None = None
    """By the store's configuration; None: it is not in there."""
    frame_age_s: float | None = None
    inference_ms: float | None = None
    """Median."""
    inference_ms_before: float | None = None
    """Median over the store's own past, before this deployment."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the store's cluster says of its workload."""

    deployment: UUID | None
    """The one that it runs, exactly."""
    state: str
    """``controller.domain.deployment.State``."""
    message: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreEvidence:
    store: str
    labels: Mapping[str, str] = field(default_factory=dict)
    reachable: bool = True
    deployment: UUID | None = None
    """The rollout's own deployment in this store, or another one that had brought the release before; None:
    not updated."""
    ready_at: datetime | None = None
    """When it was ready; None: not yet."""
    brought: bool = True
    """Whether the deployment is the rollout's own. What ran the release before is not compared with its past
    and was asked for no golden set."""
    left_out: str = ""
    """Why this store does not count: skipped, failed, put back."""
    cluster: Cluster | None = None
    heartbeats: Sequence[Heartbeat] = ()
    cameras: Sequence[CameraNow] = ()
    cached_models: frozenset[str] | None = None
    """Digests on all of its nodes; None: not known."""
    cached_at: datetime | None = None
    golden: GoldenResult | None = None
    shadow: ShadowResult | None = None
    quality: Sequence[QualityBucket] = ()
    """Of the hours that are compared; see ``quality.spans``."""


@dataclass(frozen=True, slots=True)
class Evidence:
    model_digest: str
    """Of the release."""
    stores: Mapping[str, StoreEvidence]
    """The rollout's stores and, without ``deployment``, stores to compare them with."""


@dataclass(frozen=True, slots=True)
class External:
    """What was heard from outside for a webhook or a Prometheus gate."""

    gate: int
    """Index in the spec's ``gates``."""
    verdict: Verdict
    reason: str
    at: datetime
    """When it was asked."""
    wave: int = 0
