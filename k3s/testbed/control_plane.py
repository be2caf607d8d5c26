"""The control plane of one store, in the store's own network namespace.

It is a real one with one difference: etcd does not wait for the disk, because a testbed's data is worth
nothing. Users authenticate by token or client certificate; RBAC and the node authorizer are on.
"""

import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from k3s.testbed.api import Api
from k3s.testbed.binaries import Kubernetes
from k3s.testbed.certificates import Authority, make_key
from k3s.testbed.errors import TestbedError
from k3s.testbed.kubeconfig import Access, write_kubeconfig
from k3s.testbed.layout import API_PORT, StoreFiles, StorePlan
from k3s.testbed.ledger import Ledger
from k3s.testbed.processes import kill, start

READY_TIMEOUT_S = 120
POLL_S = 0.25
ADMIN = "admin"
SERVER_PROGRAMS = ("etcd", "apiserver", "controller-manager", "scheduler")
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class SeparatePrograms:
    """Starts, kills and reaches the programs of one store."""

    store: StorePlan
    files: StoreFiles
    kubernetes: Kubernetes
    ledger: Ledger
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """More of them, by program; they come last, so that they win."""

    @property
    def authority(self) -> Authority:
        return Authority(self.files.pki)

    @property
    def programs(self) -> tuple[str, ...]:
        return SERVER_PROGRAMS

    @property
    def server(self) -> str:
        return f"https://{self.store.ip}:{API_PORT}"

    def prepare(self) -> None:
        """Keys, certificates, tokens and kubeconfigs. What is there stays, so that credentials hold."""
        self.files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = self.authority
        authority.create(f"storefleet testbed {self.store.name}")
        authority.issue(
            "apiserver",
            "kube-apiserver",
            addresses=[str(self.store.ip), str(self.store.service_ip), "127.0.0.1"],
            names=["kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost"],
        )
        authority.issue("apiserver-to-kubelet", "apiserver-to-kubelet", organisations=["system:masters"])
        make_key(self.files.pki / "service-accounts.key")
        self._add_user(ADMIN, ADMIN, "system:masters", self.files.kubeconfig)
        self._add_user("controller-manager", "system:kube-controller-manager")
        self._add_user("scheduler", "system:kube-scheduler")
        for node in self.store.nodes:
            self._add_user(node.name, f"system:node:{node.name}", "system:nodes")

    def start(self) -> None:
        """Start what the rest needs. Does not wait: ``wait_ready`` does."""
        for program in SERVER_PROGRAMS[:2]:
            self.start_program(program)

    def wait_ready(self) -> None:
        """Wait for the apiserver, then start what needs it.

        Raises:
            TestbedError: it is not ready in time, or it or etcd has ended; names the log.
        """
        api = Api.of(self.files.kubeconfig)
        end = time.monotonic() + READY_TIMEOUT_S
        while not api.ready():
            for program in SERVER_PROGRAMS[:2]:
                if not self.ledger.runs(self.key(program)):
                    raise TestbedError(f"{self.key(program)} has ended: see {self.files.logs}/{program}.log")
            if time.monotonic() > end:
                log = self.files.logs / "apiserver.log"
                raise TestbedError(f"{self.server} is not ready after {READY_TIMEOUT_S} s: see {log}")
            time.sleep(POLL_S)
        for program in SERVER_PROGRAMS[2:]:
            self.start_program(program)

    def start_program(self, program: str) -> None:
        key = self.key(program)
        command = self._command(program)
        if command is None or self.ledger.runs(key):
            return
        more = self.arguments.get(program, ())
        inside = ["nsenter", f"--net=/run/netns/{self.store.netns}", *command, *more]
        # etcd 3.4 asks to be told that one knows it is less well tested on ARM.
        environment = {"ETCD_UNSUPPORTED_ARCH": "arm64"} if platform.machine() == "aarch64" else {}
        self.ledger.record(key, start(inside, self.files.logs / f"{program}.log", environment))

    def kill_program(self, program: str) -> None:
        kill(self.ledger.daemon(self.key(program)))

    def key(self, program: str) -> str:
        if program not in SERVER_PROGRAMS:
            raise TestbedError(f"a store's programs are {', '.join(SERVER_PROGRAMS)}, not '{program}'")
        return f"{self.store.name}/{program}"

    def _add_user(self, name: str, user: str, group: str = "", path: Path | None = None) -> None:
        """A token for ``user``, and the kubeconfig that uses it. The apiserver reads tokens at its start."""
        path = path or self.files.kubeconfig_of(name)
        if path.exists():
            return
        token = secrets.token_hex(16)
        access = Access(self.server, self.authority.certificate.read_bytes(), token=token)
        with os.fdopen(
            os.open(self.files.tokens, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w"
        ) as file:
            file.write(f'{token},{user},{name},"{group}"\n')
        write_kubeconfig(path, self.store.name if name == ADMIN else name, access)
        self.kill_program("apiserver")

    def _command(self, program: str) -> list[str | Path] | None:
        """The command line, or None where this Kubernetes lacks the program."""
        kubernetes, pki = self.kubernetes, self.files.pki
        match program:
            case "etcd":
                return [
                    kubernetes.etcd or "etcd",
                    f"--name={self.store.name}",
                    f"--data-dir={self.files.etcd}",
                    "--unsafe-no-fsync",
                    "--listen-client-urls=http://127.0.0.1:2379",
                    "--advertise-client-urls=http://127.0.0.1:2379",
                    "--listen-peer-urls=http://127.0.0.1:2380",
                    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
                    f"--initial-cluster={self.store.name}=http://127.0.0.1:2380",
                    "--log-level=warn",
                ]
            case "apiserver":
                return [
                    kubernetes.apiserver or "kube-apiserver",
                    "--etcd-servers=http://127.0.0.1:2379",
                    "--bind-address=0.0.0.0",
                    f"--secure-port={API_PORT}",
                    f"--advertise-address={self.store.ip}",
                    f"--tls-cert-file={pki / 'apiserver.crt'}",
                    f"--tls-private-key-file={pki / 'apiserver.key'}",
                    f"--client-ca-file={self.authority.certificate}",
                    f"--token-auth-file={self.files.tokens}",
                    "--authorization-mode=Node,RBAC",
                    "--enable-admission-plugins=NodeRestriction",
                    f"--service-cluster-ip-range={self.store.services}",
                    f"--service-account-issuer={ISSUER}",
                    f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
                    f"--service-account-key-file={pki / 'service-accounts.key'}",
                    f"--kubelet-client-certificate={pki / 'apiserver-to-kubelet.crt'}",
                    f"--kubelet-client-key={pki / 'apiserver-to-kubelet.key'}",
                    "--kubelet-preferred-address-types=InternalIP",
                    "--allow-privileged=true",
                    "--profiling=false",
                ]
            case "controller-manager":
                if kubernetes.controller_manager is None:
                    return None
                kubeconfig = self.files.kubeconfig_of("controller-manager")
                return [
                    kubernetes.controller_manager,
                    f"--kubeconfig={kubeconfig}",
                    f"--authentication-kubeconfig={kubeconfig}",
                    f"--authorization-kubeconfig={kubeconfig}",
                    "--bind-address=127.0.0.1",
                    "--leader-elect=false",
                    "--use-service-account-credentials=true",
                    f"--root-ca-file={self.authority.certificate}",
                    f"--service-account-private-key-file={pki / 'service-accounts.key'}",
                    f"--cluster-signing-cert-file={self.authority.certificate}",
                    f"--cluster-signing-key-file={self.authority.key}",
                ]
            case _:
                if kubernetes.scheduler is None:
                    return None
                kubeconfig = self.files.kubeconfig_of("scheduler")
                return [
                    kubernetes.scheduler,
                    f"--kubeconfig={kubeconfig}",
                    f"--authentication-kubeconfig={kubeconfig}",
                    f"--authorization-kubeconfig={kubeconfig}",
                    "--bind-address=127.0.0.1",
                    "--leader-elect=false",
                ]
