"""What operators read of a pod's log, and where a pod's files are."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.local.layout import NodeDir
from controller.adapters.local.pod import spoken
from controller.adapters.local.pod_files import write_volumes
from controller.errors import PermanentError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            json.dumps({"message": "cannot go on", "detail": "no key"}),
            "cannot go on: no key",
        ),
        (json.dumps({"message": "cannot go on"}), "cannot go on"),
        ("Segmentation fault", "Segmentation fault"),
        ('{"cut', '{"cut'),
        ("[1]", "[1]"),
    ],
)
def test_a_line_of_a_log_is_told_in_words(line: str, words: str) -> None:
    assert spoken(line) == words


def volumes_of(node: Path, data: dict[str, Any]) -> dict[str, Path]:
    template = {"spec": {"volumes": [{"name": "data", **data}]}}
    return write_volumes(template, {}, node / "pods" / "p", NodeDir(node), None)


def test_the_directory_of_a_node_is_the_same_whether_claimed_or_mounted_as_before(tmp_path: Path) -> None:
    """So that the release that brings the claim goes on with the outbox of the one before it."""
    claimed = volumes_of(tmp_path, {"persistentVolumeClaim": {"claimName": "storefleet-data"}})
    mounted = volumes_of(tmp_path, {"hostPath": {"path": "/var/lib/storefleet", "type": "Directory"}})
    assert claimed == mounted
    assert claimed["data"].is_dir()
    assert not claimed["data"].is_relative_to(tmp_path / "pods"), "it outlives the pod"


def test_an_unknown_claim_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="PersistentVolumeClaim other does not exist"):
        volumes_of(tmp_path, {"persistentVolumeClaim": {"claimName": "other"}})
