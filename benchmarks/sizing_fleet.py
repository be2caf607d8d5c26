"""The fleet that ``benchmarks.sizing`` measures: database, stand-ins for API servers, broker, controller."""

import base64
import ipaddress
import json
import random
import ssl
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console

from contract.signing import Signed
from contract.store_config import load_store_config
from contract.workload import ModelManifest
from controller.adapters.database import Database, migrate, open_database
from controller.client import Client
from controller.domain.deployment import State
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.model import Model
from controller.domain.records import Deployment, ReleaseRecord
from controller.domain.workload import WorkloadSettings, for_server, with_last_applied
from controller.errors import ControllerError
from controller.releases import workload_of
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import Child, DemoError, free_port, listens, wait_for

DIGEST = "sha256:" + "a" * 64
RELEASES = ("v1", "v2")
APPLY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    stores: int
    latency_ms: float
    hanging: float
    refusing: float
    idle_s: float
    deployments: int


class Fleet:
    """Files, database and processes of one run; a context manager that leaves nothing behind."""

    def __init__(self, options: Options, directory: Path, ill: bool, console: Console) -> None:
        self.options = options
        self.root = directory
        self.names = [f"store-{number:05d}" for number in range(options.stores)]
        chance = random.Random(7)
        shuffled = chance.sample(self.names, len(self.names))
        hang = round(options.hanging * len(self.names)) if ill else 0
        refuse = round(options.refusing * len(self.names)) if ill else 0
        self.hanging, self.refusing = set(shuffled[:hang]), set(shuffled[hang : hang + refuse])
        self.well = shuffled[hang + refuse :]
        self._console = console
        self._children: list[Child] = []
        self._certificate = directory / "server.pem"
        self._context: ssl.SSLContext | None = None
        self.ports: dict[str, int] = {}
        self.port = free_port()
        self.url = f"sqlite:///{directory / 'controller' / 'controller.db'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.stop()

    def prepare(self) -> None:
        """Database and stand-ins as if every store had been running v1 for long."""
        (self.root / "controller").mkdir()
        database = open_database(self.url)
        migrate(database)
        self.fill(database)
        running = self.root / "running.jsonl"
        self._write_running(database, running)
        database.close()
        self._start_servers(running)
        self._write_kubeconfigs()

    def fill(self, database: Database) -> None:
        """All stores, each with a deployment that is ready, or known to be unreachable."""
        now = datetime.now(UTC)
        manifest = ModelManifest(
            digest=DIGEST, size_bytes=3, name="shelf", version="1", format="openvino", task="detect",
            names=("cola-can", "person"), image_size=(320, 320),
        )  # fmt: skip
        signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
        with database.writing() as repositories:
            repositories.models.add(Model(DIGEST, "shelf", "1", "openvino", 3, signed.model_dump(), now))
            for release in RELEASES:
                repositories.releases.add(ReleaseRecord(release, DIGEST, f"agent:{release}", now))
            for name in self.names:
                text = store_config(name)
                digest = load_store_config(text).digest
                where = {"kind": "kubernetes", "kubeconfig": str(self.root / "kubeconfigs" / name)}
                repositories.stores.add(Store(name, cluster=where, created_at=now))
                repositories.configs.put(StoreConfigVersion(name, digest, text, "benchmark", now))
                known_ill = name in self.refusing or (name in self.hanging and int(name[-1]) % 2)
                state = State.UNREACHABLE if known_ill else State.READY
                repositories.deployments.supersede(
                    [
                        Deployment(
                            uuid4(),
                            name,
                            "v1",
                            "present",
                            1,
                            state,
                            "",
                            "benchmark",
                            now,
                            digest,
                            1,
                            now,
                            now,
                        )
                    ]
                )

    def _write_running(self, database: Database, running: Path) -> None:
        fleet = WorkloadSettings("mqtt://broker.example:1883", "http://centre.example:8080")
        with database.reading() as repositories, running.open("w") as file:
            for deployment in repositories.deployments.current():
                workload = workload_of(repositories, deployment, fleet, "pem")
                daemon_set = with_last_applied(for_server(workload.daemon_set, (1, 27))[0])
                found = {"daemon_set": daemon_set, "config_map": workload.config_map}
                file.write(json.dumps({"store": deployment.store, **found}) + "\n")

    def _start_servers(self, running: Path) -> None:
        key = write_certificate(self._certificate)
        self._context = ssl.create_default_context(cafile=str(self._certificate))
        command = [sys.executable, "-m", "benchmarks.sizing_stores", "--certificate", str(self._certificate)]
        command += [
            "--key",
            str(key),
            "--latency-ms",
            str(self.options.latency_ms),
            "--running",
            str(running),
        ]
        child = self._start("stores", command)
        wait_for("the stand-ins", lambda: bool(self._said()), [child], 60)
        self.ports = self._said()[0]

    def _said(self) -> list[dict[str, Any]]:
        lines = (self.root / "stores.log").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def _write_kubeconfigs(self) -> None:
        directory = self.root / "kubeconfigs"
        directory.mkdir()
        authority = base64.b64encode(self._certificate.read_bytes()).decode()
        closed = free_port()
        for name in self.names:
            port = self.ports["silent_port"] if name in self.hanging else self.ports["port"]
            port = closed if name in self.refusing else port
            server = f"https://127.0.0.1:{port}/{name}"
            (directory / name).write_text(
                "apiVersion: v1\nkind: Config\ncurrent-context: store\n"
                f"clusters: [{{name: store, cluster: {{server: '{server}',"
                f" certificate-authority-data: {authority}}}}}]\n"
                "users: [{name: centre, user: {token: benchmark}}]\n"
                "contexts: [{name: store, context: {cluster: store, user: centre}}]\n"
            )

    def start_controller(self) -> tuple[int, Client]:
        broker = self._start_broker()
        password = self.root / "password"
        password.touch(mode=0o600)
        password.write_text(broker.passwords[CENTRE_USER])
        env = {
            "DATA_DIR": str(self.root / "controller"),
            "DATABASE_URL": self.url,
            "MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
            "MQTT_USERNAME": CENTRE_USER,
            "MQTT_PASSWORD_FILE": str(password),
            "API_PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
        }
        child = self._start(
            "controller",
            [sys.executable, "-m", "storefleet", "controller", "run"],
            {f"STOREFLEET_CONTROLLER_{key}": value for key, value in env.items()},
        )
        token = self.root / "controller" / "admin.token"
        wait_for("the controller's token", token.exists, [child], 30)
        client = Client(f"http://127.0.0.1:{self.port}", token.read_text().strip())
        wait_for("the controller", lambda: ready(client), [child], 60)
        return child.pid, client

    def _start_broker(self) -> BrokerFiles:
        broker = write_broker_files(self.root / "broker", [], free_port())
        child = self._start("mosquitto", broker.command)
        wait_for("the broker", lambda: listens(broker.port), [child], 10)
        return broker

    def _start(self, name: str, command: Sequence[str], env: dict[str, str] | None = None) -> Child:
        child = Child(name, command, self.root / f"{name}.log", env or {})
        self._children.append(child)
        return child

    def statistics(self) -> dict[str, int]:
        """``looks`` and ``bytes`` of answers so far, ``open`` connections."""
        url = f"https://127.0.0.1:{self.ports['port']}/any/statistics"
        with urllib.request.urlopen(url, context=self._context) as answer:
            found: dict[str, int] = json.load(answer)
        return found

    def delays(self, client: Client, count: int) -> list[float]:
        """Seconds from the request to deploy until the store's API server has it, one store at a time."""
        found = []
        for number, store in enumerate(self.well[:count]):
            began = time.time()
            client.post("/v1/deployments", {"release": "v2", "stores": [store]})
            while not (applied := [s["at"] for s in self._said()[1:] if s["applied"] == store]):
                if time.time() - began > APPLY_TIMEOUT_S:
                    raise DemoError(f"{store} got nothing within {APPLY_TIMEOUT_S:g} s; see {self.root}")
                time.sleep(0.02)
            found.append(applied[-1] - began)
            if number % 10 == 9:
                self._console.print(f"  deployed {number + 1} of {count}", highlight=False)
        return found


def ready(client: Client) -> bool:
    try:
        return bool(client.health()["ready"])
    except ControllerError:
        return False


def store_config(name: str) -> str:
    return (
        f"version: 1\nstore: {name}\nplanogram:\n"
        '  - {sku: cola-can, gtin: "04012345678901", name: Cola}\ncameras: []\n'
    )


def write_certificate(path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself; the path of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    file = path.with_suffix(".key")
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file
