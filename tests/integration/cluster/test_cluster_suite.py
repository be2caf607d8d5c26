"""One suite for every ``Cluster`` adapter: memory, local processes, Kubernetes (recorded answers)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from controller.adapters.kubernetes_cluster import KubernetesCluster
from controller.adapters.local.cluster import LocalCluster, stop_all
from controller.adapters.local.layout import StoreDir, read_json, write_json
from controller.adapters.memory_cluster import MemoryCluster
from controller.cluster import Cluster
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


@pytest.fixture(params=["memory", "local", "kubernetes"])
def harness(request: pytest.FixtureRequest, tmp_path: Path, secrets: Path) -> Iterator[Harness]:
    if request.param == "memory":
        yield Memory(MemoryCluster())
    elif request.param == "local":
        run_dir = tmp_path / "run"
        yield Local(LocalCluster(run_dir, secrets=secrets), StoreDir(run_dir / STORE))
        stop_all(run_dir, timeout_s=5)
    else:
        api = request.getfixturevalue("kubernetes_api")
        yield Kubernetes(KubernetesCluster(namespace=api.namespace, kubeconfig=api.kubeconfig), api)


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
