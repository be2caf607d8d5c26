"""Makes whole stores go off, come and go, or return as they were before, each by its character."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from controller.domain.workload import NAME
from storefleet.fleet_sim.failures import Character, Kind
from storefleet.fleet_sim.kubelet import MERGE
from storefleet.fleet_sim.links import Links
from storefleet.fleet_sim.objects import node_condition
from storefleet.fleet_sim.shops import Shop
from storefleet.fleet_sim.voices import Voices


class Cluster(Protocol):
    """What of the fake kubelet is needed."""

    def after(self, seconds: float, act: Callable[[], None]) -> None: ...

    def send(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any: ...


class Mishaps:
    def __init__(
        self, shops: Iterable[Shop], characters: Mapping[str, Character], links: Links, voices: Voices
    ) -> None:
        self._shops = {shop.name: shop for shop in shops}
        self._characters = characters
        self._links = links
        self._voices = voices
        self._backups: dict[str, Any] = {}
        self._begun: set[str] = set()

    def arm(self, cluster: Cluster) -> None:
        """From now on things go wrong. The fleet should be in its good state."""
        for store, character in self._characters.items():
            if character.kind is Kind.DEAD:
                cluster.after(character.away_after_s, partial(self._leave, cluster, store, silent=True))
            elif character.kind is Kind.FLAPPING:
                cluster.after(character.away_after_s, partial(self._flap, cluster, store))
            elif character.kind is Kind.OLD_RELEASE:
                self._backups[store] = cluster.send("GET", _daemon_set(store))

    def begin(self, cluster: Cluster, store: str) -> None:
        """The store got the first pod of another deployment than its first."""
        if store not in self._backups or store in self._begun:
            return
        self._begun.add(store)
        character = self._characters[store]
        cluster.after(character.away_after_s, partial(self._leave, cluster, store, silent=False))
        cluster.after(character.away_after_s + character.away_s, partial(self._from_backup, cluster, store))

    def _flap(self, cluster: Cluster, store: str) -> None:
        character = self._characters[store]
        self._leave(cluster, store, silent=False)
        cluster.after(character.away_s, partial(self._come_back, cluster, store))
        cluster.after(2 * character.away_s, partial(self._flap, cluster, store))

    def _leave(self, cluster: Cluster, store: str, *, silent: bool) -> None:
        self._links.cut(store, silent=silent)
        self._voices.silence(store)
        self._mark_node(cluster, store, ready=False)

    def _come_back(self, cluster: Cluster, store: str) -> None:
        self._mark_node(cluster, store, ready=True)
        self._links.heal(store)
        self._voices.restore(store)

    def _from_backup(self, cluster: Cluster, store: str) -> None:
        backup = self._backups[store]
        metadata = {
            k: v for k, v in backup["metadata"].items() if k not in ("resourceVersion", "managedFields")
        }
        cluster.send("PUT", _daemon_set(store), {**backup, "metadata": metadata})
        self._come_back(cluster, store)

    def _mark_node(self, cluster: Cluster, store: str, *, ready: bool) -> None:
        status = {"status": {"conditions": [node_condition(ready=ready, at=datetime.now(UTC))]}}
        cluster.send("PATCH", f"/api/v1/nodes/{self._shops[store].node}/status", status, MERGE)


def _daemon_set(store: str) -> str:
    return f"/apis/apps/v1/namespaces/{store}/daemonsets/{NAME}"
