"""The rights that ``k3s/store`` gives the controller are those that it uses, no more and no fewer. What
it uses is known from the requests recorded for the cluster tests."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
ANSWERS = ROOT / "tests" / "integration" / "cluster" / "kubernetes_answers"
VERBS = {"PATCH": "patch", "DELETE": "delete", "POST": "create"}


def used() -> set[tuple[str, str]]:
    """(resource, verb) in the namespace. A server-side apply that creates needs ``create`` as well."""
    found = set()
    for file in ANSWERS.glob("*.json"):
        for exchange in json.loads(file.read_text()):
            request = exchange["request"]
            parts = request["path"].strip("/").split("/")
            if "namespaces" not in parts or len(parts) <= parts.index("namespaces") + 2:
                continue
            resource, *name = parts[parts.index("namespaces") + 2 :]
            verb = VERBS.get(request["method"], "get" if name else "list")
            found.add((resource, verb))
            if exchange["response"]["status"] == 201:
                found.add((resource, "create"))
    return found


def granted() -> set[tuple[str, str]]:
    documents: list[dict[str, Any]] = list(
        yaml.safe_load_all((ROOT / "k3s/store/controller-account.yaml").read_text())
    )
    role = next(document for document in documents if document["kind"] == "Role")
    return {(r, verb) for rule in role["rules"] for r in rule["resources"] for verb in rule["verbs"]}


def test_the_controllers_role_is_exactly_what_it_needs() -> None:
    assert granted() == used()
