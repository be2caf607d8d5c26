"""How far a release is staged: which nodes have its model on disk before anybody deploys it.

Worked out when somebody asks, from what the nodes last told; nothing is written as models arrive.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.domain.fleet import Device, liveness


@dataclass(frozen=True, slots=True)
class Staging:
    """That the nodes of a store shall hold the model of a release ready."""

    store: str
    release: str
    model_digest: str
    requested_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NodeProgress:
    device: str
    staged: bool
    share: float
    """Of the artifact's bytes, 0 to 1."""
    online: bool
    problem: str = ""
    """Why it is not staged, as far as the node told."""
    centre_bytes: int = 0
    """All artifact bytes that the node ever fetched from the centre."""
    peer_bytes: int = 0
    """And from other nodes of its store."""


@dataclass(frozen=True, slots=True)
class Progress:
    staging: Staging
    nodes: tuple[NodeProgress, ...]
    """Of the devices that the store has reported; none: nobody knows of a node there."""
    message: str

    @property
    def staged(self) -> int:
        return sum(node.staged for node in self.nodes)

    @property
    def percent(self) -> float:
        """Of all bytes that the store's nodes need, 0 to 100; 100 only when each has the whole model."""
        if not self.nodes:
            return 0.0
        done = sum(node.share for node in self.nodes) / len(self.nodes)
        return 100.0 if self.staged == len(self.nodes) else min(99.9, round(100 * done, 1))

    @property
    def complete(self) -> bool:
        return bool(self.nodes) and self.staged == len(self.nodes)


def progress_of(staging: Staging, size_bytes: int, devices: Iterable[Device], now: datetime) -> Progress:
    """``devices``: those of the staging's store. ``size_bytes``: of the artifact, more than 0."""
    nodes = tuple(_node(staging, size_bytes, device, now) for device in devices)
    return Progress(staging, nodes, _message(nodes))


def _node(staging: Staging, size_bytes: int, device: Device, now: datetime) -> NodeProgress:
    delivery: Mapping[str, Any] = device.delivery or {}
    alive = liveness(device, now)
    staged = staging.model_digest in (device.cached_models or ())
    share = 1.0 if staged else 0.0
    problem = ""
    if not staged:
        if delivery.get("fetching") == staging.model_digest:
            share = min(1.0, int(delivery.get("fetched_bytes", 0)) / size_bytes)
        if not alive.online:
            problem = f"offline: {alive.reason}"
        elif device.cached_models is None:
            problem = "its agent does not stage models; deploy a release with a newer agent first"
        else:
            problem = str(delivery.get("problem", ""))
    return NodeProgress(
        device.device,
        staged,
        share,
        alive.online,
        problem,
        int(delivery.get("centre_bytes", 0)),
        int(delivery.get("peer_bytes", 0)),
    )


def _message(nodes: tuple[NodeProgress, ...]) -> str:
    if not nodes:
        return "no node of this store has reported yet; it stages when one does"
    staged = sum(node.staged for node in nodes)
    words = f"staged on {staged} of {len(nodes)} nodes"
    told = [f"{node.device}: {node.problem}" for node in nodes if node.problem]
    if not told:
        return words
    more = f" (and {len(told) - 2} more)" if len(told) > 2 else ""
    return f"{words}; {'; '.join(told[:2])}{more}"
