"""Which Kubernetes the stores run: the first kind that this machine has.

1. clusters that the user names by kubeconfig: nothing is started (``external``);
2. a ``k3s`` binary;
3. the binaries in ``KUBEBUILDER_ASSETS``;
4. binaries built from Debian's source package, in a cache outside the checkout (``source_build``).
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.progress import Progress
from k3s.testbed.source_build import build_kubernetes

PROGRAM_FIELDS = ("k3s", "apiserver", "etcd", "controller_manager", "scheduler", "kubelet")
SYS_RESOURCE = 24
"""CAP_SYS_RESOURCE's bit (linux/capability.h)."""


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The programs of one Kubernetes. With ``k3s`` that one binary is all of them.

    Without ``kubelet`` stores have no nodes; without ``controller_manager`` nothing makes pods.
    """

    origin: str
    version: tuple[int, int]
    k3s: Path | None = None
    apiserver: Path | None = None
    etcd: Path | None = None
    controller_manager: Path | None = None
    scheduler: Path | None = None
    kubelet: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Kubernetes":
        """Raises KeyError or TypeError for what ``to_json`` did not make."""
        return cls(
            origin=kept["origin"],
            version=(int(kept["version"][0]), int(kept["version"][1])),
            **{name: Path(kept[name]) if kept[name] else None for name in PROGRAM_FIELDS},
        )

    @property
    def has_nodes(self) -> bool:
        return self.k3s is not None or self.kubelet is not None

    @property
    def degraded(self) -> tuple[str, ...]:
        """What is missing here that a store of today has, in words."""
        found = []
        if self.k3s is None and self.controller_manager is None:
            found.append("no kube-controller-manager: a DaemonSet makes no pods")
        if not self.has_nodes:
            found.append("no kubelet: stores have no nodes")
        if self.version < (1, 22):
            found.append(f"{self.version[0]}.{self.version[1]} has no maxSurge: an update leaves a blind gap")
        return tuple(found)


def find_kubernetes(progress: Progress, environment: Mapping[str, str]) -> Kubernetes:
    """The first Kubernetes that applies; builds one where there is none. ``environment`` is os.environ's.

    Raises:
        TestbedError: nothing is there and nothing can be built.
    """
    k3s = shutil.which("k3s", path=environment.get("PATH"))
    if k3s:
        return Kubernetes(f"k3s ({k3s})", read_version(Path(k3s)), k3s=Path(k3s))
    assets = environment.get("KUBEBUILDER_ASSETS")
    if assets:
        return from_directory(Path(assets), f"KUBEBUILDER_ASSETS ({assets})")
    return from_directory(build_kubernetes(progress, environment), "Debian's source package")


def from_directory(directory: Path, origin: str) -> Kubernetes:
    """The programs in ``directory``; etcd may also be on the PATH.

    Raises:
        TestbedError: kube-apiserver or etcd is missing.
    """

    def find(name: str) -> Path | None:
        path = directory / name
        return path if os.access(path, os.X_OK) else None

    apiserver, etcd = find("kube-apiserver"), find("etcd") or shutil.which("etcd")
    if apiserver is None or etcd is None:
        absent = "kube-apiserver" if apiserver is None else "etcd"
        raise TestbedError(f"{origin} holds no {absent}: put it there, or unset KUBEBUILDER_ASSETS")
    return Kubernetes(
        origin=origin,
        version=read_version(apiserver),
        apiserver=apiserver,
        etcd=Path(etcd),
        controller_manager=find("kube-controller-manager"),
        scheduler=find("kube-scheduler"),
        kubelet=find("kubelet"),
    )


def read_version(program: Path) -> tuple[int, int]:
    """(1, 30) of "Kubernetes v1.30.2" or "k3s version v1.30.2+k3s1 (…)"."""
    text = run([program, "--version"])
    match = re.search(r"v(\d+)\.(\d+)", text)
    if match is None:
        raise TestbedError(f"{program} does not say its version: {text.strip()!r}")
    return int(match[1]), int(match[2])


def may_adjust_oom_score() -> bool:
    """Whether this process holds CAP_SYS_RESOURCE, which lowering a container's oom_score_adj takes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> SYS_RESOURCE & 1)
    return False
