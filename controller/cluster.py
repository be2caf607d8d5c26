"""The port to whatever runs agents in a store: a Kubernetes cluster, or this machine.

Level-triggered and idempotent: applying the same workload twice changes nothing, and no method waits
for agents to come up. Each method returns within the adapter's call timeout and raises
``TransientError`` (the store cannot be reached just now) or ``PermanentError`` (someone must act).
"""

from dataclasses import dataclass
from typing import Protocol

from controller.domain.deployment import Observed
from controller.domain.workload import Workload


@dataclass(frozen=True, slots=True)
class Applied:
    generation: int
    """Of the workload after the change; it rises only when something changed."""
    degraded: tuple[str, ...] = ()
    """What this cluster cannot do, in words for an operator."""


class Cluster(Protocol):
    def apply(self, workload: Workload) -> Applied:
        """Make the store's workload this one."""

    def observe(self, store: str) -> Observed:
        """How the store's workload is doing. ``Observed(rollout_id=None)`` where there is none."""

    def remove(self, store: str) -> None:
        """Take the workload away. The nodes' data stays. Nothing happens where there is none."""
