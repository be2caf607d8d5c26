"""A device that exists only as the messages it would send."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contract.events import (
    EVENT_CLASSES,
    CameraStatusChanged,
    Event,
    EventBase,
    event_source,
)
from contract.messages import DeviceState, Telemetry
from contract.names import StockLevel
from contract.topics import DeviceTopics
from controller.ports import Received

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
KINDS: dict[str, type[EventBase]] = {
    cls.model_fields["type"].default.split(".")[-2]: cls for cls in EVENT_CLASSES
}
EXTRA: dict[str, dict[str, Any]] = {
    "picked": {"quantity": 1},
    "put_back": {"quantity": 1},
    "restocked": {"quantity": 1},
    "misplaced": {"found_sku": "other", "found_count": 1},
    "zone_unknown": {"reason": "camera_unhealthy", "level": "unknown"},
    "zone_known": {"unknown_s": 1.0},
    "retracted": {"retracts": str(UUID(int=1)), "retracted_type": "low_stock", "reason": "seen again"},
}


@dataclass
class FakeDevice:
    store: str = "berlin-01"
    device: str = "node-1"
    stream: UUID = field(default_factory=uuid4)
    session: UUID = field(default_factory=uuid4)

    @property
    def topics(self) -> DeviceTopics:
        return DeviceTopics(self.store, self.device)

    def event(self, sequence: int, kind: str = "facings_changed", **changes: Any) -> Event:
        """The event of that number, one second apart from ``NOW``; ``data`` is merged, the rest replaced."""
        at = NOW + timedelta(seconds=sequence - 1000)
        zone = {"sku": "cola", "capacity": 6, "facings": sequence % 7, "level": StockLevel.STOCKED}
        values: dict[str, Any] = {
            "id": uuid4(),
            "source": event_source(self.store, self.device, "cam-1"),
            "subject": "zone-1",
            "time": at,
            "recordtime": at,
            "streamid": self.stream,
            "sequence": sequence,
            "modelversion": "1",
            "modeldigest": DIGEST,
        }
        cls = KINDS[kind]
        if cls is CameraStatusChanged:
            values["subject"] = None
            values["data"] = {"status": "dark"} | changes.pop("data", {})
        else:
            values["data"] = zone | EXTRA.get(kind, {}) | changes.pop("data", {})
        made: Event = cls.model_validate(values | changes)  # type: ignore[assignment]
        return made

    def birth(self, **changes: Any) -> DeviceState:
        values = {"status": "online", "session_id": self.session, "at": NOW, "stream_id": self.stream}
        return DeviceState.model_validate(values | changes)

    def heartbeat(self, last_sequence: int = 0, pending: int = 0, **changes: Any) -> Telemetry:
        values = {
            "session_id": self.session,
            "at": NOW,
            "interval_s": 2.0,
            "agent_version": "0.1.0",
            "model": {"digest": DIGEST, "version": "1"},
            "config_digest": DIGEST,
            "device": {"cpu_percent": 1, "memory_mb": 1, "memory_percent": 1, "disk_free_mb": 1},
            "outbox": {"stream_id": self.stream, "last_sequence": last_sequence, "pending": pending},
        }
        return Telemetry.model_validate(values | changes)

    def sent(self, message: Any, *, at: datetime = NOW, retained: bool = False) -> Received:
        if isinstance(message, EventBase):
            topic = self.topics.events
        elif isinstance(message, DeviceState):
            topic = self.topics.state
        elif isinstance(message, Telemetry):
            topic = self.topics.telemetry
        else:
            topic = self.topics.camera_status(message.camera)
        return Received(topic, message.to_bytes(), at, retained)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture(scope="session")
def new_device() -> Callable[..., FakeDevice]:
    return FakeDevice


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW
