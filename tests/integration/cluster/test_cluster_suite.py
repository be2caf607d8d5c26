"""One suite for every ``Cluster`` adapter: memory, local processes, Kubernetes (recorded answers), and
stores that are told over a real broker and whose deployer applies to one of the former."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signing import sign
from contract.topics import DEPLOYER_SUBSCRIPTIONS
from controller.adapters.deployer_channel import DeployerChannel
from controller.adapters.deployer_shelf import DeployerShelf
from controller.adapters.kubernetes_cluster import KubernetesCluster
from controller.adapters.local.cluster import LocalCluster, stop_all
from controller.adapters.local.layout import StoreDir, read_json, write_json
from controller.adapters.memory_cluster import MemoryCluster
from controller.adapters.mqtt_cluster import Deployers, MqttCluster
from controller.adapters.mqtt_link import LinkAddress, MqttLink
from controller.cluster import Applied, Cluster
from controller.deployer import Deployer
from controller.domain.deployment import Observed
from controller.domain.workload import Workload

STORE = "berlin-01"
MakeWorkload = Callable[..., Workload]


class Harness(Protocol):
    @property
    def cluster(self) -> Cluster: ...

    def settle(self) -> None:
        """Let the agents come up."""

    def tamper(self) -> None:
        """Change the agent's image behind the controller's back."""


@dataclass
class Memory:
    cluster: MemoryCluster

    def settle(self) -> None:
        self.cluster.settle(STORE)

    def tamper(self) -> None:
        self.cluster.stores[STORE].daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"


@dataclass
class Local:
    cluster: LocalCluster
    directory: StoreDir

    def settle(self) -> None:
        end = time.monotonic() + 20
        while True:
            seen = self.cluster.observe(STORE)
            if seen.desired and seen.updated == seen.desired:
                return
            assert time.monotonic() < end, seen
            time.sleep(0.05)

    def tamper(self) -> None:
        desired = read_json(self.directory.desired)
        assert desired is not None
        desired["daemon_set"]["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
        write_json(self.directory.desired, {**desired, "generation": desired["generation"] + 1})


@dataclass
class Kubernetes:
    cluster: KubernetesCluster
    api: Any

    def settle(self) -> None:
        self.api.play_kubelet()

    def tamper(self) -> None:
        def edit(connection: Any, namespace: str) -> None:
            from kubernetes import client

            container = {"name": "agent", "image": "evil:1"}
            body = {"spec": {"template": {"spec": {"containers": [container]}}}}
            client.AppsV1Api(connection).patch_namespaced_daemon_set("storefleet-agent", namespace, body)

        self.api.change(edit)


class Stepped:
    """The centre's cluster of a store whose deployer takes a step after every call, and whose report is
    waited for, so that the suite needs no sleeping."""

    def __init__(self, inner: Cluster, broker: Any, directory: Path) -> None:
        key = Ed25519PrivateKey.generate()
        self._deployers = Deployers(lambda text: sign(text, key), lambda: [key.public_key()], now)
        self._arrived: list[bytes] = []
        self._sent: list[bytes] = []
        self._centre = MqttCluster(self._deployers)
        self._channel = DeployerChannel(STORE)
        self._links = [
            link(broker, "centre", DEPLOYER_SUBSCRIPTIONS, self._receive),
            link(broker, STORE, self._channel.subscriptions, self._channel.receive),
        ]
        self._deployers.connect(self._links[0])
        self._channel.connect(self._links[1])
        self._deployer = Deployer(
            STORE,
            "storefleet",
            cluster=inner,
            channel=self,
            shelf=DeployerShelf(directory),
            trusted=lambda: [key.public_key()],
            clock=now,
            chance=random.random,
        )
        self._generation = 0
        for started in self._links:
            started.start()
        self._until(lambda: all(started.is_synced() for started in self._links))

    def close(self) -> None:
        for started in self._links:
            started.close()

    def apply(self, workload: Workload) -> Applied:
        applied = self._centre.apply(workload)
        self._step(told=applied.generation > self._generation)
        self._generation = applied.generation
        return applied

    def observe(self, store: str) -> Observed:
        self._step(told=False)
        return self._centre.observe(store)

    def remove(self, store: str) -> None:
        self._centre.remove(store)
        self._step(told=False)

    def take(self, wait_s: float) -> bytes | None:
        return self._channel.take(wait_s)

    def report(self, payload: bytes) -> bool:
        self._sent.append(payload)
        return self._channel.report(payload)

    def _step(self, told: bool) -> None:
        self._deployer.look(self._channel.take(10 if told else 0.2))
        self._until(lambda: not self._sent or self._sent[-1] in self._arrived)

    def _receive(self, topic: str, payload: bytes, retained: bool) -> None:
        self._deployers.receive(topic, payload, retained)
        self._arrived.append(payload)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "not reached within 10 s"
            time.sleep(0.02)


def now() -> datetime:
    return datetime.now(UTC)


def link(broker: Any, user: str, topics: Any, receive: Callable[[str, bytes, bool], None]) -> MqttLink:
    password = broker.password_file(user)
    return MqttLink(LinkAddress(broker.url, f"{user}-link", user, password), topics, receive)


@dataclass
class Pulled:
    """``inner`` is the harness of what the deployer applies to."""

    cluster: Stepped
    inner: Memory | Local

    def settle(self) -> None:
        self.inner.settle()

    def tamper(self) -> None:
        self.inner.tamper()


@pytest.fixture(params=["memory", "local", "kubernetes", "pulled-memory", "pulled-local"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, secrets: Path) -> Iterator[Harness]:
    kind: str = request.param
    if kind == "kubernetes":
        api = request.getfixturevalue("kubernetes_api")
        yield Kubernetes(KubernetesCluster(namespace=api.namespace, kubeconfig=api.kubeconfig), api)
        return
    run_dir = tmp_path / "run"
    inner: Memory | Local = (
        Memory(MemoryCluster())
        if kind.endswith("memory")
        else Local(LocalCluster(run_dir, secrets=secrets), StoreDir(run_dir / STORE))
    )
    if kind.startswith("pulled"):
        stepped = Stepped(inner.cluster, request.getfixturevalue("mosquitto"), tmp_path / "shelf")
        yield Pulled(stepped, inner)
        stepped.close()
    else:
        yield inner
    if isinstance(inner, Local):
        stop_all(run_dir, timeout_s=5)


def test_store_without_a_workload_is_observed_as_such(harness: Harness) -> None:
    assert harness.cluster.observe(STORE).rollout_id is None


def test_applied_workload_becomes_ready(
    harness: Harness, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    applied = harness.cluster.apply(workload(1))
    assert applied.generation >= 1
    assert harness.cluster.observe(STORE).rollout_id == rollout_id(1)
    harness.settle()
    seen = harness.cluster.observe(STORE)
    assert seen.rollout_id == rollout_id(1)
    assert seen.observed_generation == seen.generation
    assert (seen.desired, seen.ready, seen.updated) == (1, 1, 1)
    assert seen.images == ("example.org/agent:1",)
    assert seen.problems == ()
    assert seen.drift == ()


def test_applying_again_changes_nothing(harness: Harness, workload: MakeWorkload) -> None:
    first = harness.cluster.apply(workload(1))
    assert harness.cluster.apply(workload(1)).generation == first.generation


def test_new_release_replaces_the_old_one(
    harness: Harness, workload: MakeWorkload, rollout_id: Callable[[int], str]
) -> None:
    first = harness.cluster.apply(workload(1))
    harness.settle()
    second = harness.cluster.apply(workload(2))
    assert second.generation > first.generation
    seen = harness.cluster.observe(STORE)
    assert (seen.rollout_id, seen.updated) == (rollout_id(2), 0)
    harness.settle()
    seen = harness.cluster.observe(STORE)
    assert (seen.rollout_id, seen.updated) == (rollout_id(2), 1)


def test_change_behind_the_back_is_drift_and_applying_again_repairs_it(
    harness: Harness, workload: MakeWorkload
) -> None:
    harness.cluster.apply(workload(1))
    harness.tamper()
    found = harness.cluster.observe(STORE).drift
    assert found == (
        "spec.template.spec.containers[agent].image is 'evil:1' instead of 'example.org/agent:1'",
    )
    harness.cluster.apply(workload(1))
    assert harness.cluster.observe(STORE).drift == ()


def test_removed_workload_is_gone_and_removing_it_again_is_no_error(
    harness: Harness, workload: MakeWorkload
) -> None:
    harness.cluster.apply(workload(1))
    harness.cluster.remove(STORE)
    assert harness.cluster.observe(STORE).rollout_id is None
    harness.cluster.remove(STORE)
