"""The manifests: valid for the Kubernetes client's own models, restricted, and stable."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from kubernetes import client

from contract.signing import Signed
from contract.workload import PEER_PORT, PEERS_SERVICE, Env, ModelManifest
from controller.domain.accelerator import (
    ACCELERATORS,
    MAX_GROUP,
    Accelerator,
    accelerator_of,
    accelerator_refusal,
)
from controller.domain.drift import differences, drift_of
from controller.domain.release import Release, fit_refusal, image_refusal, is_pinned, name_refusal
from controller.domain.workload import (
    AGENT_UID,
    APPLIED_ANNOTATION,
    MODEL_ANNOTATION,
    ROLLOUT_ANNOTATION,
    STORE_DIR,
    StoreSite,
    Workload,
    WorkloadSettings,
    build_workload,
    config_map_of,
    for_server,
    last_applied,
    rollout_of,
    with_last_applied,
)

DIGEST = "sha256:" + "a" * 64
ROLLOUT = str(UUID(int=7))
SETTINGS = WorkloadSettings("mqtts://broker.example:8883", "https://storefleet.example")
SITE = StoreSite("berlin-01", "version: 1\n", "PEM")


def release(**changes: Any) -> Release:
    manifest = ModelManifest(
        digest=DIGEST, size_bytes=3, name="shelf", version="1", format="openvino", task="detect",
        names=("cola-can", "person"), image_size=(320, 320),
    )  # fmt: skip
    values = {
        "name": "v1",
        "image": "example.org/agent@" + DIGEST,
        "manifest": manifest,
        "signed": Signed(payload=manifest.model_dump_json(), key_id="0" * 16, signature="c2ln"),
    }
    return Release(**{**values, **changes})


def build(settings: WorkloadSettings = SETTINGS, site: StoreSite = SITE, **changes: Any) -> Workload:
    return build_workload(release(**changes), site, ROLLOUT, settings)


def pod_spec(workload: Workload) -> dict[str, Any]:
    spec: dict[str, Any] = workload.daemon_set["spec"]["template"]["spec"]
    return spec


def containers(workload: Workload) -> list[dict[str, Any]]:
    spec = pod_spec(workload)
    return [*spec["initContainers"], *spec["containers"]]


@pytest.mark.parametrize("accelerator", [None, *ACCELERATORS.values()])
def test_manifests_hold_no_field_that_the_kubernetes_models_do_not_know(
    accelerator: Accelerator | None,
) -> None:
    workload = build(replace(SETTINGS, accelerator=accelerator))
    api = client.ApiClient()
    for manifest, kind in ((workload.daemon_set, "V1DaemonSet"), (workload.config_map, "V1ConfigMap")):
        model = getattr(client, kind).from_dict(manifest)
        assert api.sanitize_for_serialization(model) == manifest  # type: ignore[no-untyped-call]


def test_every_variable_of_the_contract_that_the_agent_needs_is_set() -> None:
    optional = {Env.MQTT_CA_FILE, Env.FETCH_RATE, Env.CACHE_MAX_BYTES, Env.DETECTOR_DEVICE}
    optional |= {Env.GOLDEN_MANIFEST_FILE, Env.GOLDEN_MIN_RECALL, Env.GOLDEN_MAX_COUNT_ERROR}
    for container in containers(build(replace(SETTINGS, peers=True, camera_leases="kubernetes"))):
        names = [entry["name"] for entry in container["env"]]
        assert set(names) == {str(name) for name in Env} - optional
        assert len(names) == len(set(names))
        device = next(entry for entry in container["env"] if entry["name"] == Env.DEVICE)
        assert device["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def test_nodes_find_one_another_through_the_service_of_the_stores_manifests() -> None:
    service = yaml.safe_load((Path(__file__).parents[3] / "k3s/store/peers.yaml").read_text())
    assert service["metadata"]["name"] == PEERS_SERVICE
    assert service["spec"]["ports"][0]["port"] == PEER_PORT
    labels = build().daemon_set["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    alone = {entry["name"] for entry in containers(build())[0]["env"]}
    assert not {Env.PEER_PORT, Env.PEERS_HOST} & alone, "processes on one machine would share the port"


def test_settings_of_a_release_reach_the_agent_but_never_replace_what_the_centre_sets() -> None:
    chosen = {"STOREFLEET_THREADS": "2", Env.STORE: "elsewhere", Env.DEVICE: "x"}
    made = build_workload(release(settings=chosen), SITE, ROLLOUT, SETTINGS)
    env = {entry["name"]: entry.get("value") for entry in containers(made)[0]["env"]}
    assert env["STOREFLEET_THREADS"] == "2"
    assert env[Env.STORE] == "berlin-01"
    assert env[Env.DEVICE] is None


def test_pods_are_restricted() -> None:
    workload = build()
    pod = pod_spec(workload)["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] == AGENT_UID
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod_spec(workload)["automountServiceAccountToken"] is False
    for container in containers(workload):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}


def test_files_that_the_agent_is_told_of_lie_on_mounted_volumes() -> None:
    for container in containers(build()):
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        for entry in container["env"]:
            if entry["name"].endswith(("_FILE", "_DIR")):
                assert any(entry["value"].startswith(mount) for mount in mounts), entry


def test_nothing_secret_is_in_the_manifests() -> None:
    text = json.dumps([build().daemon_set, build().config_map])
    assert '"kind": "Secret"' not in text
    assert '"secretName": "storefleet-agent"' in text


@pytest.mark.parametrize(
    ("change", "rolls"),
    [
        ({}, False),
        ({"site": StoreSite("berlin-01", "version: 1\n# x\n", "PEM")}, True),
        ({"site": StoreSite("berlin-01", "version: 1\n", "OTHER PEM")}, True),
        ({"image": "example.org/agent:2"}, True),
    ],
    ids=["same", "config", "keys", "image"],
)
def test_change_rolls_the_pods_and_sameness_does_not(change: dict[str, Any], rolls: bool) -> None:
    before, after = build(), build(**change)
    assert (before.daemon_set["spec"]["template"] != after.daemon_set["spec"]["template"]) is rolls


def test_template_mounts_the_config_map_that_goes_with_it() -> None:
    workload = build()
    assert config_map_of(workload.daemon_set) == workload.config_map["metadata"]["name"]
    assert workload.config_map["immutable"] is True


def test_annotations_say_what_runs() -> None:
    workload = build()
    for metadata in (workload.daemon_set["metadata"], workload.daemon_set["spec"]["template"]["metadata"]):
        assert metadata["annotations"][ROLLOUT_ANNOTATION] == ROLLOUT
        assert metadata["annotations"][MODEL_ANNOTATION] == DIGEST
        assert metadata["labels"]["app.kubernetes.io/version"] == "v1"
    assert rollout_of(workload.daemon_set) == ROLLOUT


@pytest.mark.parametrize(
    ("version", "strategy", "degraded"),
    [
        ((1, 22), {"maxSurge": 1, "maxUnavailable": 0}, False),
        ((1, 31), {"maxSurge": 1, "maxUnavailable": 0}, False),
        ((1, 21), {"maxUnavailable": 1}, True),
        ((0, 0), {"maxUnavailable": 1}, True),
    ],
)
def test_surge_only_where_the_server_has_it(
    version: tuple[int, int], strategy: dict[str, int], degraded: bool
) -> None:
    made, words = for_server(build().daemon_set, version)
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == strategy
    assert bool(words) is degraded


@pytest.mark.parametrize(("version", "key"), [((1, 31), "maxSurge"), ((1, 20), "maxUnavailable")])
def test_as_many_nodes_change_at_once_as_a_rollout_allows(version: tuple[int, int], key: str) -> None:
    made, _ = for_server(build(replace(SETTINGS, nodes_at_once=3)).daemon_set, version)
    assert made["spec"]["updateStrategy"]["rollingUpdate"][key] == 3


def test_what_was_applied_is_found_again_in_the_live_object() -> None:
    wanted = build().daemon_set
    live = with_last_applied(wanted)
    assert APPLIED_ANNOTATION not in wanted["metadata"]["annotations"]
    assert last_applied(live) == wanted
    assert drift_of(live) == ()
    live["metadata"]["annotations"][APPLIED_ANNOTATION] = "{"
    assert drift_of(live) == ("the record of what was applied was removed",)


@pytest.mark.parametrize(
    ("applied", "live", "found"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, (), id="defaults-of-the-server"),
        pytest.param({"a": 1}, {"a": 2}, ("a is 2 instead of 1",), id="changed"),
        pytest.param({"a": {"b": 1}}, {"a": {}}, ("a.b was removed",), id="removed"),
        pytest.param({"a": {}}, {}, (), id="empty-and-absent-are-the-same"),
        pytest.param({"a": False}, {}, ("a was removed",), id="an-explicit-false-counts"),
        pytest.param(
            {"c": [{"name": "x", "v": 1}]}, {"c": [{"name": "y"}, {"name": "x", "v": 1}]}, (),
            id="additions-to-named-lists",
        ),
        pytest.param(
            {"c": [{"name": "x", "v": 1}]}, {"c": [{"name": "x", "v": 2}]}, ("c[x].v is 2 instead of 1",),
            id="changed-in-a-named-list",
        ),
        pytest.param({"c": [{"name": "x"}]}, {"c": []}, ("c[x] was removed",), id="removed-from-named-list"),
        pytest.param({"c": ["a"]}, {"c": ["a", "b"]}, ("c is ['a', 'b'] instead of ['a']",), id="plain-list"),
        pytest.param(
            {"c": [{"d": {"e": 1}}]}, {"c": [{"d": {"e": 1, "f": 2}}]}, (),
            id="defaults-in-a-list-of-objects",
        ),
        pytest.param(
            {"c": [{"d": {"e": 1}}]}, {"c": [{"d": {"e": 3}}]}, ("c[0].d.e is 3 instead of 1",),
            id="changed-in-a-list-of-objects",
        ),
        pytest.param({"c": ["a"]}, {"c": None}, ("c is None instead of ['a']",), id="another-type"),
    ],
)  # fmt: skip
def test_differences(applied: Any, live: Any, found: tuple[str, ...]) -> None:
    assert differences(applied, live) == found


@pytest.mark.parametrize(
    ("image", "fine"),
    [
        ("agent", True),
        ("agent:1", True),
        ("example.org:5000/store/agent:0.1.0", True),
        ("example.org/agent:1@" + DIGEST, True),
        ("Agent", False),
        ("example.org/agent:", False),
        ("agent@sha256:12", False),
        ("a b", False),
        ("", False),
        ("agent\n", False),
    ],
)
def test_image_reference(image: str, fine: bool) -> None:
    assert (image_refusal(image) is None) is fine
    assert is_pinned(image) == ("@" in image and fine) or not fine


@pytest.mark.parametrize(
    ("name", "fine"), [("v1", True), ("v1.2-rc", True), ("-v1", False), ("V1", False), ("v\n", False)]
)
def test_release_name(name: str, fine: bool) -> None:
    assert (name_refusal(name) is None) is fine


def test_model_without_a_class_for_a_product_does_not_fit_the_store() -> None:
    from contract.store_config import load_store_config

    config = load_store_config(
        "version: 1\nstore: berlin-01\nplanogram:\n"
        "  - {sku: cola-can, gtin: '04012345678901', name: Cola}\n"
        "  - {sku: tea-box, gtin: '04012345678918', name: Tea}\ncameras: []\n"
    )
    refusal = fit_refusal(config.store, [product.sku for product in config.planogram], release())
    assert refusal is not None
    assert "tea-box" in refusal
    assert "cola-can" not in refusal


def test_agents_that_share_cameras_may_speak_to_the_api_and_no_one_else_may() -> None:
    alone = build(SETTINGS).daemon_set["spec"]["template"]["spec"]
    assert "serviceAccountName" not in alone
    shared = build(replace(SETTINGS, camera_leases="kubernetes")).daemon_set["spec"]["template"]["spec"]
    assert shared["serviceAccountName"] == "storefleet-agent"
    assert shared["automountServiceAccountToken"] is False
    mounted = {
        container["name"]: any(mount["name"] == "account" for mount in container["volumeMounts"])
        for container in [*shared["initContainers"], *shared["containers"]]
    }
    assert mounted == {"fetch-model": False, "agent": True}
    env = {entry["name"]: entry.get("value") for entry in shared["containers"][0]["env"]}
    assert env["STOREFLEET_CAMERA_LEASES"] == "kubernetes"


def test_nodes_on_one_machine_share_through_a_directory() -> None:
    spec = build(replace(SETTINGS, camera_leases="local")).daemon_set["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    env = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert env["STOREFLEET_CAMERA_LEASES"] == f"{STORE_DIR}/leases"


def test_outbox_and_models_lie_on_the_claim_that_the_stores_manifests_make() -> None:
    (data,) = (volume for volume in pod_spec(build())["volumes"] if volume["name"] == "data")
    assert data == {"name": "data", "persistentVolumeClaim": {"claimName": "storefleet-data"}}
    assert pod_spec(build())["priorityClassName"] == "storefleet-agent"


@pytest.mark.parametrize(
    ("cluster", "resource", "runtime_class", "groups", "device"),
    [
        ({"accelerator": "intel"}, "gpu.intel.com/i915", None, None, "gpu"),
        ({"accelerator": "intel-xe", "device_group": 109}, "gpu.intel.com/xe", None, [109], "gpu"),
        ({"accelerator": "nvidia"}, "nvidia.com/gpu", "nvidia", None, "cuda"),
    ],
)
def test_only_the_container_that_computes_asks_for_the_accelerator(
    cluster: dict[str, Any], resource: str, runtime_class: str, groups: list[int], device: str
) -> None:
    workload = build(replace(SETTINGS, accelerator=accelerator_of({"kind": "kubernetes", **cluster})))
    spec = pod_spec(workload)
    fetch, agent = containers(workload)
    assert agent["resources"]["limits"][resource] == "1"
    assert resource not in fetch["resources"]["limits"]
    assert spec.get("runtimeClassName") == runtime_class
    assert spec["securityContext"].get("supplementalGroups") == groups
    env = {entry["name"]: entry.get("value") for entry in agent["env"]}
    assert env[Env.DETECTOR_DEVICE] == device


def test_a_release_may_choose_the_device_only_where_the_store_has_not() -> None:
    wanted = release(settings={Env.DETECTOR_DEVICE: "cpu"})
    intel = replace(SETTINGS, accelerator=ACCELERATORS["intel"])
    for settings, device in ((SETTINGS, "cpu"), (intel, "gpu")):
        env = containers(build_workload(wanted, SITE, ROLLOUT, settings))[1]["env"]
        assert {entry["name"]: entry.get("value") for entry in env}[Env.DETECTOR_DEVICE] == device


@pytest.mark.parametrize(
    ("cluster", "refusal"),
    [
        ({"kind": "local"}, None),
        ({"kind": "kubernetes", "accelerator": "nvidia"}, None),
        ({"kind": "deployer", "accelerator": "intel", "device_group": 44}, None),
        ({"kind": "kubernetes", "accelerator": "tpu"}, "'tpu': use one of intel, intel-xe, nvidia"),
        ({"kind": "kubernetes", "accelerator": ["intel"]}, "use one of intel"),
        ({"kind": "local", "accelerator": "intel"}, "an accelerator needs a cluster"),
        ({"kind": "kubernetes", "device_group": 44}, "goes with an accelerator"),
        ({"kind": "kubernetes", "accelerator": "intel", "device_group": 0}, "use a number from 1"),
        ({"kind": "kubernetes", "accelerator": "intel", "device_group": True}, "use a number from 1"),
        (
            {"kind": "kubernetes", "accelerator": "intel", "device_group": MAX_GROUP + 1},
            "use a number from 1",
        ),
    ],
)
def test_an_accelerator_that_cannot_be_is_refused(cluster: dict[str, Any], refusal: str | None) -> None:
    said = accelerator_refusal(cluster)
    assert said is None if refusal is None else refusal in (said or "")
