import json
from pathlib import Path

import pytest

from contract import schema
from contract.events import EVENT_CLASSES
from contract.topics import DeployerTopics, DeviceTopics, shadow_topic, staging_topic


def test_committed_documents_are_up_to_date() -> None:
    assert schema.stale(schema.DIRECTORY) == []


def test_stale_missing_and_left_over_documents_are_found(tmp_path: Path) -> None:
    schema.write(tmp_path)
    assert schema.stale(tmp_path) == []
    (tmp_path / "event.json").write_text("{}")
    (tmp_path / "telemetry.json").unlink()
    (tmp_path / "forgotten.json").write_text("{}")
    assert schema.stale(tmp_path) == ["event.json", "forgotten.json", "telemetry.json"]
    schema.write(tmp_path)
    assert schema.stale(tmp_path) == []


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err
    assert schema.main(["--check"]) == 0


def test_asyncapi_describes_every_topic_and_message() -> None:
    document = json.loads(schema.documents()[schema.ASYNCAPI])
    names = {"store": "berlin-01", "device": "node-1", "camera": "aisle-1"}
    described = {c["address"].format(**names) for c in document["channels"].values()}
    topics = DeviceTopics("berlin-01", "node-1")
    camera = topics.camera_status("aisle-1")
    deployer = DeployerTopics("berlin-01")
    every = {topics.state, topics.telemetry, topics.events, topics.acks, camera, staging_topic("berlin-01")}
    every |= {topics.golden, shadow_topic("berlin-01")}
    every |= {deployer.desired, deployer.reported}
    assert described == every
    assert set(document["channels"]["events"]["messages"]) == {c.__name__ for c in EVENT_CLASSES}


def test_every_reference_leads_somewhere() -> None:
    for name, text in schema.documents().items():
        document = json.loads(text)
        for reference in _references(document):
            target = document
            for part in reference.removeprefix("#/").split("/"):
                assert part in target, f"{name}: {reference}"
                target = target[part]


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
