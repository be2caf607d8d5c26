"""The manifests below ``k3s/``: they are whole, agree with one another and the programs, and set limits."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from contract.workload import PEER_PORT
from controller.domain.workload import (
    AGENT_ACCOUNT,
    DATA_CLAIM,
    DATA_DIR,
    NAME,
    PRIORITY_CLASS,
    RESTRICTED,
    WorkloadSettings,
)
from controller.settings import ControllerSettings

K3S = Path(__file__).parents[3] / "k3s"
STORE, CENTRE = "storefleet", "storefleet-central"
FILES = sorted(file for file in K3S.rglob("*.yaml"))
KUSTOMIZATIONS = [file for file in FILES if file.name == "kustomization.yaml"]
CLUSTER_WIDE = {"Namespace", "PersistentVolume", "PriorityClass"}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3, "": 1}

Json = dict[str, Any]


def documents(file: Path) -> list[Json]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def objects(folder: Path = K3S) -> Iterator[Json]:
    for file in sorted(folder.rglob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from documents(file)


def the(kind: str, name: str, folder: Path = K3S / "store") -> Json:
    (found,) = (each for each in objects(folder) if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def containers(template: Json) -> list[Json]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def amount(quantity: str) -> float:
    number = quantity.rstrip("KMGim")
    return float(number) * UNITS[quantity.removeprefix(number)]


def name_of(file: Path) -> str:
    return str(file.relative_to(K3S))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_document_says_what_it_is_and_belongs_to_one_of_our_namespaces(file: Path) -> None:
    for document in documents(file):
        assert {"apiVersion", "kind"} <= document.keys()
        if file.name != "kustomization.yaml":
            inside = document["metadata"].get("namespace")
            expected = CENTRE if "central" in file.parts else STORE
            assert inside == (None if document["kind"] in CLUSTER_WIDE else expected)


def unknown_to_the_client(document: Json) -> bool:
    """Whether a field gets lost in the models of the Kubernetes client, which are made from the API's own."""
    model = getattr(client, f"V1{document['kind']}").from_dict(document)
    kept: Json = client.ApiClient().sanitize_for_serialization(model)  # type: ignore[no-untyped-call]
    return kept != document


@pytest.mark.parametrize("file", sorted(set(FILES) - set(KUSTOMIZATIONS)), ids=name_of)
def test_no_object_has_a_field_that_kubernetes_does_not_know(file: Path) -> None:
    assert [each["kind"] for each in documents(file) if unknown_to_the_client(each)] == []


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=name_of)
def test_a_kustomization_names_what_exists_and_leaves_no_file_out(file: Path) -> None:
    (content,) = documents(file)
    named = [*content.get("resources", ()), *content.get("components", ())]
    for name in named:
        place = file.parent / name
        assert place.is_file() or (place / "kustomization.yaml").is_file(), name
    assert {each.name for each in file.parent.glob("*.yaml")} - {file.name} <= set(named)


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=name_of)
def test_images_have_a_version(file: Path) -> None:
    for image in documents(file)[0].get("images", ()):
        assert image.get("digest") or image.get("newTag", "latest") != "latest"


def test_every_image_that_a_manifest_names_gets_its_version_from_the_kustomization_beside_it() -> None:
    for file in FILES:
        for document in documents(file):
            template = document.get("spec", {}).get("template")
            if template:
                (beside,) = documents(file.parent / "kustomization.yaml")
                versioned = {image["name"] for image in beside["images"]}
                assert {container["image"] for container in containers(template)} <= versioned


def workloads() -> dict[str, Json]:
    return {each["metadata"]["name"]: each for each in objects() if "template" in each.get("spec", {})}


@pytest.mark.parametrize("workload", workloads().values(), ids=workloads())
def test_a_workload_is_bounded_and_watched(workload: Json) -> None:
    template = workload["spec"]["template"]
    for container in containers(template):
        assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
        assert container["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "livenessProbe" in container
    for volume in template["spec"]["volumes"]:
        assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["strategy"] == {"type": "Recreate"}, "two of them would be one too many"
    selected = workload["spec"]["selector"]["matchLabels"].items()
    assert selected <= template["metadata"]["labels"].items()


@pytest.mark.parametrize(
    "namespace", [the("Namespace", STORE), the("Namespace", CENTRE, K3S / "central")], ids=[STORE, CENTRE]
)
def test_namespaces_are_restricted(namespace: Json) -> None:
    assert namespace["metadata"]["labels"] == RESTRICTED


@pytest.mark.parametrize("namespace", [STORE, CENTRE])
def test_nobody_comes_in_who_is_not_named(namespace: str) -> None:
    policies = [
        each
        for each in objects()
        if each["kind"] == "NetworkPolicy" and each["metadata"]["namespace"] == namespace
    ]
    (everyone,) = (each for each in policies if each["spec"]["podSelector"] == {})
    assert "Ingress" in everyone["spec"]["policyTypes"]
    assert "ingress" not in everyone["spec"]


def test_the_directory_of_each_node_is_claimed_by_name_and_kept() -> None:
    volume, claim = the("PersistentVolume", DATA_CLAIM), the("PersistentVolumeClaim", DATA_CLAIM)
    assert volume["spec"]["hostPath"] == {"path": DATA_DIR, "type": "Directory"}
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["claimRef"] == {"namespace": STORE, "name": DATA_CLAIM}
    assert "nodeAffinity" not in volume["spec"], "it is each node's own directory"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    for spec in (volume["spec"], claim["spec"]):
        assert spec["storageClassName"] == "", "no provisioner may make one of its own"
        assert spec["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["resources"]["requests"] == volume["spec"]["capacity"]


def test_agents_and_deployer_wait_in_front_and_push_nothing_out() -> None:
    priority = the("PriorityClass", PRIORITY_CLASS)
    assert 0 < priority["value"] < 1_000_000_000, "above that are the cluster's own"
    assert priority["preemptionPolicy"] == "Never"
    assert priority["globalDefault"] is False
    deployer = the("Deployment", "storefleet-deployer")["spec"]["template"]["spec"]
    assert deployer["priorityClassName"] == PRIORITY_CLASS


def test_agents_speak_to_one_another_and_the_egress_example_lets_them() -> None:
    def ports(rules: list[Json]) -> list[int]:
        return [port["port"] for rule in rules for port in rule["ports"]]

    peers = the("NetworkPolicy", "storefleet-agent-peers")["spec"]
    assert peers["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": NAME}
    assert peers["ingress"][0]["from"] == [{"podSelector": peers["podSelector"]}]
    assert ports(peers["ingress"]) == [PEER_PORT]
    egress = the("NetworkPolicy", "storefleet-agent-egress", K3S / "store-egress")["spec"]
    assert egress["podSelector"] == peers["podSelector"]
    assert {PEER_PORT, 53, 554, 6443, 8883} <= set(ports(egress["egress"]))
    assert all("to" in rule for rule in egress["egress"] if {53} != set(ports([rule])))


def test_the_namespace_has_room_for_agents() -> None:
    settings = WorkloadSettings("mqtts://b:8883", "https://c")
    (limits,) = the("LimitRange", STORE)["spec"]["limits"]
    assert amount(settings.memory_limit) <= amount(limits["max"]["memory"])
    assert amount(settings.disk_limit) <= amount(limits["max"]["ephemeral-storage"])
    for name, default in limits["default"].items():
        assert amount(limits["defaultRequest"][name]) <= amount(default) <= amount(limits["max"][name])
    hard = the("ResourceQuota", STORE)["spec"]["hard"]
    assert hard["count/daemonsets.apps"] == "1"
    assert not {name for name in hard if name.startswith(("requests.", "limits."))}, (
        "they would bind agents too"
    )


def test_accounts_get_tokens_only_where_they_are_used() -> None:
    assert the("ServiceAccount", AGENT_ACCOUNT)["automountServiceAccountToken"] is False
    account = the("ServiceAccount", "storefleet-controller", K3S / "central")
    assert account["automountServiceAccountToken"] is False
    assert not [
        each for each in objects(K3S / "central") if each["kind"] in ("Role", "ClusterRole", "Secret")
    ]


def test_settings_of_the_central_controller_exist_and_its_files_are_mounted() -> None:
    names = {f"STOREFLEET_CONTROLLER_{name.upper()}" for name in ControllerSettings.model_fields}
    container = the("Deployment", "storefleet-controller", K3S / "central")["spec"]["template"]["spec"][
        "containers"
    ][0]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for setting in container["env"]:
        assert setting["name"] in names
        if setting["name"].endswith(("_FILE", "_DIR")):
            assert any(setting["value"].startswith(mount) for mount in mounts), setting
    for file in (K3S / "central").rglob("kustomization.yaml"):
        (generator,) = documents(file)[0]["configMapGenerator"]
        assert {literal.partition("=")[0] for literal in generator["literals"]} <= names


def test_central_probes_ask_for_paths_that_the_api_has() -> None:
    container = the("Deployment", "storefleet-controller", K3S / "central")["spec"]["template"]["spec"][
        "containers"
    ][0]
    openapi = (K3S.parent / "docs" / "openapi.json").read_text()
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert f'"{container[kind]["httpGet"]["path"]}"' in openapi


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    "file", [each for each in KUSTOMIZATIONS if "Component" not in each.read_text()], ids=name_of
)
def test_a_folder_renders_to_one_file_that_needs_nothing_else(file: Path) -> None:
    """As the install guide puts it into the directory from which k3s applies by itself."""
    command = ["kubectl", "kustomize", str(file.parent)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rendered = Counter((each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text))
    assert max(rendered.values()) == 1
    assert not [each for each in yaml.safe_load_all(text) if unknown_to_the_client(each)]
    own = documents(file)[0]["resources"]
    for name in own:
        if name.endswith(".yaml"):
            expected = {(each["kind"], each["metadata"]["name"]) for each in documents(file.parent / name)}
            assert expected <= rendered.keys()
    assert "Namespace" in {kind for kind, _ in rendered}
    images = [
        line.split()[-1] for line in text.splitlines() if line.strip().startswith(("image:", "- image:"))
    ]
    assert all(":" in image for image in images)
