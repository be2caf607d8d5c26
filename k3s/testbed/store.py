"""One store of a testbed, as tests and commands see it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from k3s.testbed import network, users
from k3s.testbed.api import Api
from k3s.testbed.errors import TestbedError
from k3s.testbed.layout import StoreFiles, StorePlan
from k3s.testbed.ledger import Ledger
from k3s.testbed.node import Node
from k3s.testbed.processes import alive, memory_bytes

NODES_TIMEOUT_S = 180
POLL_S = 0.25


class ControlPlane(Protocol):
    """The server side of a store: separate programs (``control_plane``) or k3s's one (``k3s_server``)."""

    @property
    def programs(self) -> tuple[str, ...]: ...

    def prepare(self) -> None: ...

    def start(self) -> None: ...

    def wait_ready(self) -> None: ...

    def start_program(self, program: str, /) -> None: ...

    def kill_program(self, program: str, /) -> None: ...

    def key(self, program: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Own:
    """What only a store that the testbed started has."""

    plan: StorePlan
    files: StoreFiles
    control_plane: ControlPlane
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Store:
    """``kubeconfig`` is the administrator's. A cluster that the user named (``own`` is None) has no
    ``nodes`` here and can be neither cut nor killed."""

    name: str
    kubeconfig: Path
    nodes: tuple[Node, ...] = ()
    own: Own | None = None

    @property
    def api(self) -> Api:
        return Api.of(self.kubeconfig)

    @property
    def ip(self) -> IPv4Address:
        """Of the control plane, and of whatever runs ``in_network``."""
        return self._own().plan.ip

    @property
    def controller_ip(self) -> IPv4Address:
        """What the centre listens on for this store; out of reach while the store is cut off."""
        return self._own().plan.controller_ip

    def cut(self) -> None:
        """Sever the link between the store and the centre. Inside the store all goes on."""
        network.cut(self._own().plan)

    def heal(self) -> None:
        network.heal(self._own().plan)

    @property
    def is_cut(self) -> bool:
        return self.own is not None and network.is_cut(self.own.plan)

    def in_network(self, command: Sequence[str | Path]) -> list[str]:
        """``command`` as run in the store's network, such as its cameras: near the nodes, cut or not.

        It sees the machine's files. ``down`` ends it.
        """
        return ["nsenter", f"--net=/run/netns/{self._own().plan.netns}", *map(str, command)]

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if name in (node.name, f"node-{node.machine.node.index + 1}"):
                return node
        known = ", ".join(node.name for node in self.nodes) or "none that the testbed started"
        raise TestbedError(f"store {self.name} has no node '{name}': {known}")

    def kill(self, program: str) -> None:
        """Kill a program of the control plane: etcd, apiserver, controller-manager or scheduler; with k3s
        there is only ``k3s``."""
        self._own().control_plane.kill_program(program)

    def start(self, program: str) -> None:
        self._own().control_plane.start_program(program)

    def load_image(self, archive: Path) -> None:
        """Import an image archive (OCI or ``docker save``) into every node.

        Raises:
            TestbedError: no such file, or no image archive.
        """
        self._own()
        if not archive.is_file():
            raise TestbedError(f"there is no image archive {archive}")
        for node in self.nodes:
            node.load_image(archive)

    def service_account_kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig with the rights of a service account that exists: what the centre should use."""
        return users.service_account_kubeconfig(self.name, self._own().files, namespace, account)

    def certificate_kubeconfig(self, user: str, groups: Sequence[str] = (), *, expired: bool = False) -> Path:
        """A kubeconfig that logs in with a client certificate, or with one that has expired."""
        return users.certificate_kubeconfig(self.name, self._own().files, user, groups, expired=expired)

    def connect(self) -> None:
        plan = self._own().plan
        network.connect_store(plan)
        for node in plan.nodes:
            network.connect_node(plan, node)

    def prepare(self) -> None:
        self._own().control_plane.prepare()

    def start_runtimes(self) -> None:
        self._own().control_plane.start()
        for node in self.nodes:
            node.start_runtime()

    def start_control_plane(self) -> None:
        self._own().control_plane.wait_ready()

    def start_kubelets(self) -> None:
        for node in self.nodes:
            node.start_kubelet()

    def wait_nodes_ready(self, timeout_s: float = NODES_TIMEOUT_S) -> None:
        """Until every node that the testbed started is Ready, and the default service account is there,
        without which no pod can be made."""
        end = time.monotonic() + timeout_s
        while True:
            ready = self.ready_nodes()
            waiting = [node.name for node in self.nodes if not ready.get(node.name)]
            if not waiting and self._accepts_pods():
                return
            if time.monotonic() > end:
                what = f"nodes {', '.join(waiting)}" if waiting else "the default service account"
                raise TestbedError(
                    f"store {self.name}: {what} not ready after {timeout_s:.0f} s: see the logs"
                )
            time.sleep(POLL_S)

    def ready_nodes(self) -> dict[str, bool]:
        """Every node that the apiserver knows, and whether it is Ready."""
        return {item["metadata"]["name"]: _is_ready(item) for item in self.api.get("/api/v1/nodes")["items"]}

    def pods(self, namespace: str = "") -> list[dict[str, Any]]:
        """Kubernetes' own pod objects, of one namespace or of all."""
        inside = f"/namespaces/{namespace}" if namespace else ""
        items: list[dict[str, Any]] = self.api.get(f"/api/v1{inside}/pods")["items"]
        return items

    def programs(self) -> dict[str, int | None]:
        """Process ids of everything that was started here, by STORE/PROGRAM and NODE/PROGRAM; None of what
        has ended since."""
        if self.own is None:
            return {}
        plane, ledger = self.own.control_plane, self.own.ledger
        keys = [plane.key(program) for program in plane.programs]
        keys += [key for node in self.nodes for key in node.ledger_keys()]
        return {key: daemon.pid if alive(daemon) else None for key in keys if (daemon := ledger.daemon(key))}

    def memory_bytes(self) -> int:
        """Of everything that runs in the store, pods and cameras included; shared pages are shared out."""
        if self.own is None:
            return 0
        found = set(network.pids_in(self.own.plan.netns))
        for node in self.nodes:
            found |= set(node.machine.pids()) | set(network.pids_in(node.machine.node.netns))
        return memory_bytes(found)

    def _accepts_pods(self) -> bool:
        items = self.api.get("/api/v1/namespaces/default/serviceaccounts")["items"]
        return not self.nodes or any(item["metadata"]["name"] == "default" for item in items)

    def _own(self) -> Own:
        if self.own is None:
            raise TestbedError(
                f"store {self.name} is a cluster named by kubeconfig: the testbed only looks at it"
            )
        return self.own


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
