"""Inventory events as CloudEvents 1.0, structured JSON mode.

``source`` is ``/stores/{store}/devices/{device}/cameras/{camera}``, ``subject`` the zone (absent for
camera events), ``time`` the event time: the capture time of the frame that proved it. Extension
attributes carry what every consumer needs to trust an event: its place in the device's gap-free
sequence and the model that produced it.
"""

import re
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from contract.base import Message, UtcTime, decode
from contract.errors import MessageError
from contract.names import CameraStatus, Digest, Name, Sku, StockLevel, UnknownReason

SOURCE_PATTERN = (
    r"^/stores/[a-z0-9][-a-z0-9]{0,62}/devices/[a-z0-9][-a-z0-9]{0,62}/cameras/[a-z0-9][-a-z0-9]{0,62}$"
)
_SOURCE = re.compile(r"^/stores/([^/]+)/devices/([^/]+)/cameras/([^/]+)$")

Count = Annotated[int, Field(ge=0, le=10_000)]
TYPE_PREFIX = "io.storefleet."
HISTORICAL_AFTER_S = 10.0
"""An event sent, or received, later than this after it was recorded is history, not news."""


class ZoneData(Message):
    """What an event about a zone says of it afterwards. ``facings`` is what a camera sees: front
    faces on the shelf, not stock on hand."""

    sku: Sku
    capacity: Count
    facings: Count | None = None
    level: StockLevel
    previous_facings: Count | None = None
    previous_level: StockLevel | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    """Mean detection confidence over the evidence frames."""
    evidence_frames: Count = 0


class QuantityData(ZoneData):
    quantity: Annotated[int, Field(ge=1, le=10_000)]
    """How many facings were taken away or added."""


class MisplacedData(ZoneData):
    found_sku: Sku
    found_count: Count


class ZoneUnknownData(ZoneData):
    reason: UnknownReason
    detail: str = ""


class ZoneKnownData(ZoneData):
    unknown_s: Annotated[float, Field(ge=0)]


class RetractedData(ZoneData):
    retracts: UUID
    """``id`` of the event that a later look proved wrong."""
    retracted_type: str
    reason: str


class CameraStatusData(Message):
    status: CameraStatus
    previous_status: CameraStatus | None = None
    reason: str = ""


class EventBase(Message):
    """The CloudEvents envelope. Extension names are lower case without separators, as CloudEvents
    requires."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: Annotated[str, Field(pattern=SOURCE_PATTERN)]
    type: str
    subject: Name | None = None
    time: UtcTime
    datacontenttype: Literal["application/json"] = "application/json"
    recordtime: UtcTime
    """When the agent wrote the event to its outbox."""
    streamid: UUID
    """Names the outbox that counts ``sequence``; a wiped disk starts a new stream."""
    sequence: Annotated[int, Field(ge=1)]
    """Gap-free per ``streamid``, starting at 1."""
    historical: bool = False
    """True when delivered late from the outbox: not news for alerting."""
    modelversion: Annotated[str, Field(max_length=128)]
    modeldigest: Digest
    rolloutid: UUID | None = None
    cameraepoch: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Rises whenever another node of the store takes the camera over; absent where nodes share none. Of two
    nodes that tell of one camera, the one with the higher epoch is right."""

    @property
    def store(self) -> str:
        return self._place()[0]

    @property
    def device(self) -> str:
        return self._place()[1]

    @property
    def camera(self) -> str:
        return self._place()[2]

    @property
    def kind(self) -> str:
        """``out_of_stock`` for ``io.storefleet.shelf.out_of_stock.v1``."""
        return self.type.split(".")[-2]

    def _place(self) -> tuple[str, str, str]:
        match = _SOURCE.match(self.source)
        if match is None:
            raise MessageError(f"source {self.source!r} is not a camera")
        return match[1], match[2], match[3]


class FacingsChanged(EventBase):
    type: Literal["io.storefleet.shelf.facings_changed.v1"] = "io.storefleet.shelf.facings_changed.v1"
    subject: Name
    data: ZoneData


class Picked(EventBase):
    type: Literal["io.storefleet.shelf.picked.v1"] = "io.storefleet.shelf.picked.v1"
    subject: Name
    data: QuantityData


class PutBack(EventBase):
    type: Literal["io.storefleet.shelf.put_back.v1"] = "io.storefleet.shelf.put_back.v1"
    subject: Name
    data: QuantityData


class Misplaced(EventBase):
    type: Literal["io.storefleet.shelf.misplaced.v1"] = "io.storefleet.shelf.misplaced.v1"
    subject: Name
    data: MisplacedData


class LowStock(EventBase):
    type: Literal["io.storefleet.shelf.low_stock.v1"] = "io.storefleet.shelf.low_stock.v1"
    subject: Name
    data: ZoneData


class OutOfStock(EventBase):
    type: Literal["io.storefleet.shelf.out_of_stock.v1"] = "io.storefleet.shelf.out_of_stock.v1"
    subject: Name
    data: ZoneData


class Restocked(EventBase):
    type: Literal["io.storefleet.shelf.restocked.v1"] = "io.storefleet.shelf.restocked.v1"
    subject: Name
    data: QuantityData


class ZoneUnknown(EventBase):
    type: Literal["io.storefleet.shelf.zone_unknown.v1"] = "io.storefleet.shelf.zone_unknown.v1"
    subject: Name
    data: ZoneUnknownData


class ZoneKnown(EventBase):
    type: Literal["io.storefleet.shelf.zone_known.v1"] = "io.storefleet.shelf.zone_known.v1"
    subject: Name
    data: ZoneKnownData


class Retracted(EventBase):
    type: Literal["io.storefleet.shelf.retracted.v1"] = "io.storefleet.shelf.retracted.v1"
    subject: Name
    data: RetractedData


class CameraStatusChanged(EventBase):
    type: Literal["io.storefleet.camera.status_changed.v1"] = "io.storefleet.camera.status_changed.v1"
    data: CameraStatusData


Event = (
    FacingsChanged
    | Picked
    | PutBack
    | Misplaced
    | LowStock
    | OutOfStock
    | Restocked
    | ZoneUnknown
    | ZoneKnown
    | Retracted
    | CameraStatusChanged
)

EVENT_CLASSES: tuple[type[EventBase], ...] = (
    FacingsChanged, Picked, PutBack, Misplaced, LowStock, OutOfStock, Restocked,
    ZoneUnknown, ZoneKnown, Retracted, CameraStatusChanged,
)  # fmt: skip

EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def decode_event(payload: bytes) -> Event:
    """Parse one event. Raises ``MessageError``."""
    return decode(EVENT_ADAPTER, payload)


def event_source(store: str, device: str, camera: str) -> str:
    return f"/stores/{store}/devices/{device}/cameras/{camera}"
