"""Makers of valid contract objects; a test changes what it is about."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from contract.events import EVENT_ADAPTER, Event

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def make_event() -> Callable[..., Event]:
    """``make_event("picked", quantity=2)``: an event of that kind, as if it had come by MQTT."""

    def make(kind: str, **data: Any) -> Event:
        area = "camera" if kind == "status_changed" else "shelf"
        zone = {"sku": "cola-can", "capacity": 6, "facings": 2, "level": "low"}
        return EVENT_ADAPTER.validate_python(
            {
                "id": UUID(int=7),
                "source": "/stores/berlin-01/devices/node-1/cameras/aisle-1",
                "type": f"io.storefleet.{area}.{kind}.v1",
                "subject": None if area == "camera" else "a1-cola",
                "time": datetime(2026, 5, 4, 10, 0, 0, 250_000, tzinfo=UTC),
                "recordtime": datetime(2026, 5, 4, 10, 0, 1, tzinfo=UTC),
                "streamid": UUID(int=9),
                "sequence": 41,
                "modelversion": "1",
                "modeldigest": DIGEST,
                "data": data if area == "camera" else zone | data,
            }
        )

    return make


STORE_CONFIG = """\
version: 1
store: berlin-01
planogram:
  - {sku: cola-can, gtin: "09520000010010", name: Cola 330 ml}
  - {sku: tea-box, gtin: "09520000012021", name: Green tea}
cameras:
  - id: aisle-1
    url: rtsp://viewer:${AISLE_1_PASSWORD}@10.0.4.11/stream
    frame_size: [1280, 720]
zones:
  - id: a1-cola
    camera: aisle-1
    sku: cola-can
    capacity: 6
    polygon: [[100, 80], [420, 80], [420, 230], [100, 230]]
"""


@pytest.fixture
def store_config() -> str:
    """A store configuration without faults, as YAML."""
    return STORE_CONFIG
