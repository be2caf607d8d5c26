"""What rollouts, and what judges them, need of the database; see ``ports`` for what all methods raise."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from controller.domain.golden import GoldenDemand, GoldenOutcome, GoldenSet
from controller.domain.keys import DeviceKey
from controller.domain.page import Page, PageRequest
from controller.domain.quality import BucketKey, Mark, MemoryBucket, MemoryKey, QualityBucket
from controller.domain.rollout.records import Deferral, Judged, Quarantine, RolloutSummary
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Rollout, Status, StoreRecord
from controller.domain.shadow import ShadowFigures, ShadowRun

Span = tuple[datetime, datetime]
"""From the first moment until before the second."""


class QualityRepository(Protocol):
    """What cameras saw, in quarters of an hour (``controller.domain.quality``): as ingest keeps it."""

    def marks(self, keys: Iterable[DeviceKey]) -> dict[DeviceKey, Mark]: ...

    def buckets(self, keys: Iterable[BucketKey]) -> dict[BucketKey, QualityBucket]: ...

    def memory(self, keys: Iterable[MemoryKey]) -> dict[MemoryKey, MemoryBucket]: ...

    def save(
        self, marks: Iterable[Mark], buckets: Iterable[QualityBucket], memory: Iterable[MemoryBucket]
    ) -> None:
        """Insert or replace."""

    def trim(self, quality_before: datetime, memory_before: datetime) -> None:
        """Forget buckets that began earlier."""


class QualityHistory(Protocol):
    """The same, as gates read it."""

    def of_stores(self, stores: Iterable[str], spans: Sequence[Span]) -> list[QualityBucket]:
        """Those that begin within one of ``spans``, by store and time."""

    def memory_of_stores(self, stores: Iterable[str], since: datetime) -> list[MemoryBucket]: ...

    def marks(self, keys: Iterable[DeviceKey]) -> dict[DeviceKey, Mark]: ...


class QualityStore(QualityRepository, QualityHistory, Protocol):
    """One object is both."""


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

    def requested_by(self, actor: str) -> list[ShadowRun]: ...

    def revision(self, now: datetime) -> object:
        """Equal to an earlier one only when nothing was put or withdrawn, or came to its end, meanwhile."""

    def save(self, figures: Iterable[ShadowFigures]) -> None:
        """Replace what is known of the same counting; of each device only the last few stay."""

    def results(self, stores: Iterable[str], model_digest: str | None = None) -> list[ShadowFigures]: ...


class RolloutRepository(Protocol):
    def add(self, rollout: Rollout) -> None:
        """Raises ``ConflictError`` when the name is taken."""

    def get(self, name: str, *, locked: bool = False) -> Rollout | None:
        """``locked``: nobody else changes it until the end of the writing transaction."""

    def spec(self, name: str) -> RolloutSpec | None:
        """What it was asked for alone: the names of all its stores are not read."""

    def save(self, rollout: Rollout, expected_revision: int, *, settled: bool = False) -> None:
        """Replace it; its revision becomes ``expected_revision + 1``. ``settled``: it has ended, and no store
        is in the middle of anything. Raises ``ConflictError`` when somebody else changed it meanwhile."""

    def lock(self, name: str, expected_revision: int) -> None:
        """Nobody else changes it until the end of the transaction. Whoever changes a rollout and its stores'
        deployments locks it first, so that no two wait for each other. Raises as ``save``."""

    def unsettled(self) -> list[Rollout]:
        """Those that have been started and for which something may still have to be done, by name."""

    def statuses(self, names: Iterable[str]) -> dict[str, Status]: ...

    def withdrawn(self) -> frozenset[str]:
        """Releases whose newest rollout was aborted or turned back: nothing is put back to them."""

    def page(self, status: Status | None, request: PageRequest) -> Page[RolloutSummary]:
        """Newest first."""

    def change(self, *, stores: bool = True) -> object:
        """Equal to an earlier one only if no rollout changed meanwhile and, with ``stores``, no deferral or
        state of a deployment. Those take a look at every store, so ask only while a rollout is under way."""


class RolloutStoreRepository(Protocol):
    def of_rollout(self, rollout: str) -> dict[str, StoreRecord]:
        """By store."""

    def of_store(self, store: str) -> dict[str, StoreRecord]:
        """By rollout, the newest first."""

    def put(self, rollout: str, records: Iterable[StoreRecord]) -> None:
        """Insert or replace."""


class VerdictRepository(Protocol):
    def put(self, rollout: str, judged: Sequence[Judged]) -> None:
        """Of one minute the newest verdict of each gate stays, of older ones those of the last day."""

    def latest(self, rollout: str) -> list[Judged]:
        """One of each wave and gate."""

    def history(self, rollout: str, request: PageRequest) -> Page[Judged]:
        """Newest first."""


class DeferralRepository(Protocol):
    def put(self, deferral: Deferral) -> None:
        """A store has at most one; this replaces it."""

    def remove(self, store: str) -> bool:
        """Whether there was one."""

    def of_stores(self, stores: Iterable[str]) -> dict[str, Deferral]:
        """Also those that have run out."""

    def page(self, request: PageRequest) -> Page[Deferral]: ...


class QuarantineRepository(Protocol):
    def put(self, marks: Sequence[Quarantine]) -> None: ...

    def remove(self, rollout_ids: Iterable[UUID]) -> int:
        """How many there were."""

    def events_of(self, rollout_ids: Iterable[UUID]) -> int:
        """How many events these deployments have brought so far."""
