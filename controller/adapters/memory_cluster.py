"""A cluster that exists only in memory: for tests of what uses the ``Cluster`` port, and for trying
out rollouts without stores. It behaves like the real ones, as the shared suite shows; time passes in
it when ``settle`` is called."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from threading import Lock

from controller.cluster import Applied
from controller.domain.deployment import Observed
from controller.domain.drift import drift_of
from controller.domain.workload import Manifest, Workload, rollout_of, with_last_applied


@dataclass
class _Live:
    daemon_set: Manifest
    config_map: Manifest
    generation: int = 1
    observed_generation: int = 0
    running: dict[str, Manifest] = field(default_factory=dict)
    """Node → pod template that is ready there."""


class MemoryCluster:
    def __init__(self, nodes: Sequence[str] = ("node-1",)) -> None:
        self.nodes = list(nodes)
        self.stores: dict[str, _Live] = {}
        self.never_ready: set[str] = set()
        """Rollout ids whose agents never become ready."""
        self._lock = Lock()

    def apply(self, workload: Workload) -> Applied:
        daemon_set = with_last_applied(deepcopy(workload.daemon_set))
        with self._lock:
            live = self.stores.get(workload.store)
            if live is None:
                live = self.stores[workload.store] = _Live(daemon_set, deepcopy(workload.config_map))
            elif live.daemon_set["spec"] != daemon_set["spec"]:
                live.generation += 1
            live.daemon_set, live.config_map = daemon_set, deepcopy(workload.config_map)
            return Applied(live.generation)

    def observe(self, store: str) -> Observed:
        with self._lock:
            live = self.stores.get(store)
            if live is None:
                return Observed(rollout_id=None)
            template = live.daemon_set["spec"]["template"]
            updated = [node for node in self.nodes if live.running.get(node) == template]
            images = {c["image"] for pod in live.running.values() for c in pod["spec"]["containers"]}
            waiting = [node for node in self.nodes if node not in updated]
            stuck = live.observed_generation == live.generation
            return Observed(
                rollout_id=rollout_of(live.daemon_set),
                generation=live.generation,
                observed_generation=live.observed_generation,
                desired=len(self.nodes),
                ready=sum(node in live.running for node in self.nodes),
                updated=len(updated),
                images=tuple(sorted(images)),
                problems=tuple(f"node {node}: not ready" for node in waiting) if stuck else (),
                drift=drift_of(live.daemon_set),
            )

    def remove(self, store: str) -> None:
        with self._lock:
            self.stores.pop(store, None)

    def settle(self, store: str) -> None:
        """Let as much time pass as agents need to start."""
        with self._lock:
            live = self.stores[store]
            live.observed_generation = live.generation
            if rollout_of(live.daemon_set) not in self.never_ready:
                live.running = {node: deepcopy(live.daemon_set["spec"]["template"]) for node in self.nodes}
