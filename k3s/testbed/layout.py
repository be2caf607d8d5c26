"""Names and addresses of everything the testbed makes. Pure, so that clean-up can find what a crash left.

Every store is a network of its own::

    root namespace            namespace of the store                   namespaces of its nodes
    (the centre)              (its switch, control plane, cameras)     (containerd, kubelet, pods)
    10.96.I.1  ── uplink ──── bridge "lan" 10.96.I.2 ────────────────── 10.96.I.11, .12, …
                                 │
                              10.98.0.1 on "lo": the "kubernetes" service, so that pods find their
                              apiserver without kube-proxy

Cutting a store is taking the uplink's end in it down: nodes, control plane and cameras go on talking to
each other.
"""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from k3s.testbed.errors import TestbedError

BLOCKS = tuple(IPv4Network(f"10.{second}.0.0/14") for second in range(96, 128, 4))
"""Address blocks to choose from, the first that nothing on the machine uses."""
NETNS = "sftb."
MAX_STORES = 200
MAX_NODES = 8
API_PORT = 443
"""Of the apiserver, because the "kubernetes" service must have it, and nothing translates ports here."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node. ``index`` counts from 0 within the store."""

    name: str
    netns: str
    link: str
    ip: IPv4Address
    pods: IPv4Network
    index: int


@dataclass(frozen=True, slots=True)
class StorePlan:
    """One store. ``controller_ip`` is the centre as this store sees it; ``ip`` is its control plane."""

    name: str
    netns: str
    uplink: str
    lan: IPv4Network
    pods: IPv4Network
    services: IPv4Network
    nodes: tuple[NodePlan, ...]

    @property
    def controller_ip(self) -> IPv4Address:
        return self.lan[1]

    @property
    def ip(self) -> IPv4Address:
        return self.lan[2]

    @property
    def service_ip(self) -> IPv4Address:
        return self.services[1]


def netns_prefix(testbed: str) -> str:
    """What the names of a testbed's network namespaces begin with."""
    return f"{NETNS}{testbed}."


def owner_of(netns: str) -> str:
    """Whose network namespace that is; empty if it is no testbed's."""
    name, _, rest = netns.removeprefix(NETNS).partition(".")
    return name if netns.startswith(NETNS) and rest else ""


def link_prefix(testbed: str) -> str:
    """What the names of its links in the root namespace begin with (a link's name has 15 letters at most)."""
    return f"sf{hashlib.sha256(testbed.encode()).hexdigest()[:5]}-"


def plan_store(testbed: str, block: IPv4Network, name: str, index: int, nodes: int) -> StorePlan:
    """The ``index``-th store of a testbed whose addresses come from ``block`` (a /14).

    Raises:
        TestbedError: a name that Kubernetes and DNS would refuse, or more than fits.
    """
    check_name("testbed", testbed)
    check_name("store", name)
    if not 0 <= index < MAX_STORES or not 0 <= nodes <= MAX_NODES:
        raise TestbedError(f"at most {MAX_STORES} stores of {MAX_NODES} nodes fit into {block}")
    lans, all_pods, services, _ = block.subnets(new_prefix=16)
    lan = IPv4Network((int(lans.network_address) + 256 * index, 24))
    pods = IPv4Network((int(all_pods.network_address) + 256 * index, 24))
    ranges = list(pods.subnets(new_prefix=27))
    prefix = netns_prefix(testbed)
    return StorePlan(
        name=name,
        netns=prefix + name,
        uplink=f"{link_prefix(testbed)}{index}",
        lan=lan,
        pods=pods,
        services=IPv4Network((int(services.network_address), 24)),
        nodes=tuple(
            NodePlan(
                name=f"{name}-node-{number + 1}",
                netns=f"{prefix}{name}.{number + 1}",
                link=f"node{number + 1}",
                ip=lan[11 + number],
                pods=ranges[number],
                index=number,
            )
            for number in range(nodes)
        ),
    )


def check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise TestbedError(f"'{name}' cannot be a {what}'s name: use up to 32 of a-z, 0-9 and -")


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """Where a store's files are. ``directory`` is readable by root only: it holds keys and tokens."""

    directory: Path

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def etcd(self) -> Path:
        return self.directory / "etcd"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def k3s_token(self) -> Path:
        return self.directory / "k3s-token"

    def kubeconfig_of(self, user: str) -> Path:
        return self.directory / f"kubeconfig-{user}"

    def node(self, name: str) -> "NodeFiles":
        return NodeFiles(self.directory / "nodes" / name)


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Where a node's files are. ``run``, ``var_lib`` and ``var_log`` are its /run, /var/lib and /var/log."""

    directory: Path

    @property
    def run(self) -> Path:
        return self.directory / "run"

    @property
    def var_lib(self) -> Path:
        return self.directory / "var-lib"

    @property
    def var_log(self) -> Path:
        return self.directory / "var-log"

    @property
    def config(self) -> Path:
        return self.directory / "config"
