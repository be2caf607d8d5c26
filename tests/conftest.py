"""What several kinds of tests share: a device as the messages it sends, an empty database of each kind."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contract.events import (
    EVENT_CLASSES,
    CameraStatusChanged,
    Event,
    EventBase,
    event_source,
)
from contract.messages import DeviceState, Telemetry
from contract.names import StockLevel
from contract.topics import DeviceTopics
from controller.ports import Received
from storefleet.demo.processes import free_port

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
KINDS: dict[str, type[EventBase]] = {
    cls.model_fields["type"].default.split(".")[-2]: cls for cls in EVENT_CLASSES
}
EXTRA: dict[str, dict[str, Any]] = {
    "picked": {"quantity": 1},
    "put_back": {"quantity": 1},
    "restocked": {"quantity": 1},
    "misplaced": {"found_sku": "other", "found_count": 1},
    "zone_unknown": {"reason": "camera_unhealthy", "level": "unknown"},
    "zone_known": {"unknown_s": 1.0},
    "retracted": {"retracts": str(UUID(int=1)), "retracted_type": "low_stock", "reason": "seen again"},
}


@dataclass
class FakeDevice:
    store: str = "berlin-01"
    device: str = "node-1"
    stream: UUID = field(default_factory=uuid4)
    session: UUID = field(default_factory=uuid4)

    @property
    def topics(self) -> DeviceTopics:
        return DeviceTopics(self.store, self.device)

    def event(self, sequence: int, kind: str = "facings_changed", **changes: Any) -> Event:
        """The event of that number, one second apart from ``NOW``; ``data`` is merged, the rest replaced."""
        at = NOW + timedelta(seconds=sequence - 1000)
        zone = {"sku": "cola", "capacity": 6, "facings": sequence % 7, "level": StockLevel.STOCKED}
        values: dict[str, Any] = {
            "id": uuid4(),
            "source": event_source(self.store, self.device, "cam-1"),
            "subject": "zone-1",
            "time": at,
            "recordtime": at,
            "streamid": self.stream,
            "sequence": sequence,
            "modelversion": "1",
            "modeldigest": DIGEST,
        }
        cls = KINDS[kind]
        if cls is CameraStatusChanged:
            values["subject"] = None
            values["data"] = {"status": "dark"} | changes.pop("data", {})
        else:
            values["data"] = zone | EXTRA.get(kind, {}) | changes.pop("data", {})
        made: Event = cls.model_validate(values | changes)  # type: ignore[assignment]
        return made

    def birth(self, **changes: Any) -> DeviceState:
        values = {"status": "online", "session_id": self.session, "at": NOW, "stream_id": self.stream}
        return DeviceState.model_validate(values | changes)

    def heartbeat(self, last_sequence: int = 0, pending: int = 0, **changes: Any) -> Telemetry:
        values = {
            "session_id": self.session,
            "at": NOW,
            "interval_s": 2.0,
            "agent_version": "0.1.0",
            "model": {"digest": DIGEST, "version": "1"},
            "config_digest": DIGEST,
            "device": {"cpu_percent": 1, "memory_mb": 1, "memory_percent": 1, "disk_free_mb": 1},
            "outbox": {"stream_id": self.stream, "last_sequence": last_sequence, "pending": pending},
        }
        return Telemetry.model_validate(values | changes)

    def sent(self, message: Any, *, at: datetime = NOW, retained: bool = False) -> Received:
        if isinstance(message, EventBase):
            topic = self.topics.events
        elif isinstance(message, DeviceState):
            topic = self.topics.state
        elif isinstance(message, Telemetry):
            topic = self.topics.telemetry
        else:
            topic = self.topics.camera_status(message.camera)
        return Received(topic, message.to_bytes(), at, retained)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture(scope="session")
def new_device() -> Callable[..., FakeDevice]:
    return FakeDevice


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


class Postgres:
    """A PostgreSQL server of our own on a free local port, which may be stopped and started."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._data = directory / "data"
        self._log = directory / "log"
        # PostgreSQL refuses to run as root.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.port = free_port()
        if self._as_user:
            shutil.chown(directory, "postgres", "postgres")
        self._run("initdb", "-A", "trust", "-U", "storefleet", "-E", "UTF8", "--locale=C", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://storefleet@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._log), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        pytest.fail("PostgreSQL is not installed: run scripts/setup.sh test")
    directory = Path(tempfile.mkdtemp(prefix="storefleet-postgres-"))
    server = Postgres(found[-1].parent, directory)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    yield postgres.url(name)
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'central.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
