"""Shadow runs: what stores shall try beside their model, and what came of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contract.shadow import ShadowTelemetry


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """That the nodes of a store shall try a model beside their own. One for each store."""

    store: str
    model_digest: str
    cpu_percent: float
    """Of one core of each node."""
    until: datetime
    requested_by: str
    created_at: datetime
    rollout_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """What one node counted in one life of its agent. Counts only ever rise."""

    store: str
    device: str
    model_digest: str
    since: datetime
    """When the counting began, by the node's clock."""
    received_at: datetime
    figures: Mapping[str, Any]
    """A ``contract.shadow.ShadowTelemetry`` as JSON."""

    @property
    def said(self) -> ShadowTelemetry:
        return ShadowTelemetry.model_validate(dict(self.figures))


@dataclass(frozen=True, slots=True)
class ShadowResult:
    """The candidate beside the current model, on a sample of live frames: all that a store counted."""

    model_digest: str
    at: datetime
    """When the newest figures were received."""
    frames: int
    agreed: int
    """Detections that both make."""
    only_current: Mapping[str, int]
    """By class; a heartbeat tells of those that differ most."""
    only_candidate: Mapping[str, int]
    cpu_percent: float
    """Of one core, that it cost: the highest of any node."""


def take_in(store: str, device: str, said: ShadowTelemetry, now: datetime) -> ShadowFigures:
    """``said`` as it is kept."""
    return ShadowFigures(
        store, device, said.model, said.since, now, said.model_dump(mode="json", exclude_none=True)
    )


def store_shadow(figures: Iterable[ShadowFigures], model_digest: str) -> ShadowResult | None:
    """Sums over the nodes and lives of one store. None: no node has said anything of this model."""
    chosen = [one for one in figures if one.model_digest == model_digest]
    if not chosen:
        return None
    frames = agreed = 0
    only_current: Counter[str] = Counter()
    only_candidate: Counter[str] = Counter()
    cpu_percent = 0.0
    for one in chosen:
        said = one.said
        frames += said.frames
        agreed += said.matched
        told = (
            ("only_current", said.only_current, only_current),
            ("only_candidate", said.only_candidate, only_candidate),
        )
        for side, total, counts in told:
            by_class = {name: getattr(values, side) for name, values in said.classes.items()}
            counts.update({name: count for name, count in by_class.items() if count})
            if total > sum(by_class.values()):
                counts["other"] += total - sum(by_class.values())
        cpu_percent = max(cpu_percent, said.cpu_percent)
    newest = max(one.received_at for one in chosen)
    return ShadowResult(
        model_digest, newest, frames, agreed, dict(only_current), dict(only_candidate), cpu_percent
    )
