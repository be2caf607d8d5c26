"""Releases reach real stores, survive what happens there, and are told apart by the events they bring."""

import hashlib
import os
from importlib.resources import as_file, files

import pytest

from benchmarks.kubernetes import account, cut_off, recover, roll_out, take_over
from benchmarks.kubernetes_faults import FAULTS
from benchmarks.kubernetes_stage import NAMESPACE, KubernetesStage, slowness, storefleet
from storefleet.demo.stage import RELEASES

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes and the image
]

NOTHING_WRONG = {"lost": 0, "duplicated": 0, "sequence_gaps": 0, "dead_letters": 0}


def test_a_release_reaches_every_store_and_then_its_successor(stage: KubernetesStage) -> None:
    for release in ("v1", "v2"):
        print(figures := roll_out(stage, release))
        assert len(figures.first_event_s) >= len(stage.names)
    assert len(figures.blind_gap_s) == sum(len(store.nodes) for store in stage.stores.values())
    assert "cannot start the new agent beside the old one" in storefleet(stage, "deployments")


def test_the_model_that_runs_is_the_one_that_was_released(stage: KubernetesStage) -> None:
    current = {deployment["release"] for deployment in stage.current().values()}
    (release,) = current
    digest = stage.digests[release]
    for (name, _), device in stage.devices().items():
        assert device["model_digest"] == digest, name
    for name, store in stage.stores.items():
        for number in range(len(store.nodes)):
            summed = stage.on_node(name, "sha256sum", stage.model_path(digest), node=number).split()[0]
            assert f"sha256:{summed}" == digest
        rollout = stage.current()[name]["rollout_id"]
        models = {e["model_digest"] for e in stage.events() if e["rollout_id"] == rollout}
        assert models == {digest}
    with as_file(files("shipped_model") / dict(RELEASES)[release.removeprefix("v")]) as shipped:
        assert digest == f"sha256:{hashlib.sha256(shipped.read_bytes()).hexdigest()}"


def test_agents_run_without_rights_and_without_root(stage: KubernetesStage) -> None:
    for store in stage.stores.values():
        for pod in store.pods(NAMESPACE):
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            for container in (*spec["initContainers"], *spec["containers"]):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("fault", list(FAULTS), ids=lambda fault: fault.replace(" ", "-"))
def test_a_store_recovers_by_itself(stage: KubernetesStage, fault: str) -> None:
    print(recover(stage, stage.names[0], fault))
    found = account(stage)
    assert found | NOTHING_WRONG == found


def test_a_store_that_was_cut_off_catches_up_and_tells_what_happened_once(stage: KubernetesStage) -> None:
    print(figures := cut_off(stage, stage.names[1], "v1", cut_s=120))
    assert figures.buffered_events > 0
    assert figures.not_historical == 0
    found = account(stage)
    assert found | NOTHING_WRONG == found


def test_the_cameras_of_a_dead_node_are_taken_over_and_given_back(stage: KubernetesStage) -> None:
    print(figures := take_over(stage, stage.names[2]))
    assert figures.taken_over_s < 30 * slowness()
    assert figures.out_of_turn == 0
    found = account(stage)
    assert found | NOTHING_WRONG == found
