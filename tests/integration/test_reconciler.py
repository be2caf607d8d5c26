"""Releases on their way to stores, with a real database: checks, reconciling, and harm that stays put."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from contract.signing import Signed
from contract.workload import ModelManifest
from controller.adapters.database import Database, migrate, open_database
from controller.adapters.memory_cluster import MemoryCluster
from controller.cluster import Applied, Cluster
from controller.deploying import LAST_KNOWN_GOOD, DeploymentOrder, make_deployments
from controller.domain.deployment import Observed
from controller.domain.fleet import Store
from controller.domain.model import Model
from controller.domain.page import PageRequest
from controller.domain.records import Deployment
from controller.domain.workload import Workload, WorkloadSettings
from controller.errors import ConflictError, InvalidError, NotFoundError, PermanentError, TransientError
from controller.reconciler import Reconciler, Tempo
from controller.releases import create_release, deploy
from controller.stores import put_config, register_store

DIGEST = "sha256:" + "a" * 64
CONFIG = """
version: 1
store: {store}
planogram:
  - {{sku: {sku}, gtin: "04012345678901", name: Cola}}
cameras: []
"""


def now() -> datetime:
    return datetime.now(UTC)


class Hanging:
    """A cluster that never answers, until it is let go."""

    def __init__(self, retry_after: float = 0.0) -> None:
        self.let_go = threading.Event()
        self.retry_after = retry_after
        self.asked = 0

    def apply(self, workload: Workload) -> Applied:
        raise AssertionError("never observed, so never applied")

    def observe(self, store: str) -> Observed:
        self.asked += 1
        self.let_go.wait(30)
        raise TransientError(f"{store} did not answer", retry_after=self.retry_after)

    def remove(self, store: str) -> None:
        raise AssertionError("nothing was removed")


class Failing:
    """A cluster that refuses or cannot be reached, until ``error`` is None."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.inner = MemoryCluster()
        self.asked: list[float] = []

    def apply(self, workload: Workload) -> Applied:
        return self.inner.apply(workload)

    def observe(self, store: str) -> Observed:
        self.asked.append(time.monotonic())
        if self.error is not None:
            raise self.error
        return self.inner.observe(store)

    def remove(self, store: str) -> None:
        self.inner.remove(store)


@dataclass
class Centre:
    database: Database
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def add_store(self, name: str, cluster: Cluster, sku: str = "cola-can") -> None:
        self.clusters[name] = cluster
        text = CONFIG.format(store=name, sku=sku)
        register_store(
            self.database, name, config_yaml=text, labels={}, cluster={"kind": "local"}, actor="t", now=now()
        )

    def release(self, name: str, model: str = "shelf:1") -> None:
        create_release(
            self.database,
            name,
            model=model,
            image=f"agent:{name}",
            notes="",
            settings={},
            actor="t",
            now=now(),
        )

    def deploy(self, release: str, *stores: str) -> list[Deployment]:
        return deploy(self.database, release, stores, actor="t", now=now(), new_id=uuid4)

    def current(self, store: str) -> Deployment:
        with self.database.reading() as repositories:
            return repositories.deployments.current([store])[0]

    def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, [self.current(store) for store in self.clusters]
            time.sleep(0.02)

    def until_state(self, store: str, state: str, words: str = "") -> Deployment:
        self.until(lambda: self.current(store).state == state and words in self.current(store).message)
        return self.current(store)

    @contextmanager
    def reconciling(self, workers: int = 4, **tempo: float) -> Iterator[Reconciler]:
        def cluster_of(store: Store) -> Cluster:
            return self.clusters[store.name]

        reconciler = Reconciler(
            self.database,
            cluster_of,
            WorkloadSettings("mqtt://b:1883", "http://c:8080"),
            lambda: b"PEM",
            now,
            lambda: 0.5,
            Tempo(workers=workers, tick_s=0.02, **{"resync_s": 0.2, **tempo}),
        )
        stop = threading.Event()
        thread = threading.Thread(target=reconciler.run, args=(stop,))
        thread.start()
        try:
            yield reconciler
        finally:
            stop.set()
            for cluster in self.clusters.values():
                if isinstance(cluster, Hanging):
                    cluster.let_go.set()
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    database = open_database(f"sqlite:///{tmp_path / 'controller.db'}")
    migrate(database)
    manifest = ModelManifest(
        digest=DIGEST, size_bytes=3, name="shelf", version="1", format="openvino", task="detect",
        names=("cola-can", "person"), image_size=(320, 320),
    )  # fmt: skip
    signed = Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln")
    with database.writing() as repositories:
        repositories.models.add(Model(DIGEST, "shelf", "1", "openvino", 3, signed.model_dump(), now()))
    yield Centre(database)
    database.close()


def settled(cluster: MemoryCluster, store: str) -> Callable[[], bool]:
    def ready() -> bool:
        if store in cluster.stores:
            cluster.settle(store)
            return True
        return False

    return ready


def test_release_goes_from_database_to_store(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    made = centre.deploy("v1", "berlin-01")[0]
    assert (made.state, made.generation) == ("pending", 1)
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        after = centre.until_state("berlin-01", "ready")
    assert after.message == "v1 ready on 1 of 1 nodes"
    assert after.ready_at is not None
    assert after.applied_at is not None
    assert after.observed_generation == after.generation
    assert cluster.observe("berlin-01").rollout_id == str(made.rollout_id)


def test_restarted_reconciler_carries_on_and_does_nothing_twice(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling():
        centre.until(lambda: "berlin-01" in cluster.stores)
    cluster.settle("berlin-01")
    with centre.reconciling():
        centre.until_state("berlin-01", "ready")
    assert cluster.stores["berlin-01"].generation == 1
    with centre.database.reading() as repositories:
        actions = [entry.action for entry in repositories.audit.page(PageRequest()).items]
    assert actions.count("deployment.apply") == 1


def test_newer_deployment_supersedes_and_remembers_the_last_good_release(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.release("v2")
    centre.release("v3")
    first = centre.deploy("v1", "berlin-01")[0]
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        centre.until_state("berlin-01", "ready")
        second = centre.deploy("v2", "berlin-01")[0]
        cluster.never_ready.add(str(second.rollout_id))
        centre.until_state("berlin-01", "progressing", "v2")
        third = centre.deploy("v3", "berlin-01")[0]
        centre.until(lambda: cluster.observe("berlin-01").rollout_id == str(third.rollout_id))
        cluster.settle("berlin-01")
        centre.until_state("berlin-01", "ready", "v3")
    assert second.detail[LAST_KNOWN_GOOD] == "v1"
    assert third.detail[LAST_KNOWN_GOOD] == "v1", "v2 was never ready"
    assert [second.generation, third.generation] == [2, 3]
    with centre.database.reading() as repositories:
        old = repositories.deployments.get(first.rollout_id)
    assert old is not None
    assert (old.state, old.superseded_by) == ("superseded", second.rollout_id)


def test_drift_is_repaired_and_audited(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        centre.until_state("berlin-01", "ready")
        template: Any = cluster.stores["berlin-01"].daemon_set["spec"]["template"]
        template["spec"]["containers"][0]["image"] = "evil:1"
        centre.until(lambda: not cluster.observe("berlin-01").drift)
        cluster.settle("berlin-01")
        centre.until_state("berlin-01", "ready")
        cluster.remove("berlin-01")
        centre.until(settled(cluster, "berlin-01"))
    with centre.database.reading() as repositories:
        entries = repositories.audit.page(PageRequest()).items
    repairs = [entry for entry in entries if entry.action == "deployment.repair_drift"]
    assert "evil:1" in str(repairs[0].detail["reason"])


def test_hanging_stores_delay_nobody_else(centre: Centre) -> None:
    """Three of four workers hang; the others' stores are still served, one after another."""
    centre.release("v1")
    for number in range(3):
        centre.add_store(f"hangs-{number}", Hanging())
    clusters = {f"lives-{number}": MemoryCluster() for number in range(5)}
    for name, cluster in clusters.items():
        centre.add_store(name, cluster)
    centre.deploy("v1", *centre.clusters)
    with centre.reconciling(workers=4, slow_s=0.3):
        for name, cluster in clusters.items():
            centre.until(settled(cluster, name))
            centre.until_state(name, "ready")
        centre.until_state("hangs-0", "unreachable", "has not answered")


def test_unreachable_store_is_backed_off_from_and_catches_up(centre: Centre) -> None:
    cluster = Failing(TransientError("no route to host", retry_after=0.2))
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling():
        centre.until_state("berlin-01", "unreachable", "no route to host")
        centre.until(lambda: len(cluster.asked) >= 3)
        pauses = [b - a for a, b in zip(cluster.asked, cluster.asked[1:], strict=False)]
        assert pauses[1] > pauses[0]
        cluster.error = None
        centre.until(settled(cluster.inner, "berlin-01"))
        centre.until_state("berlin-01", "ready")


def test_store_that_is_heard_of_again_is_looked_at_at_once(centre: Centre) -> None:
    cluster = Failing(TransientError("no route to host", retry_after=3600))
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling() as reconciler:
        centre.until_state("berlin-01", "unreachable", "no route to host")
        cluster.error = None
        reconciler.wake("berlin-01")
        centre.until(settled(cluster.inner, "berlin-01"))
        centre.until_state("berlin-01", "ready")


def test_store_that_is_heard_but_not_reached_still_backs_off(centre: Centre) -> None:
    """Its agents reach the broker; its API server is not there."""
    cluster = Failing(TransientError("no route to host", retry_after=3600))
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling() as reconciler:
        centre.until_state("berlin-01", "unreachable")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            reconciler.wake("berlin-01")
            time.sleep(0.005)
    assert len(cluster.asked) == 2


def test_store_that_comes_back_during_a_look_is_looked_at_again(centre: Centre) -> None:
    centre.add_store("berlin-01", Failing(TransientError("no route to host")))
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    hanging, back = Hanging(retry_after=3600), MemoryCluster()
    with centre.reconciling() as reconciler:
        centre.until_state("berlin-01", "unreachable")
        centre.clusters["berlin-01"] = hanging
        centre.until(lambda: hanging.asked == 1)
        reconciler.wake("berlin-01")
        centre.clusters["berlin-01"] = back
        hanging.let_go.set()
        centre.until(settled(back, "berlin-01"))


def test_stores_that_are_well_or_unknown_are_not_woken(centre: Centre) -> None:
    cluster = Failing(None)
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling(resync_s=3600) as reconciler:
        centre.until(settled(cluster.inner, "berlin-01"))
        centre.until_state("berlin-01", "ready")
        before = len(cluster.asked)
        for _ in range(20):
            reconciler.wake("berlin-01")
            reconciler.wake("nobody-knows")
            time.sleep(0.02)
    assert len(cluster.asked) == before


def test_restart_looks_first_at_what_is_not_yet_as_it_should_be(centre: Centre) -> None:
    clusters = {f"store-{number}": Failing(None) for number in range(6)}
    for name, cluster in clusters.items():
        centre.add_store(name, cluster)
    centre.release("v1")
    centre.release("v2")
    centre.deploy("v1", *clusters)
    with centre.reconciling():
        for name, cluster in clusters.items():
            centre.until(settled(cluster.inner, name))
            centre.until_state(name, "ready")
    new = centre.deploy("v2", "store-5")[0]
    inner = clusters["store-5"].inner
    for cluster in clusters.values():
        cluster.asked.clear()
    with centre.reconciling(resync_s=3600):
        centre.until(lambda: inner.observe("store-5").rollout_id == str(new.rollout_id))
        inner.settle("store-5")
        centre.until_state("store-5", "ready", "v2")
    assert [name for name, cluster in clusters.items() if cluster.asked] == ["store-5"]


def test_stores_known_to_hang_stay_in_their_half_of_the_pool(centre: Centre) -> None:
    """After a restart, and when something new is deployed to them."""
    centre.release("v1")
    centre.release("v2")
    hanging = {f"hangs-{number}": Hanging() for number in range(4)}
    for name, cluster in hanging.items():
        cluster.let_go.set()
        centre.add_store(name, cluster)
    centre.deploy("v1", *hanging)
    with centre.reconciling():
        for name in hanging:
            centre.until_state(name, "unreachable")
    for cluster in hanging.values():
        cluster.let_go.clear()
        cluster.asked = 0
    with centre.reconciling(workers=4):
        centre.until(lambda: sum(cluster.asked for cluster in hanging.values()) == 2)
        centre.deploy("v2", *hanging)
        lives = MemoryCluster()
        centre.add_store("lives", lives)
        centre.deploy("v1", "lives")
        centre.until(settled(lives, "lives"))
        centre.until_state("lives", "ready")
        assert sum(cluster.asked for cluster in hanging.values()) == 2


def test_refusal_blocks_with_the_clusters_words(centre: Centre) -> None:
    centre.add_store("berlin-01", Failing(PermanentError("credentials have expired")))
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling():
        centre.until_state("berlin-01", "blocked", "credentials have expired")


def test_bug_in_one_stores_adapter_harms_only_that_store(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("broken", Failing(ZeroDivisionError("a bug")))
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "broken", "berlin-01")
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        centre.until_state("berlin-01", "ready")


def test_nothing_is_deployed_when_one_store_cannot_run_the_release(centre: Centre) -> None:
    centre.add_store("berlin-01", MemoryCluster())
    centre.add_store("paris-02", MemoryCluster(), sku="tea-box")
    register_store(
        centre.database,
        "rome-03",
        config_yaml=None,
        labels={},
        cluster={"kind": "local"},
        actor="t",
        now=now(),
    )
    centre.release("v1")
    with pytest.raises(InvalidError) as caught:
        centre.deploy("v1", "berlin-01", "paris-02", "rome-03", "nowhere")
    words = "\n".join(caught.value.problems)
    assert "store paris-02: model shelf:1 of release v1 has no class for tea-box" in words
    assert "store rome-03 has no configuration" in words
    assert "store 'nowhere' does not exist" in words
    assert "berlin-01" not in words
    with centre.database.reading() as repositories:
        assert repositories.deployments.current() == []


def test_deployment_keeps_the_configuration_that_it_was_made_with(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    made = centre.deploy("v1", "berlin-01")[0]
    text = CONFIG.format(store="berlin-01", sku="cola-can") + "timezone: Europe/Berlin\n"
    put_config(centre.database, "berlin-01", text, actor="t", now=now())
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
    assert "Europe/Berlin" not in cluster.stores["berlin-01"].config_map["data"]["store.yaml"]
    assert centre.deploy("v1", "berlin-01")[0].config_digest != made.config_digest


@pytest.mark.parametrize(
    ("name", "model", "image", "error", "words"),
    [
        ("V 1", "shelf:1", "agent:1", InvalidError, "release name"),
        ("v2", "shelf:1", "Agent 1", InvalidError, "not an image reference"),
        ("v2", "shelf:9", "agent:1", NotFoundError, "no model 'shelf:9'"),
        ("v2", "sha256:" + "b" * 64, "agent:1", NotFoundError, "no model"),
        ("v1", "shelf:1", "agent:1", ConflictError, "exists already"),
    ],
)
def test_release_is_refused_in_words(
    centre: Centre, name: str, model: str, image: str, error: type[Exception], words: str
) -> None:
    centre.release("v1", model=DIGEST)
    with pytest.raises(error, match=words):
        create_release(
            centre.database, name, model=model, image=image, notes="", settings={}, actor="t", now=now()
        )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("STOREFLEET_MQTT_URL", "mqtt://evil:1883", "the centre sets it", id="the centre's own"),
        pytest.param("STOREFLEET_TRUSTED_KEYS_FILE", "/tmp/k", "the centre sets it", id="trusted keys"),
        pytest.param("LD_PRELOAD", "/tmp/x.so", "other code", id="preload"),
        pytest.param("PYTHONPATH", "/tmp", "other code", id="python path"),
        pytest.param("a b", "1", "a name is of", id="no name"),
        pytest.param("A=B", "1", "a name is of", id="equals sign"),
        pytest.param("THREADS", "1\n2", "one line", id="two lines"),
        pytest.param("THREADS", "1\0", "one line", id="nul"),
    ],
)
def test_settings_that_could_do_harm_are_refused(centre: Centre, name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        create_release(
            centre.database, "v1", model="shelf:1", image="agent:1", notes="",
            settings={"STOREFLEET_LOG_LEVEL": "debug", name: value}, actor="t", now=now(),
        )  # fmt: skip


def test_unknown_release_is_refused(centre: Centre) -> None:
    centre.add_store("berlin-01", MemoryCluster())
    with pytest.raises(NotFoundError, match="release 'v9' does not exist"):
        centre.deploy("v9", "berlin-01")


def test_a_release_that_was_given_up_while_its_store_was_looked_at_is_not_applied(centre: Centre) -> None:
    """As by an abort: what the reconciler decided a moment ago is asked for again right before it acts."""

    class Slow(MemoryCluster):
        def observe(self, store: str) -> Observed:
            found = super().observe(store)
            if given_up:
                centre.deploy("v1", store)
                given_up.pop()
            return found

        def apply(self, workload: Workload) -> Applied:
            applied.append(workload.daemon_set["spec"]["template"]["spec"]["containers"][0]["image"])
            return super().apply(workload)

    given_up = [True]
    applied: list[str] = []
    cluster = Slow()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.release("v2")
    centre.deploy("v2", "berlin-01")
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        centre.until_state("berlin-01", "ready", "v1")
    assert applied == ["agent:v1"]


def test_a_workload_is_taken_away_where_nothing_shall_run(centre: Centre) -> None:
    cluster = MemoryCluster()
    centre.add_store("berlin-01", cluster)
    centre.release("v1")
    centre.deploy("v1", "berlin-01")
    with centre.reconciling():
        centre.until(settled(cluster, "berlin-01"))
        centre.until_state("berlin-01", "ready")
        with centre.database.writing() as repositories:
            wanted = [DeploymentOrder("berlin-01", None)]
            make_deployments(repositories, wanted, actor="t", now=now(), new_id=uuid4)
        after = centre.until_state("berlin-01", "ready", "runs nothing")
    assert (after.desired, after.detail[LAST_KNOWN_GOOD]) == ("absent", "v1")
    assert cluster.stores == {}
