"""A node as a machine of its own: its namespaces, its /run, /var/lib and /var/log, its power switch.

Two kubelets on one kernel would clean up each other's pod logs and share every hostPath. So each node
has a PID namespace, whose first process is the node's power switch (the kernel ends everything in it
when that one ends), a mount namespace, whose mounts vanish with it, and its own network namespace.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k3s.testbed import network
from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.layout import NodeFiles, NodePlan, StorePlan
from k3s.testbed.ledger import Ledger
from k3s.testbed.processes import PROC, alive, descendants, kill, kill_all, only_child, start

CGROUPS = Path("/sys/fs/cgroup")
CONTAINERS_CGROUP = "k8s.io"
"""Where containerd puts containers when kubelet names no parent."""
TASKS = "containerd/io.containerd.runtime.v2.task/k8s.io"
BOOT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Machine:
    """One node's machine. ``power_switch`` is the program that becomes its first process.

    ``keep`` are directories outside it that its programs must find at their own paths.
    """

    store: StorePlan
    node: NodePlan
    files: NodeFiles
    power_switch: Path
    keep: tuple[Path, ...]
    ledger: Ledger

    @property
    def key(self) -> str:
        return f"{self.node.name}/machine"

    @property
    def is_on(self) -> bool:
        return self.ledger.runs(self.key)

    @property
    def pid(self) -> int:
        """Of its first process. Raises TestbedError while the node is off."""
        daemon = self.ledger.daemon(self.key)
        if daemon is None or not alive(daemon):
            raise TestbedError(f"node {self.node.name} is off: restart it with --what node")
        return daemon.pid

    def power_on(self) -> None:
        """Begin with a fresh /run; what was on its disk (/var/lib, /var/log) is still there."""
        if self.is_on:
            return
        kill_all(network.pids_in(self.node.netns))
        remove_container_cgroups(self.files.run)
        shutil.rmtree(self.files.run, ignore_errors=True)
        for directory in (self.files.run, self.files.var_lib, self.files.var_log, self.files.config):
            directory.mkdir(parents=True, exist_ok=True)
        network.plug_in(self.store, self.node)
        parent = start(
            [
                *("nsenter", f"--net=/run/netns/{self.node.netns}"),
                *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "slave"),
                *("--mount-proc", self.power_switch),
            ],
            self.files.directory / "machine.log",
        )
        pid = only_child(parent)
        self._await_power_switch(pid)
        for system, ours in (
            ("/var/lib", self.files.var_lib),
            ("/var/log", self.files.var_log),
            ("/run", self.files.run),
        ):
            self._replace(pid, Path(system), ours)
        self.ledger.record(self.key, pid)

    def power_off(self) -> None:
        """As when the plug is pulled: no goodbye on any connection, nothing is written back."""
        network.unplug(self.store, self.node)
        kill(self.ledger.daemon(self.key))
        kill_all(network.pids_in(self.node.netns))
        remove_container_cgroups(self.files.run)

    def inside(self, command: Sequence[str | Path], *, processes: bool = False) -> list[str]:
        """``command`` as run on the node; with ``processes`` as one that ends when the node does."""
        namespaces = ["--mount", "--net", *(["--pid"] if processes else [])]
        return ["nsenter", "--target", str(self.pid), *namespaces, *map(str, command)]

    def pids(self) -> list[int]:
        """Of everything on it: what loses its parent is adopted by the machine's first process."""
        return descendants(self.pid) if self.is_on else []

    def _replace(self, pid: int, system: Path, ours: Path) -> None:
        """Mount ``ours`` over a directory of the system, with what must stay visible inside it."""
        for kept in self.keep:
            if kept.is_relative_to(system):
                seen_at = ours / kept.relative_to(system)
                seen_at.mkdir(parents=True, exist_ok=True)
                self._mount(pid, "--bind", kept, seen_at)
        self._mount(pid, "--rbind", ours, system)

    def _mount(self, pid: int, how: str, source: Path, target: Path) -> None:
        run(["nsenter", "--target", str(pid), "--mount", "mount", how, source, target])

    def _await_power_switch(self, pid: int) -> None:
        end = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < end:
            try:
                if (PROC / str(pid) / "comm").read_text().strip() == self.power_switch.name[:15]:
                    return
            except OSError as error:
                raise TestbedError(
                    f"node {self.node.name} did not start: see {self.files.directory}"
                ) from error
            time.sleep(0.02)
        raise TestbedError(f"node {self.node.name} did not start within {BOOT_TIMEOUT_S} s")


def remove_container_cgroups(node_run: Path) -> None:
    """Of a node's containers, by what containerd left in its /run. Their processes must have ended."""
    containers = [path.name for path in (node_run / TASKS).glob("*")]
    for parent in [CGROUPS / CONTAINERS_CGROUP, *CGROUPS.glob(f"*/{CONTAINERS_CGROUP}")]:
        for container in containers:
            for directory in sorted((parent / container).glob("**/"), reverse=True):
                remove_cgroup(directory)
        if parent.is_dir() and not any(entry.is_dir() for entry in parent.iterdir()):
            remove_cgroup(parent)


def remove_cgroup(directory: Path) -> None:
    """A cgroup is busy for a moment after its last process; one that stays busy is somebody else's."""
    for _ in range(20):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
