"""What runs on a node: containerd and kubelet, with their configurations."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from k3s.testbed.binaries import Kubernetes, may_adjust_oom_score
from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.layout import API_PORT, StoreFiles
from k3s.testbed.ledger import Ledger
from k3s.testbed.machine import Machine
from k3s.testbed.packages import CNI_BIN
from k3s.testbed.pause_image import PAUSE_IMAGE
from k3s.testbed.processes import kill, only_child, start

NODE_PROGRAMS = ("containerd", "kubelet")
WHOLE = "node"
SOCKET = "/run/containerd/containerd.sock"
READY_TIMEOUT_S = 60
IMPORT_TIMEOUT_S = 600
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Node:
    """Starts, kills and restarts what runs on one machine."""

    machine: Machine
    store_files: StoreFiles
    kubernetes: Kubernetes
    labels: Mapping[str, str]
    pause_archive: Path
    ledger: Ledger

    @property
    def name(self) -> str:
        return self.machine.node.name

    @property
    def ip(self) -> IPv4Address:
        return self.machine.node.ip

    def host_path(self, path: str) -> Path:
        """Where a hostPath below /var/lib, /var/log or /run of this node is seen from outside it."""
        wanted = Path(path)
        files = self.machine.files
        for system, ours in (("/var/lib", files.var_lib), ("/var/log", files.var_log), ("/run", files.run)):
            if wanted.is_relative_to(system):
                return ours / wanted.relative_to(system)
        raise TestbedError(f"{path} is not the node's own: only /var/lib, /var/log and /run are")

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """``command`` as run on this node, by root, with the node's /var/lib, /var/log and /run."""
        return self.machine.inside(command, processes=True)

    def start_runtime(self) -> None:
        """Switch the machine on, with containerd. The apiserver need not be there yet."""
        self.machine.power_on()
        self._configure()
        self.start_program("containerd")

    def start_kubelet(self) -> None:
        """Does not wait for the node to be Ready."""
        self.start_program("kubelet")

    def start(self, what: str) -> None:
        """Start ``containerd``, ``kubelet``, or all of the ``node``; what runs already stays."""
        if what == WHOLE:
            self.start_runtime()
            self.start_kubelet()
        else:
            self.start_program(what)

    def kill(self, what: str) -> None:
        """Without notice: ``containerd`` or ``kubelet`` by SIGKILL (containers go on), or the plug of the
        whole ``node`` is pulled."""
        if what == WHOLE:
            self.machine.power_off()
        else:
            kill(self.ledger.daemon(self.key(what)))

    def start_program(self, program: str) -> None:
        key = self.key(program)
        if self.ledger.runs(key):
            return
        log = self.machine.files.directory / f"{program}.log"
        command = self.machine.inside(self._command(program), processes=True)
        self.ledger.record(key, only_child(start(command, log)))
        if program == "containerd":
            self._await_containerd(log)
            self.load_image(self.pause_archive)

    def load_image(self, archive: Path) -> None:
        """Import an image archive (OCI or ``docker save``) for pods to use.

        Raises:
            TestbedError: the node is off, or the file is no image archive.
        """
        try:
            self.ctr("images", "import", "-", stdin=archive)
        except TestbedError as error:
            raise TestbedError(f"{self.name} cannot import {archive} as an image archive: {error}") from error

    def images(self) -> list[str]:
        return [name for name in self.ctr("images", "list", "-q").split() if not name.startswith("sha256:")]

    def ctr(self, *arguments: str, stdin: Path | None = None) -> str:
        """Ask the node's containerd, in Kubernetes' own namespace of it."""
        command = self.machine.inside(["ctr", "--address", SOCKET, "--namespace", "k8s.io", *arguments])
        return run(command, stdin=stdin, timeout_s=IMPORT_TIMEOUT_S)

    def ledger_keys(self) -> list[str]:
        """Of everything that runs here, for the ledger."""
        return [self.machine.key, *map(self.key, NODE_PROGRAMS)]

    def key(self, program: str) -> str:
        if program not in NODE_PROGRAMS:
            raise TestbedError(f"on a node there are {', '.join(NODE_PROGRAMS)} and {WHOLE}, not '{program}'")
        return f"{self.name}/{program}"

    def _command(self, program: str) -> list[str | Path]:
        config = self.machine.files.config
        if program == "containerd":
            return ["containerd", "--config", config / "containerd.toml"]
        if self.kubernetes.k3s is not None:
            return self._k3s_agent(self.kubernetes.k3s)
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        return [
            self.kubernetes.kubelet or "kubelet",
            f"--config={config / 'kubelet.json'}",
            f"--kubeconfig={self.store_files.kubeconfig_of(self.name)}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.machine.node.ip}",
            *([f"--node-labels={labels}"] if labels else []),
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
            f"--container-runtime-endpoint=unix://{SOCKET}",
            # dockershim was the default until it was removed in 1.24, and this flag with it.
            *(["--container-runtime=remote"] if self.kubernetes.version < (1, 24) else []),
        ]

    def _k3s_agent(self, k3s: Path) -> list[str | Path]:
        """k3s's kubelet with our containerd, which copes with machines that k3s's own does not."""
        kubelet = ("cgroups-per-qos=false", "enforce-node-allocatable=", "fail-swap-on=false")
        return [
            *(k3s, "agent", f"--server=https://{self.machine.store.ip}:{API_PORT}"),
            f"--token-file={self.store_files.k3s_token}",
            f"--node-name={self.name}",
            f"--node-ip={self.machine.node.ip}",
            *(f"--node-label={key}={value}" for key, value in self.labels.items()),
            f"--container-runtime-endpoint=unix://{SOCKET}",
            f"--pause-image={PAUSE_IMAGE}",
            f"--resolv-conf={self.machine.files.config / 'resolv.conf'}",
            *(f"--kubelet-arg={argument}" for argument in kubelet),
        ]

    def _configure(self) -> None:
        config = self.machine.files.config
        (config / "cni").mkdir(parents=True, exist_ok=True)
        (config / "cni/10-store.conflist").write_text(json.dumps(self._cni(), indent=1))
        (config / "resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
        (config / "kubelet.json").write_text(json.dumps(self._kubelet(), indent=1))
        (config / "containerd.toml").write_text(self._containerd())

    def _cni(self) -> dict[str, Any]:
        """A pair of links from each pod to its node, which routes. No NAT, so no iptables."""
        pods = str(self.machine.node.pods)
        ipam = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
        return {
            "cniVersion": "0.4.0",
            "name": "store",
            "plugins": [{"type": "ptp", "ipMasq": False, "mtu": 1400, "ipam": ipam}],
        }

    def _containerd(self) -> str:
        """TOML; JSON's strings and booleans are TOML's."""
        config = self.machine.files.config
        snapshotter = "native" if _filesystem(config) == "overlay" else "overlayfs"
        restrict = json.dumps(not may_adjust_oom_score())
        return (
            "version = 2\n"
            'disabled_plugins = ["io.containerd.internal.v1.opt"]\n'
            "[grpc]\n"
            f"address = {json.dumps(SOCKET)}\n"
            '[plugins."io.containerd.grpc.v1.cri"]\n'
            f"sandbox_image = {json.dumps(PAUSE_IMAGE)}\n"
            f"restrict_oom_score_adj = {restrict}\n"
            '[plugins."io.containerd.grpc.v1.cri".containerd]\n'
            f"snapshotter = {json.dumps(snapshotter)}\n"
            '[plugins."io.containerd.grpc.v1.cri".cni]\n'
            f"bin_dir = {json.dumps(CNI_BIN)}\n"
            f"conf_dir = {json.dumps(str(config / 'cni'))}\n"
        )

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": str(self.machine.node.ip),
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.store_files.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "resolvConf": str(self.machine.files.config / "resolv.conf"),
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # A changed condition is noticed at once, not within 10 s; unchanged ones are reported as rarely
            # as in production.
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "5m",
            "makeIPTablesUtilChains": False,
            "maxPods": self.machine.node.pods.num_addresses - 3,
            # The disk is the developer's, not the store's: neither delete images nor evict for its sake.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "100Mi"},
        }

    def _await_containerd(self, log: Path) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self.ctr("version")
            except TestbedError as error:
                if time.monotonic() > end or not self.ledger.runs(self.key("containerd")):
                    raise TestbedError(f"containerd of {self.name} does not answer: see {log}") from error
                time.sleep(POLL_S)
            else:
                return


def _filesystem(path: Path) -> str:
    """The type of the file system that holds ``path``: overlays cannot be stacked on an overlay."""
    return run(["stat", "--file-system", "--format=%T", path]).strip().removesuffix("fs")
