"""The manifests of a store with a deployer: its rights, its secrets, and that they name what exists."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.settings import DeployerSettings

ROOT = Path(__file__).parents[3]
DIRECTORY = ROOT / "k3s" / "store" / "deployer"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (document,) = (document for document in found if document["kind"] == kind)
    return document


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(documents(DIRECTORY / "deployment.yaml"), "Deployment")["spec"][
        "template"
    ]["spec"]
    return spec


def test_deployer_may_do_what_the_controller_may_elsewhere_and_no_more() -> None:
    theirs = of_kind(documents(ROOT / "k3s" / "store" / "controller-account.yaml"), "Role")["rules"]
    assert of_kind(documents(DIRECTORY / "rights.yaml"), "Role")["rules"] == theirs
    assert all("secrets" not in rule["resources"] and "*" not in rule["verbs"] for rule in theirs)


def test_whom_it_trusts_is_out_of_its_own_reach() -> None:
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert "secret" in volumes["keys"]
    assert "secret" in volumes["secrets"]


def test_every_setting_exists_and_lies_in_a_mounted_place() -> None:
    container = pod()["containers"][0]
    names = {f"STOREFLEET_DEPLOYER_{name.upper()}" for name in DeployerSettings.model_fields}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for setting in container["env"]:
        assert setting["name"] in names
        assert any(setting["value"].startswith(mount) for mount in mounts), setting
    example = yaml.safe_load((ROOT / "k3s" / "store-behind-nat" / "kustomization.yaml").read_text())
    literals = example["configMapGenerator"][0]["literals"]
    assert {literal.partition("=")[0] for literal in literals} <= names


def test_kustomize_leaves_no_account_for_the_controller() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(ROOT / "k3s" / "store-behind-nat")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = {(d["kind"], d["metadata"]["name"]) for d in yaml.safe_load_all(text)}
    assert ("ServiceAccount", "storefleet-deployer") in names
    assert not [name for _, name in names if name.startswith("storefleet-controller")]
    assert ("Namespace", "storefleet") in names
