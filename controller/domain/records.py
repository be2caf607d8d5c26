"""What the database keeps of releases and of where they are deployed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A model, the agent image that runs it, and settings: what is pushed to stores as one."""

    name: str
    model_digest: str
    """Of a ``Model`` that the centre knows; its signed manifest is kept there."""
    agent_image: str
    """Image reference; the ``local`` cluster ignores it."""
    created_at: datetime
    created_by: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment of the agent beyond what ``contract.workload.Env`` says."""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One release on its way to, or in, one store. Exactly one per store is not superseded."""

    rollout_id: UUID
    store: str
    release: str
    desired: str
    """``present`` or ``absent``."""
    generation: int
    """Rises with every change of the store's desired state; unique per store."""
    state: str
    message: str
    requested_by: str
    created_at: datetime
    config_digest: str | None = None
    """Store configuration that goes with it."""
    observed_generation: int = 0
    applied_at: datetime | None = None
    ready_at: datetime | None = None
    superseded_by: UUID | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Last observation of the cluster, for display."""
    rollout: str | None = None
    """The fleet rollout that made it; None: made by hand."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """As much of a current deployment as is kept in memory for every store."""

    store: str
    rollout_id: UUID
    state: str
