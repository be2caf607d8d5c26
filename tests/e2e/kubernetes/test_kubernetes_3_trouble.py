"""Trouble in a store is named, in words that help, within half a minute."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.kubernetes_stage import NAMESPACE, KubernetesStage, slowness, storefleet

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces, mounts and containers need root"),
    pytest.mark.timeout(1800),  # the first run on a machine may have to build Kubernetes and the image
]

NAMED_WITHIN_S = 30.0
ENOUGH_S = 180.0
"""Then something is wrong, however busy the machine."""


def wrong_kubeconfig(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    file = directory / "wrong.kubeconfig"
    file.write_text("this: is\nno: kubeconfig\n")
    return {"kubeconfig": str(file)}


def expired_certificate(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    store = stage.stores[stage.names[0]]
    return {"kubeconfig": str(store.certificate_kubeconfig("someone", ["system:masters"], expired=True))}


def unknown_certificate(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    store = stage.stores[stage.names[0]]
    return {"kubeconfig": str(store.certificate_kubeconfig("stranger"))}


def missing_namespace(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    return {"kubeconfig": str(stage.kubeconfigs[stage.names[0]]), "namespace": "nowhere"}


def exceeded_quota(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    store = stage.stores[stage.names[0]]
    store.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "poor"}})
    store.api.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "poor", "namespace": "poor"},
            "spec": {"hard": {"pods": "0"}},
        }
    )
    return {"kubeconfig": str(store.kubeconfig), "namespace": "poor"}


def missing_claim(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    return {"kubeconfig": str(stage.stores[stage.names[1]].kubeconfig), "namespace": "diskless"}


def missing_secret(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    stage.add_disk(stage.names[2], "bare")
    return {"kubeconfig": str(stage.stores[stage.names[2]].kubeconfig), "namespace": "bare"}


def no_image(stage: KubernetesStage, directory: Path) -> dict[str, str]:
    store = stage.stores[stage.names[1]]
    stage.add_disk(store.name, "unpullable")
    stage.give_secret(store.name, "unpullable")
    stage.add_release("no-image", "v1", image="localhost/storefleet/agent:none")
    return {"kubeconfig": str(store.kubeconfig), "namespace": "unpullable"}


TROUBLES: dict[str, tuple[Callable[[KubernetesStage, Path], dict[str, str]], str, tuple[str, ...]]] = {
    "wrong-kubeconfig": (wrong_kubeconfig, "v1", ("blocked", "kubeconfig")),
    "expired-certificate": (expired_certificate, "v1", ("blocked", "expired")),
    "certificate-without-rights": (unknown_certificate, "v1", ("blocked", "grant it as k3s/README.md")),
    "missing-namespace": (missing_namespace, "v1", ("blocked", "nowhere")),
    "exceeded-quota": (exceeded_quota, "v1", ("exceeded quota", "poor")),
    "missing-claim": (
        missing_claim,
        "v1",
        ("PersistentVolumeClaim storefleet-data is missing", "kubectl apply -k k3s/store"),
    ),
    "missing-secret": (missing_secret, "v1", ("storefleet-agent", "not found")),
    "image-not-there": (no_image, "no-image", ("localhost/storefleet/agent:none", "cannot be pulled")),
}
"""How the store is reached, what is deployed there, and what has to be said."""


def test_trouble_is_named(stage: KubernetesStage, tmp_path: Path) -> None:
    """All at once: a store that cannot be reached holds up no other."""
    began, named = time.monotonic(), dict[str, float]()
    for name, (prepare, release, _) in TROUBLES.items():
        stage.add_store(name, stage.names[0], **prepare(stage, tmp_path))
        stage.deploy(release, [name])

    def all_named() -> bool:
        lines = {line.split(":")[0].strip(): line for line in storefleet(stage, "status").splitlines()}
        for name, (_, _, words) in TROUBLES.items():
            if name not in named and all(word in lines.get(name, "") for word in words):
                named[name] = time.monotonic() - began
        return len(named) == len(TROUBLES)

    try:
        stage.wait("all troubles named", all_named, ENOUGH_S)
    finally:
        print(named)
    allowed = NAMED_WITHIN_S + len(TROUBLES)  # a second each to register and deploy
    assert max(named.values()) < allowed * slowness()


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        pytest.param("nonsense", ("crash", "exit code", "STOREFLEET_RUNTIME"), id="crashes"),
        pytest.param("ultralytics", ("not ready", "ultralytics"), id="model-refused"),
    ],
)
def test_an_agent_that_fails_is_named_and_the_next_release_mends_it(
    stage: KubernetesStage, runtime: str, words: tuple[str, ...]
) -> None:
    store = stage.names[1]
    stage.add_release(runtime, "v2", settings={"STOREFLEET_RUNTIME": runtime})
    stage.deploy(runtime, [store])
    try:
        took = stage.wait(
            f"{words} in status",
            lambda: all(word in storefleet(stage, "status") for word in words),
            ENOUGH_S,
        )
    finally:
        print(storefleet(stage, "status"))
    assert took < NAMED_WITHIN_S * slowness()
    stage.deploy("v2", [store])
    stage.await_ready([store])
    assert [d for d in stage.stores[store].pods(NAMESPACE) if d["status"]["phase"] != "Running"] == []
