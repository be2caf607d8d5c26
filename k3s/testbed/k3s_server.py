"""The control plane of one store where the machine has a k3s binary: its server, without its agent.

k3s brings kube-apiserver, controller-manager, scheduler and a store in one process. Its nodes join with
``k3s agent`` (see ``node``); network plug-in and containerd are the testbed's own, as with every Kubernetes
here, so k3s's are switched off.
"""

import os
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from k3s.testbed.api import Api
from k3s.testbed.errors import TestbedError
from k3s.testbed.kubeconfig import read_kubeconfig, write_kubeconfig
from k3s.testbed.layout import API_PORT, StoreFiles, StorePlan
from k3s.testbed.ledger import Ledger
from k3s.testbed.processes import kill, start

K3S = "k3s"
READY_TIMEOUT_S = 180
SWITCHED_OFF = ("coredns", "servicelb", "traefik", "local-storage", "metrics-server")


@dataclass(frozen=True, slots=True)
class K3sServer:
    """Starts, kills and reaches the k3s server of one store."""

    store: StorePlan
    files: StoreFiles
    k3s: Path
    ledger: Ledger

    @property
    def programs(self) -> tuple[str, ...]:
        return (K3S,)

    @property
    def data(self) -> Path:
        return self.files.directory / "k3s"

    @property
    def own_kubeconfig(self) -> Path:
        return self.files.directory / "k3s-kubeconfig"

    def prepare(self) -> None:
        """The token with which nodes join."""
        self.files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.files.k3s_token.exists():
            with os.fdopen(os.open(self.files.k3s_token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(secrets.token_hex(16))

    def start(self) -> None:
        self.start_program(K3S)

    def wait_ready(self) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        while not self.own_kubeconfig.exists():
            if time.monotonic() > end or not self.ledger.runs(self.key(K3S)):
                raise TestbedError(f"k3s of {self.store.name} does not start: see {self.files.logs}")
            time.sleep(0.25)
        # Its own kubeconfig says 127.0.0.1, which is another place in the root namespace.
        access = replace(read_kubeconfig(self.own_kubeconfig), server=f"https://{self.store.ip}:{API_PORT}")
        write_kubeconfig(self.files.kubeconfig, self.store.name, access)
        self.files.pki.mkdir(mode=0o700, exist_ok=True)
        for suffix in ("crt", "key"):  # of the authority that users' certificates are signed by
            shutil.copy(self.data / f"server/tls/client-ca.{suffix}", self.files.pki / f"ca.{suffix}")
        Api(access).wait_ready(READY_TIMEOUT_S)

    def start_program(self, program: str) -> None:
        key = self.key(program)
        if not self.ledger.runs(key):
            inside = ["nsenter", f"--net=/run/netns/{self.store.netns}", *self._command()]
            self.ledger.record(key, start(inside, self.files.logs / f"{program}.log"))

    def kill_program(self, program: str) -> None:
        kill(self.ledger.daemon(self.key(program)))

    def key(self, program: str) -> str:
        if program != K3S:
            raise TestbedError(f"the control plane of {self.store.name} is one program, k3s, not '{program}'")
        return f"{self.store.name}/{program}"

    def _command(self) -> list[str | Path]:
        pods = self.store.pods
        return [
            *(self.k3s, "server", "--disable-agent"),
            f"--data-dir={self.data}",
            f"--token-file={self.files.k3s_token}",
            f"--write-kubeconfig={self.own_kubeconfig}",
            "--write-kubeconfig-mode=600",
            f"--https-listen-port={API_PORT}",
            f"--advertise-address={self.store.ip}",
            f"--node-ip={self.store.ip}",
            f"--tls-san={self.store.ip}",
            f"--service-cidr={self.store.services}",
            f"--cluster-cidr={pods}",
            "--flannel-backend=none",
            "--egress-selector-mode=disabled",
            "--disable-network-policy",
            "--disable-kube-proxy",
            "--disable-cloud-controller",
            "--disable-helm-controller",
            *(f"--disable={part}" for part in SWITCHED_OFF),
        ]
