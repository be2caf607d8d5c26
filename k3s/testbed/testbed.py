"""The testbed: stores, their control planes and nodes, brought up, faulted and taken down.

Example::

    with Testbed(Options(name="mine", stores=("berlin-01", "paris-02"), nodes=(1, 2))) as stores:
        print(stores[0].kubeconfig, stores[1].nodes)
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from k3s.testbed import network
from k3s.testbed.binaries import Kubernetes, find_kubernetes
from k3s.testbed.control_plane import SeparatePrograms
from k3s.testbed.errors import TestbedError
from k3s.testbed.k3s_server import K3sServer
from k3s.testbed.layout import StoreFiles, StorePlan, check_name, plan_store
from k3s.testbed.ledger import Ledger, exclusive
from k3s.testbed.machine import Machine, remove_container_cgroups
from k3s.testbed.node import Node
from k3s.testbed.packages import RUN
from k3s.testbed.pause_image import build_pause
from k3s.testbed.processes import kill_all
from k3s.testbed.progress import Progress
from k3s.testbed.requirements import require
from k3s.testbed.store import ControlPlane, Own, Store

AT_ONCE = 4
LAST_LINES = 6
CAMERA_NODE = {"storefleet.io/camera-node": "true"}
"""The label that the agents' DaemonSet selects nodes by."""


def default_directory(name: str, environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "/root")) / ".local/state"
    return Path(base) / "storefleet" / "testbed" / name


@dataclass(frozen=True, slots=True)
class Options:
    """What to bring up. ``nodes`` counts each store's; its last number holds for the rest.

    ``kubeconfigs`` are clusters that exist already: then nothing is started.
    """

    name: str = "default"
    stores: tuple[str, ...] = ("store-1",)
    nodes: tuple[int, ...] = (1,)
    kubeconfigs: tuple[Path, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: dict(CAMERA_NODE))
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More arguments of a control plane's programs, by program (not k3s)."""
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def place(self) -> Path:
        return self.directory or default_directory(self.name, self.environment)

    def nodes_of(self, index: int) -> int:
        return self.nodes[min(index, len(self.nodes) - 1)]


class Testbed:
    """As a context manager: up on entry, down on exit."""

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(self, options: Options, progress: Progress | None = None) -> None:
        check_name("testbed", options.name)
        self.options = options
        self.progress = progress or Progress(quiet=True)

    def __enter__(self) -> list[Store]:
        try:
            return self.up()
        except BaseException as error:
            error.add_note(self.last_words())  # the logs go with the testbed
            self.down()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> list[Store]:
        """Bring up what ``options`` names and is not up. Stores that are up already stay, with their data.

        Raises:
            TestbedError: something is missing, or does not get ready in time.
        """
        with exclusive(self.options.place):
            ledger = Ledger.load(self.options.place)
            if self.options.kubeconfigs:
                return self._adopt(ledger)
            require_root()
            require(RUN, "running stores")
            kubernetes = find_kubernetes(self.progress, self.options.environment)
            for shortcoming in kubernetes.degraded:
                self.progress.say(f"         note: {shortcoming}")
            self._plan(ledger, kubernetes)
            stores = self._stores(ledger)
            self._start(stores)
            self.progress.total(f"{len(stores)} stores are up, from {kubernetes.origin}")
            return stores

    def stores(self) -> list[Store]:
        """The stores that an earlier ``up`` has brought up."""
        ledger = Ledger.load(self.options.place)
        if ledger.external:
            return [Store(name, Path(path)) for name, path in ledger.external.items()]
        return self._stores(ledger)

    def store(self, name: str) -> Store:
        found = {store.name: store for store in self.stores()}
        if name not in found:
            raise TestbedError(f"there is no store '{name}': there are {', '.join(found) or 'none'}")
        return found[name]

    def down(self) -> None:
        """Remove everything, also what a crash left, found by name. Nothing to remove is fine."""
        place = self.options.place
        if not any(network.leftovers(self.options.name)):
            shutil.rmtree(place, ignore_errors=True)
            return
        require_root()
        with exclusive(place):
            spaces, _ = network.leftovers(self.options.name)
            with self.progress.step(f"end the processes of {len(spaces)} network namespaces"):
                kill_all(pid for space in spaces for pid in network.pids_in(space))
            with self.progress.step("remove control groups, networks and files"):
                for node_run in place.glob("stores/*/nodes/*/run"):
                    remove_container_cgroups(node_run)
                network.remove(self.options.name)
                shutil.rmtree(place, ignore_errors=True)

    def last_words(self) -> str:
        """The end of every program's log."""
        found = []
        for log in sorted(self.options.place.glob("stores/**/*.log")):
            lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            found.append(
                f"{log.relative_to(self.options.place)}:\n" + "\n".join(f"    {line}" for line in lines)
            )
        return "\n".join(found)

    def _adopt(self, ledger: Ledger) -> list[Store]:
        """Clusters that the user named. They are only looked at."""
        if ledger.stores:
            raise TestbedError("this testbed has stores of its own: give the clusters another --name")
        names = [
            self.options.stores[i] if i < len(self.options.stores) else f"store-{i + 1}"
            for i in range(len(self.options.kubeconfigs))
        ]
        ledger.external = {
            name: str(path.absolute()) for name, path in zip(names, self.options.kubeconfigs, strict=True)
        }
        stores = [Store(name, Path(path)) for name, path in ledger.external.items()]
        for store in stores:
            with self.progress.step(f"{store.name}: apiserver {store.api.access.server}"):
                store.api.wait_ready(10)
        ledger.save()
        return stores

    def _plan(self, ledger: Ledger, kubernetes: Kubernetes) -> None:
        ledger.block = network.free_block(ledger.block)
        ledger.kubernetes = kubernetes
        for index, name in enumerate(self.options.stores):
            wanted = self.options.nodes_of(index) if kubernetes.has_nodes else 0
            ledger.stores[name] = max(wanted, ledger.stores.get(name, 0))
        for plan in self._plans(ledger):
            self.progress.say(f"         {plan.name}: {plan.lan}, {len(plan.nodes)} nodes")
        ledger.save()

    def _plans(self, ledger: Ledger) -> list[StorePlan]:
        if ledger.block is None:
            return []
        return [
            plan_store(self.options.name, ledger.block, name, index, nodes)
            for index, (name, nodes) in enumerate(ledger.stores.items())
        ]

    def _stores(self, ledger: Ledger) -> list[Store]:
        kubernetes = ledger.kubernetes
        if kubernetes is None:
            return []
        power_switch, archive = build_pause(ledger.directory)
        return [self._store(plan, ledger, kubernetes, power_switch, archive) for plan in self._plans(ledger)]

    def _store(
        self, plan: StorePlan, ledger: Ledger, kubernetes: Kubernetes, power_switch: Path, archive: Path
    ) -> Store:
        files = StoreFiles(ledger.directory / "stores" / plan.name)
        keep = (ledger.directory, *(path.parent for path in (kubernetes.kubelet, kubernetes.k3s) if path))
        nodes = [
            Node(
                Machine(plan, node, files.node(node.name), power_switch, keep, ledger),
                files,
                kubernetes,
                self.options.labels,
                archive,
                ledger,
            )
            for node in plan.nodes
        ]
        plane: ControlPlane = (
            K3sServer(plan, files, kubernetes.k3s, ledger)
            if kubernetes.k3s
            else SeparatePrograms(plan, files, kubernetes, ledger, self.options.arguments)
        )
        return Store(plan.name, files.kubeconfig, tuple(nodes), Own(plan, files, plane, ledger))

    def _start(self, stores: Sequence[Store]) -> None:
        with self.progress.step("networks"):
            for store in stores:
                store.connect()
        with self.progress.step("keys, certificates and kubeconfigs"):
            at_once([store.prepare for store in stores])
        at_once([partial(self._start_store, store) for store in stores])

    def _start_store(self, store: Store) -> None:
        with self.progress.step(f"{store.name}: containerd on {len(store.nodes)} nodes"):
            store.start_runtimes()
        with self.progress.step(f"{store.name}: control plane ready"):
            store.start_control_plane()
        with self.progress.step(f"{store.name}: nodes Ready"):
            store.start_kubelets()
            store.wait_nodes_ready()


def at_once(actions: Sequence[Callable[[], None]]) -> None:
    """Run a few at a time; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(action) for action in actions]:
            future.result()


def require_root() -> None:
    if os.geteuid() != 0:
        raise TestbedError(
            "stores need root: network namespaces, mounts and containers. Use sudo, or name clusters that "
            "exist with --kubeconfig FILE"
        )
