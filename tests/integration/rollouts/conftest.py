"""A small fleet in a real database, with stores in memory, the real reconciler and the real executor."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from contract.signing import Signed
from contract.workload import ModelManifest
from controller.adapters.database import Database, migrate, open_database
from controller.adapters.memory_cluster import MemoryCluster
from controller.cluster import Applied, Cluster
from controller.crew import Worker
from controller.domain.deployment import Observed
from controller.domain.fleet import Store
from controller.domain.model import Model
from controller.domain.records import Deployment
from controller.domain.rollout.state import GateVerdict, Rollout, StoreRecord, Verdict
from controller.domain.workload import Workload, WorkloadSettings
from controller.errors import TransientError
from controller.reconciler import Reconciler, Tempo
from controller.releases import create_release, deploy
from controller.rollout_executor import Judge, RolloutExecutor, RolloutTempo, Verdicts
from controller.rollout_picture import Picture
from controller.rollouts import RolloutService
from controller.stores import register_store

CONFIG = """
version: 1
store: {store}
planogram:
  - {{sku: {sku}, gtin: "04012345678901", name: Cola}}
cameras:
  - {{id: cam-1, url: "rtsp://10.0.4.11/stream", frame_size: [1280, 720]}}
zones:
  - {{id: zone-1, camera: cam-1, sku: {sku}, capacity: 6, polygon: [[100, 80], [420, 80], [420, 230]]}}
"""


def utc() -> datetime:
    return datetime.now(UTC)


class Shop:
    """The cluster of one store. Agents of a release that is bad here never become ready."""

    def __init__(self) -> None:
        self.inner = MemoryCluster()
        self.away = False
        self.bad: set[str] = set()
        """Images whose agents do not start."""
        self.applied: list[tuple[datetime, str]] = []
        """When, and which image."""

    def apply(self, workload: Workload) -> Applied:
        self._answer()
        self.applied.append((utc(), image_of(workload)))
        return self.inner.apply(workload)

    def observe(self, store: str) -> Observed:
        self._answer()
        live = self.inner.stores.get(store)
        if live is not None and image_of(live) not in self.bad:
            self.inner.settle(store)
        return self.inner.observe(store)

    def remove(self, store: str) -> None:
        self._answer()
        self.inner.remove(store)

    def _answer(self) -> None:
        if self.away:
            raise TransientError("no route to the store", retry_after=0.05)


def image_of(workload: Any) -> str:
    return str(workload.daemon_set["spec"]["template"]["spec"]["containers"][0]["image"])


def all_pass(picture: Picture, now: datetime) -> Verdicts:
    """Every gate of every wave passes, on evidence of just now."""
    gates = picture.rollout.spec.gates
    found = [GateVerdict(i, gate.kind, Verdict.PASS, "fine", now) for i, gate in enumerate(gates)]
    return dict.fromkeys(range(len(picture.rollout.waves)), found)


@dataclass
class World:
    database: Database
    shops: dict[str, Shop] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.service = RolloutService(self.database, utc, uuid4)

    def clock(self) -> datetime:
        return utc()

    def add_stores(self, count: int, *, sku: str = "cola-can", **labels: str) -> None:
        for _ in range(count):
            name = f"s{len(self.shops):03}"
            self.shops[name] = Shop()
            register_store(
                self.database, name, config_yaml=CONFIG.format(store=name, sku=sku), labels=labels,
                cluster={"kind": "local"}, actor="t", now=utc(),
            )  # fmt: skip

    def add_release(self, name: str) -> None:
        create_release(
            self.database, name, model="shelf:1", image=f"agent:{name}", notes="", settings={}, actor="t",
            now=utc(),
        )  # fmt: skip

    def deploy(self, release: str, *stores: str) -> None:
        deploy(self.database, release, stores or list(self.shops), actor="t", now=utc(), new_id=uuid4)

    def begin(self, name: str = "spring", **spec: Any) -> Rollout:
        self.service.create({"name": name, "release": "v2", **spec}, actor="ada")
        return self.service.start(name, actor="ada")

    def rollout(self, name: str = "spring") -> Rollout:
        with self.database.reading() as repositories:
            found = repositories.rollouts.get(name)
        assert found is not None
        return found

    def records(self, name: str = "spring") -> dict[str, StoreRecord]:
        with self.database.reading() as repositories:
            return repositories.rollout_stores.of_rollout(name)

    def current(self) -> dict[str, Deployment]:
        with self.database.reading() as repositories:
            return {d.store: d for d in repositories.deployments.current()}

    def running(self) -> dict[str, str | None]:
        """Store → image of what its cluster has."""
        return {
            name: image_of(shop.inner.stores[name]) if name in shop.inner.stores else None
            for name, shop in self.shops.items()
        }

    def until(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                with self.database.reading() as repositories:
                    rollouts = [(r.name, r.status, r.reason) for r in repositories.rollouts.unsettled()]
                pytest.fail(f"not reached; {rollouts}; {self.current()}")
            time.sleep(0.02)

    def until_status(self, status: str, name: str = "spring") -> Rollout:
        self.until(lambda: self.rollout(name).status == status)
        return self.rollout(name)

    @contextmanager
    def working(self, judge: Judge = all_pass, leads: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Reconciler and executor, as in a controller."""
        stop = threading.Event()

        def cluster_of(store: Store) -> Cluster:
            return self.shops[store.name]

        workers: list[Worker] = [
            Reconciler(
                self.database, cluster_of, WorkloadSettings("mqtt://b:1883", "http://c:8080"), lambda: b"PEM",
                utc, lambda: 0.5, Tempo(workers=8, tick_s=0.02, resync_s=0.5), leads,
            ),
            RolloutExecutor(
                self.database, judge, utc, uuid4,
                RolloutTempo(tick_s=0.02, busy_s=0.2, idle_s=0.5, judge_s=0.05, soak_s=0.1), leads,
            ),
        ]  # fmt: skip
        threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            # Their pools finish what is under way, on connections of their own.
            pools = [t for t in threading.enumerate() if t.name.startswith(("reconcile", "judge"))]
            for thread in (*threads, *pools):
                thread.join(20)
                assert not thread.is_alive()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    database = open_database(database_url)
    migrate(database)
    fill(database)
    yield World(database)
    database.close()


def fill(database: Database) -> None:
    digest = "sha256:" + "a" * 64
    manifest = ModelManifest(
        digest=digest, size_bytes=3, name="shelf", version="1", format="openvino", task="detect",
        names=("cola-can", "person"), image_size=(320, 320),
    )  # fmt: skip
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    with database.writing() as repositories:
        repositories.models.add(Model(digest, "shelf", "1", "openvino", 3, signed.model_dump(), utc()))


@pytest.fixture
def fleet(world: World) -> World:
    """Thirty stores that run v1; v2 is there to be rolled out."""
    world.add_release("v1")
    world.add_release("v2")
    world.add_stores(30)
    world.deploy("v1")
    with world.working():
        world.until(lambda: all(d.state == "ready" for d in world.current().values()))
    return world


@pytest.fixture(scope="session")
def now_utc() -> Callable[[], datetime]:
    return utc
