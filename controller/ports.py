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
from controller.domain.journal import AuditEntry, DeadLetter, GapRecord
from controller.domain.keys import CameraKey, DeviceKey, ZoneKey
from controller.domain.model import Model
from controller.domain.page import Page, PageRequest
from controller.domain.records import Deployment, ReleaseRecord, Wanted
from controller.domain.sequence import Gap, Stream, StreamKey
from controller.domain.staging import Staging
from controller.domain.stock import StockChange, ZoneStock
from controller.rollout_ports import (
    DeferralRepository,
    GoldenRepository,
    QualityStore,
    QuarantineRepository,
    RolloutRepository,
    RolloutStoreRepository,
    ShadowRepository,
    VerdictRepository,
)


class StoreRepository(Protocol):
    def add(self, store: Store) -> None:
        """Raises ``ConflictError`` when a store of that name exists."""

    def get(self, name: str) -> Store | None: ...

    def page(self, request: PageRequest) -> Page[Store]:
        """By name."""

    def several(self, names: Iterable[str] | None = None) -> list[Store]:
        """All stores, or those of ``names`` that exist, by name."""

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that exist."""


class StoreConfigRepository(Protocol):
    def put(self, version: StoreConfigVersion) -> None:
        """Keep this version and make it the store's current one."""

    def current(self, store: str) -> StoreConfigVersion | None: ...

    def currents(self, names: Iterable[str]) -> dict[str, StoreConfigVersion]:
        """By store; one without a configuration is missing."""

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

    def devices_of(self, stores: Iterable[str]) -> list[Device]:
        """By store and name, without what takes long to read: telemetry and delivery."""

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
    def supersede(self, made: Sequence[Deployment], message: Mapping[str, str] | None = None) -> None:
        """Make these their stores' current deployments and mark the ones before as superseded by them, with
        the store's ``message``. Raises ``ConflictError`` when another one came in meanwhile."""

    def of(self, *, rollout: str | None = None, release: str | None = None) -> list[Deployment]:
        """All that brought ``release``, or that fleet rollout ``rollout`` made, by store and generation;
        none that took a workload away."""

    def save(self, deployment: Deployment) -> None:
        """Update what the reconciler observed. Raises ``NotFoundError``."""

    def current(self, stores: Iterable[str] | None = None) -> list[Deployment]:
        """The deployments that are not superseded, of all stores or of these, by store."""

    def wanted(self) -> list[Wanted]:
        """The same of all stores, in brief and in no order."""

    def revision(self) -> object:
        """Equal to an earlier one only while ``wanted`` names the same deployments. What else changes
        about them does not count."""

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


class AuditRepository(Protocol):
    def add(self, entry: AuditEntry) -> None: ...

    def add_all(self, entries: Sequence[AuditEntry]) -> None: ...

    def page(
        self, request: PageRequest, *, target: str | None = None, action: str | None = None
    ) -> Page[AuditEntry]:
        """Newest first; only of this target, only actions that begin like this."""


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
    def rollouts(self) -> RolloutRepository: ...
    @property
    def rollout_stores(self) -> RolloutStoreRepository: ...
    @property
    def verdicts(self) -> VerdictRepository: ...
    @property
    def deferrals(self) -> DeferralRepository: ...
    @property
    def quarantines(self) -> QuarantineRepository: ...
    @property
    def quality(self) -> QualityStore: ...
    @property
    def golden(self) -> GoldenRepository: ...
    @property
    def shadows(self) -> ShadowRepository: ...
    @property
    def audit(self) -> AuditRepository: ...


class Transactions(Protocol):
    def reading(self) -> AbstractContextManager[Repositories]: ...

    def writing(self) -> AbstractContextManager[Repositories]: ...


class Leadership(Protocol):
    """Of several controllers on one database, one acts on stores: the leader. The others wait."""

    def renew(self) -> None:
        """Become the leader if there is none, or stay it. Called every ``RENEW_S``. Raises ``TransientError``
        when that is not known; leadership then ends by itself after a while."""

    def held(self) -> bool:
        """Whether to act just now. Asks nobody, so it may be called before every act."""

    def release(self) -> None:
        """Let another one lead at once."""


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
