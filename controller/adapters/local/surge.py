"""Which pods of a node to start and stop: a rolling update with one pod of surge, as a pure function.

The agent that watches the cameras goes only when its successor is ready. An agent that was superseded
before it ever became ready goes at once: it watches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodView:
    name: str
    """Names of newer pods sort after those of older ones."""
    template: str
    """Hash of the pod template."""
    ready: bool
    was_ready: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class Plan:
    start: bool
    stop: tuple[str, ...]


def plan(wanted: str | None, pods: Sequence[PodView]) -> Plan:
    """``wanted`` is the hash of the template that should run; None when nothing should."""
    alive = [pod for pod in pods if not pod.terminating]
    targets = [pod for pod in alive if pod.template == wanted]
    others = [pod for pod in alive if pod.template != wanted]
    if wanted is None:
        return Plan(False, tuple(pod.name for pod in others))
    best = max(targets, key=lambda pod: (pod.ready, pod.name), default=None)
    surplus = [pod.name for pod in targets if pod is not best]
    if any(pod.ready for pod in targets):
        return Plan(False, tuple(surplus + [pod.name for pod in others]))
    worth = sorted(others, key=lambda pod: (pod.ready, pod.was_ready, pod.name))
    keep = worth[-1].name if worth and worth[-1].was_ready else None
    return Plan(not targets, tuple(surplus + [pod.name for pod in others if pod.name != keep]))
