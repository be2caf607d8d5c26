"""``python -m contract.schema [--check]``: JSON Schema and AsyncAPI documents from the message classes.

Consumers in other languages build on these files, so they are committed; with ``--check`` nothing is
written and the exit status is 1 when a file is missing, stale or left over.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from contract.deployment import DESIRED_ADAPTER, REPORTED_ADAPTER, ReportedState
from contract.events import EVENT_ADAPTER, EVENT_CLASSES
from contract.golden import GoldenContent, GoldenManifest, GoldenReport
from contract.messages import CameraStatusMessage, DeviceState, EventAck, StagingOrder, Telemetry
from contract.shadow import ShadowOrder
from contract.signing import Signed
from contract.store_config import StoreConfig
from contract.topics import DEPLOYER, PREFIX, SHADOW, STAGING
from contract.workload import AgentHealth, ModelManifest

DIRECTORY = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "asyncapi.json"

SCHEMAS: Mapping[str, TypeAdapter[Any]] = {
    "event": EVENT_ADAPTER,
    "device_state": TypeAdapter(DeviceState),
    "telemetry": TypeAdapter(Telemetry),
    "camera_status": TypeAdapter(CameraStatusMessage),
    "event_ack": TypeAdapter(EventAck),
    "staging_order": TypeAdapter(StagingOrder),
    "store_config": TypeAdapter(StoreConfig),
    "model_manifest": TypeAdapter(ModelManifest),
    "signed": TypeAdapter(Signed),
    "desired_state": DESIRED_ADAPTER,
    "reported_state": REPORTED_ADAPTER,
    "agent_health": TypeAdapter(AgentHealth),
    "golden_set": TypeAdapter(GoldenContent),
    "golden_manifest": TypeAdapter(GoldenManifest),
    "golden_report": TypeAdapter(GoldenReport),
    "shadow_order": TypeAdapter(ShadowOrder),
}


@dataclass(frozen=True, slots=True)
class _Channel:
    """One topic, as the centre sees it: it receives what devices send."""

    name: str
    address: str
    messages: Sequence[type[BaseModel]]
    action: str
    qos: int
    retain: bool
    summary: str
    of_store: bool = False
    """Of a whole store, not of a device."""


_CHANNELS = (
    _Channel("state", "state", (DeviceState,), "receive", 1, True, "Birth and death of a device."),
    _Channel("telemetry", "telemetry", (Telemetry,), "receive", 0, False, "Heartbeat of a device."),
    _Channel("events", "events", EVENT_CLASSES, "receive", 1, False, "Inventory and camera events."),
    _Channel(
        "cameraStatus", "cameras/{camera}/status", (CameraStatusMessage,), "receive", 1, True,
        "How a camera is doing.",
    ),
    _Channel(
        "golden", "golden", (GoldenReport,), "receive", 1, True,
        "How a device's newest release did on the golden set.",
    ),
    _Channel("acks", "acks", (EventAck,), "send", 1, False, "What the centre has committed."),
    _Channel(
        STAGING, STAGING, (StagingOrder,), "send", 1, True,
        "Models that the devices of a store shall fetch ahead of time.", of_store=True,
    ),
    _Channel(
        SHADOW, SHADOW, (Signed,), "send", 1, True,
        "A model that the devices of a store shall try beside their own. The signed text is a ShadowOrder.",
        of_store=True,
    ),
    _Channel(
        "desired", f"{DEPLOYER}/desired", (Signed,), "send", 1, True,
        "What a store shall run. The signed text is the base64 of a zlib-compressed DesiredState.",
        of_store=True,
    ),
    _Channel(
        "reported", f"{DEPLOYER}/reported", (ReportedState,), "receive", 1, True,
        "What a store's deployer has done and sees.", of_store=True,
    ),
)  # fmt: skip

_PARAMETERS = {
    "store": {"description": "Name of the store, a DNS label."},
    "device": {"description": "Name of the camera node, a DNS label."},
    "camera": {"description": "Name of the camera, a DNS label."},
}


def documents() -> dict[str, str]:
    """File name to text, of every generated document."""
    texts = {}
    for name, adapter in SCHEMAS.items():
        schema = adapter.json_schema(mode="validation")
        texts[f"{name}.json"] = _text({"$schema": DIALECT, "$id": f"urn:storefleet:v1:{name}"} | schema)
    texts[ASYNCAPI] = _text(_asyncapi())
    return texts


def _asyncapi() -> dict[str, Any]:
    classes = list(dict.fromkeys(message for channel in _CHANNELS for message in channel.messages))
    _, definitions = models_json_schema(
        [(message, "validation") for message in classes], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Storefleet",
            "version": "v1",
            "description": "What stores and the centre tell one another, seen from the centre. Payloads are "
            "UTF-8 JSON; unknown fields are ignored; within v1 no field is removed or retyped.",
            "license": {"name": "AGPL-3.0-or-later"},
        },
        "defaultContentType": "application/json",
        "channels": {channel.name: _channel(channel) for channel in _CHANNELS},
        "operations": {
            f"{channel.action}{channel.name[0].upper()}{channel.name[1:]}": _operation(channel)
            for channel in _CHANNELS
        },
        "components": {
            "messages": {
                message.__name__: {
                    "name": message.__name__,
                    "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
                }
                for message in classes
            },
            "schemas": definitions["$defs"],
        },
    }


def _channel(channel: _Channel) -> dict[str, Any]:
    place = "{store}" if channel.of_store else "{store}/{device}"
    address = f"{PREFIX}/{place}/{channel.address}"
    return {
        "address": address,
        "summary": channel.summary,
        "parameters": {name: text for name, text in _PARAMETERS.items() if f"{{{name}}}" in address},
        "messages": {m.__name__: {"$ref": f"#/components/messages/{m.__name__}"} for m in channel.messages},
    }


def _operation(channel: _Channel) -> dict[str, Any]:
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{m.__name__}"} for m in channel.messages],
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": "0.2.0"}},
    }


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def stale(directory: Path) -> list[str]:
    """Names of the documents in ``directory`` that are missing, differ, or belong to nothing."""
    wanted = documents()
    found = {path.name: path.read_text() for path in directory.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(directory: Path) -> None:
    """Write every document into ``directory`` and remove what belongs to nothing."""
    directory.mkdir(exist_ok=True)
    wanted = documents()
    for path in directory.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text)


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write("usage: python -m contract.schema [--check]\n")
        return 2
    if not arguments:
        write(DIRECTORY)
        return 0
    names = stale(DIRECTORY)
    if names:
        sys.stderr.write(f"stale: {', '.join(names)}; run: python -m contract.schema\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
