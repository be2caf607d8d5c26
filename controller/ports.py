"""What the controller's services need from the outside world.

The database is used in transactions: ``Transactions.reading()`` or ``.writing()`` gives the
repositories of one transaction, which commits when the block ends and rolls back when it raises.
Every mutation by a human or the API adds its ``AuditEntry`` in the same block.

Every method raises ``TransientError`` when the database cannot be reached, is locked or full, and
``PermanentError`` (or one of its kinds) when the data cannot be stored as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from contract.events import EventBase
from contract.messages import EventAck
from controller.domain.event_log import EventFilter, StoredEvent
from controller.domain.fleet import Camera, Device, Handover, Store, StoreConfigVersion
from controller.domain.golden import GoldenDemand, GoldenOutcome, GoldenSet
from controller.domain.journal import AuditEntry, DeadLetter, GapRecord
from controller.domain.model import Model
from controller.domain.page import Page, PageRequest
from controller.domain.records import Deployment, ReleaseRecord
from controller.domain.sequence import Gap, Stream, StreamKey
from controller.domain.shadow import ShadowFigures, ShadowRun
from controller.domain.staging import Staging
from controller.domain.stock import StockChange, ZoneStock

DeviceKey = tuple[str, str]
"""Store and device."""
CameraKey = tuple[str, str, str]
"""Store, device and camera."""
ZoneKey = tuple[str, str]
"""Store and zone."""


class StoreRepository(Protocol):
    def add(self, store: Store) -> None:
        """Raises ``ConflictError`` when a store of that name exists."""

    def get(self, name: str) -> Store | None: ...

    def page(self, request: PageRequest) -> Page[Store]:
        """By name."""

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that exist."""


class StoreConfigRepository(Protocol):
    def put(self, version: StoreConfigVersion) -> None:
        """Keep this version and make it the store's current one."""

    def current(self, store: str) -> StoreConfigVersion | None: ...

    def get(self, store: str, digest: str) -> StoreConfigVersion | None: ...


class FleetRepository(Protocol):
    """Devices and cameras."""

    def devices(self, keys: Iterable[DeviceKey]) -> dict[DeviceKey, Device]: ...

    def cameras(self, keys: Iterable[CameraKey]) -> dict[CameraKey, Camera]: ...

    def save(self, devices: Iterable[Device], cameras: Iterable[Camera]) -> None:
        """Insert or replace."""

    def keep_cameras(self, key: DeviceKey, names: Iterable[str]) -> None:
        """Forget the device's other cameras."""

    def forget_cameras(self, keys: Iterable[CameraKey]) -> None: ...

    def of_stores(self, stores: Iterable[str]) -> tuple[list[Device], list[Camera]]:
        """Everything in these stores, by name."""

    def page_devices(self, request: PageRequest) -> Page[Device]: ...


class HandoverRepository(Protocol):
    def save(self, handovers: Iterable[Handover]) -> None: ...

    def page(self, rollout_id: UUID | None, request: PageRequest) -> Page[Handover]: ...


class StockRepository(Protocol):
    def zones(self, keys: Iterable[ZoneKey]) -> dict[ZoneKey, ZoneStock]: ...

    def save(self, zones: Iterable[ZoneStock], changes: Iterable[StockChange]) -> None: ...

    def keep_zones(self, store: str, names: Iterable[str]) -> None:
        """Forget the current stock of the store's other zones; their history stays."""

    def page(self, store: str | None, request: PageRequest) -> Page[ZoneStock]: ...

    def history(self, store: str, zone: str, request: PageRequest) -> Page[StockChange]:
        """Newest first."""


@dataclass(frozen=True, slots=True)
class AddedEvents:
    new: frozenset[UUID]
    """Ids stored now; the others were there already."""
    conflicting: frozenset[UUID]
    """Ids not stored, because another event has their place in the stream."""


class EventRepository(Protocol):
    def add(self, events: Sequence[EventBase], received_at: datetime) -> AddedEvents: ...

    def retract(self, retractions: Mapping[UUID, UUID], at: datetime) -> None:
        """Mark the key events as proved wrong by the value events, also those still to come."""

    def get(self, ids: Iterable[UUID]) -> dict[UUID, StoredEvent]:
        """Those of ``ids`` that are stored."""

    def page(self, wanted: EventFilter, request: PageRequest) -> Page[StoredEvent]:
        """In order of arrival, or the newest first."""


@dataclass(frozen=True, slots=True)
class StalledStream:
    """A stream that the device should send again from its watermark."""

    key: StreamKey
    committed: int


class StreamRepository(Protocol):
    def load(self, keys: Iterable[StreamKey]) -> dict[StreamKey, Stream]: ...

    def save(
        self,
        changes: Mapping[StreamKey, tuple[Stream, Stream]],
        lost: Iterable[tuple[StreamKey, Gap]],
        now: datetime,
    ) -> None:
        """Store what changed from the first to the second state, and which gaps were given up."""

    def stalled(self, before: datetime, seen_since: datetime, limit: int) -> list[StalledStream]:
        """Streams with a gap opened, or a heartbeat ahead of the watermark, since ``before``; only of
        devices heard of since ``seen_since``."""

    def page_gaps(self, store: str | None, open_only: bool, request: PageRequest) -> Page[GapRecord]: ...


class DeadLetterRepository(Protocol):
    def add(self, letters: Iterable[DeadLetter]) -> None: ...

    def page(self, store: str | None, request: PageRequest) -> Page[DeadLetter]:
        """Newest first."""

    def forget(self, ids: Iterable[int]) -> None:
        """Those whose messages have been taken in after all."""

    def trim(self, keep: int) -> int:
        """Forget the oldest beyond ``keep``; never one that holds an event's only copy."""


class ModelRepository(Protocol):
    def add(self, model: Model) -> None:
        """Raises ``ConflictError`` when name, version and format are taken by another digest."""

    def get(self, digest: str) -> Model | None: ...

    def page(self, request: PageRequest) -> Page[Model]: ...


class ReleaseRepository(Protocol):
    def add(self, release: ReleaseRecord) -> None:
        """Raises ``ConflictError`` when the name is taken."""

    def get(self, name: str) -> ReleaseRecord | None: ...

    def page(self, request: PageRequest) -> Page[ReleaseRecord]: ...


class DeploymentRepository(Protocol):
    def supersede(self, deployment: Deployment) -> None:
        """Make this the store's current deployment and mark the one before as superseded by it. Raises
        ``ConflictError`` when another one came in meanwhile."""

    def save(self, deployment: Deployment) -> None:
        """Update what the reconciler observed. Raises ``NotFoundError``."""

    def current(self, stores: Iterable[str] | None = None) -> list[Deployment]:
        """The deployments that are not superseded, of all stores or of these, by store."""

    def page(self, store: str | None, request: PageRequest) -> Page[Deployment]:
        """Newest first, superseded ones included."""

    def get(self, rollout_id: UUID) -> Deployment | None:
        """In a writing transaction nobody else changes it until the end."""


class StagingRepository(Protocol):
    def put(self, wanted: Sequence[Staging], *, keep: int) -> None:
        """Add or renew these; of each store's stagings only the newest ``keep`` stay."""

    def page(self, release: str | None, store: str | None, request: PageRequest) -> Page[Staging]:
        """By store and release, of all or of one of each."""

    def revision(self) -> object:
        """Equal to an earlier one only when nothing was put meanwhile."""


class GoldenRepository(Protocol):
    """Golden sets, what deployments demand of them, and what nodes reported."""

    def add(self, golden: GoldenSet) -> None:
        """Raises ``ConflictError`` when name and version are taken by another digest."""

    def get(self, digest: str) -> GoldenSet | None: ...

    def newest(self, name: str | None = None) -> GoldenSet | None:
        """The one imported last, of all or of this name."""

    def page(self, request: PageRequest) -> Page[GoldenSet]: ...

    def demand(self, demands: Sequence[GoldenDemand]) -> None: ...

    def demanded(self, rollout_id: UUID) -> GoldenDemand | None: ...

    def save(self, outcomes: Iterable[GoldenOutcome]) -> None:
        """Keep each, unless a newer one is known; of each device only the last few stay."""

    def results(self, stores: Iterable[str], model_digest: str | None = None) -> list[GoldenOutcome]: ...


class ShadowRepository(Protocol):
    """Shadow runs, one for each store, and what nodes counted."""

    def put(self, runs: Sequence[ShadowRun]) -> None: ...

    def withdraw(self, stores: Iterable[str], model_digest: str | None = None) -> None:
        """``model_digest``: only if it is that model's."""

    def page(self, request: PageRequest) -> Page[ShadowRun]:
        """By store, those that have come to their end included."""

    def revision(self, now: datetime) -> object:
        """Equal to an earlier one only when nothing was put or withdrawn, or came to its end, meanwhile."""

    def save(self, figures: Iterable[ShadowFigures]) -> None:
        """Replace what is known of the same counting; of each device only the last few stay."""

    def results(self, stores: Iterable[str], model_digest: str | None = None) -> list[ShadowFigures]: ...


class AuditRepository(Protocol):
    def add(self, entry: AuditEntry) -> None: ...

    def page(self, request: PageRequest) -> Page[AuditEntry]:
        """Newest first."""


class Repositories(Protocol):
    """One transaction's view of the database."""

    @property
    def stores(self) -> StoreRepository: ...
    @property
    def configs(self) -> StoreConfigRepository: ...
    @property
    def fleet(self) -> FleetRepository: ...
    @property
    def handovers(self) -> HandoverRepository: ...
    @property
    def stock(self) -> StockRepository: ...
    @property
    def events(self) -> EventRepository: ...
    @property
    def streams(self) -> StreamRepository: ...
    @property
    def dead_letters(self) -> DeadLetterRepository: ...
    @property
    def models(self) -> ModelRepository: ...
    @property
    def releases(self) -> ReleaseRepository: ...
    @property
    def deployments(self) -> DeploymentRepository: ...
    @property
    def stagings(self) -> StagingRepository: ...
    @property
    def golden(self) -> GoldenRepository: ...
    @property
    def shadows(self) -> ShadowRepository: ...
    @property
    def audit(self) -> AuditRepository: ...


class Transactions(Protocol):
    def reading(self) -> AbstractContextManager[Repositories]: ...

    def writing(self) -> AbstractContextManager[Repositories]: ...


@dataclass(frozen=True, slots=True)
class Received:
    """One MQTT message as it came in."""

    topic: str
    payload: bytes
    received_at: datetime
    retained: bool = False
    """True when the broker had kept it from earlier, so that it proves nothing about now."""
    receipt: object = None
    """What the bus needs to acknowledge it."""


class FleetBus(Protocol):
    """The connection to the broker that all stores report to."""

    def take(self, limit: int, wait_s: float) -> list[Received]:
        """Messages that came in: returns when there are ``limit``, or after ``wait_s`` seconds."""

    def acknowledge(self, messages: Iterable[Received]) -> None:
        """Tell the broker that these are safe. Those of an earlier connection are skipped; the broker
        sends them again."""

    def send_ack(self, store: str, device: str, ack: EventAck) -> None: ...

    def status(self) -> "BusStatus": ...


@dataclass(frozen=True, slots=True)
class BusStatus:
    connected: bool
    queued: int
    sessions_lost: int
    """How often the broker had forgotten our session, so that messages may have been missed."""
    dropped: int = 0
    """Messages of quality of service 0 dropped because ingest was behind."""
    error: str = ""
