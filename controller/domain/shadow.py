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
class StoreShadow:
    """All that a store's nodes counted for one model."""

    model_digest: str
    at: datetime
    """When the newest figures were received."""
    frames: int
    agreed: int
    only_current: Mapping[str, int]
    """By class; a heartbeat tells of those that differ most."""
    only_candidate: Mapping[str, int]
    cpu_percent: float
    """Of one core: the highest of any node."""
    problems: tuple[str, ...] = ()
    """What keeps nodes from running it, by node."""


def take_in(store: str, device: str, said: ShadowTelemetry, now: datetime) -> ShadowFigures:
    """``said`` as it is kept."""
    return ShadowFigures(
        store, device, said.model, said.since, now, said.model_dump(mode="json", exclude_none=True)
    )


def store_shadow(figures: Iterable[ShadowFigures], model_digest: str) -> StoreShadow | None:
    """Sums over the nodes and lives of one store. None: no node has said anything of this model."""
    chosen = [one for one in figures if one.model_digest == model_digest]
    if not chosen:
        return None
    frames = agreed = 0
    only_current: Counter[str] = Counter()
    only_candidate: Counter[str] = Counter()
    last: dict[str, ShadowFigures] = {}
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
        if one.device not in last or last[one.device].received_at <= one.received_at:
            last[one.device] = one
    problems = [f"{device}: {one.said.problem}" for device, one in sorted(last.items()) if one.said.problem]
    newest = max(one.received_at for one in chosen)
    return StoreShadow(
        model_digest,
        newest,
        frames,
        agreed,
        dict(only_current),
        dict(only_candidate),
        cpu_percent,
        tuple(problems),
    )
