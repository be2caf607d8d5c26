"""Stores that take what they are told, become ready or not, and are out of reach at times.

What the centre knows of a store (``now_of``) is what it saw last: while a store is cut off, the store goes on
and the centre's view stands still, as it is with real ones. All time is the centre's, in UTC.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from controller.domain.deployment import PROGRESS_DEADLINE, State
from controller.domain.rollout.selection import StoreFacts
from controller.domain.rollout.state import StoreNow


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a release in a store. Seconds."""

    apply_s: float = 1.0
    """Until its cluster has taken the deployment."""
    ready_s: float | None = 20.0
    """From then until it is ready; None: never."""
    crash_s: float | None = None
    """From then until it keeps crashing; None: it does not."""
    skew_s: float = 0.0
    """What a wrong clock adds to the time at which it says that it was ready."""


@dataclass(slots=True)
class Deployed:
    """One deployment in one store: as it is, and below as the centre saw it last."""

    id: UUID
    release: str | None
    created_at: datetime
    last_known_good: str | None
    fate: Fate
    taken_at: datetime | None = None
    state: State = State.PENDING
    message: str = "waiting for the reconciler"
    applied_at: datetime | None = None
    ready_at: datetime | None = None


@dataclass(slots=True)
class SimStore:
    facts: StoreFacts
    current: Deployed | None = None
    cut_at: datetime | None = None
    """Out of reach since then."""
    worked: set[str] = field(default_factory=set)
    """Every release that ever was ready here: the truth, not what is recorded."""
    deferred_until: datetime | None = None

    @property
    def name(self) -> str:
        return self.facts.name


class World:
    """``fate(store, release)`` decides when a deployment is made; the same every time it is asked."""

    def __init__(
        self,
        fleet: Iterable[StoreFacts],
        start: datetime,
        fate: Callable[[str, str], Fate],
        new_id: Callable[[], UUID],
    ) -> None:
        self.now = start
        self.stores = {facts.name: SimStore(facts) for facts in fleet}
        self._fate = fate
        self._new_id = new_id

    @property
    def facts(self) -> tuple[StoreFacts, ...]:
        return tuple(store.facts for store in self.stores.values())

    def settle(self, release: str, since: datetime) -> None:
        """Every store runs ``release`` and has been ready since then."""
        for store in self.stores.values():
            store.current = Deployed(
                self._new_id(), release, since, None, Fate(), since, State.READY, "", since, since
            )
            store.worked.add(release)

    def deploy(self, store: str, release: str | None) -> UUID:
        """What the centre wants the store to run from now on; None: nothing. Seen only when in reach."""
        target = self.stores[store]
        before, good = target.current, None
        if before is not None:
            worked = before.ready_at is not None and before.release is not None
            good = before.release if worked else before.last_known_good
        fate = self._fate(store, release) if release is not None else Fate(ready_s=0.0)
        target.current = Deployed(self._new_id(), release, self.now, good, fate)
        return target.current.id

    def cut(self, store: str) -> None:
        target = self.stores[store]
        target.cut_at = target.cut_at or self.now

    def mend(self, store: str) -> None:
        self.stores[store].cut_at = None

    def revert(self, store: str) -> None:
        """The store comes back from an old backup: its cluster has to be told again what to run."""
        current = self.stores[store].current
        if current is not None and current.taken_at is not None:
            current.taken_at = None

    def advance(self, by: timedelta) -> None:
        self.now += by
        for store in self.stores.values():
            if store.current is not None:
                self._pass_time(store, store.current)

    def now_of(self, claimed_by: Mapping[str, str] = {}) -> dict[str, StoreNow]:
        """As the planner is told; ``claimed_by`` as of ``rank.held_by_others``."""
        return {name: self._view(store, claimed_by.get(name, "")) for name, store in self.stores.items()}

    def _view(self, store: SimStore, claimed_by: str) -> StoreNow:
        current = store.current
        reachable = store.cut_at is None
        return StoreNow(
            store.name,
            reachable,
            "" if reachable else f"silent since {store.cut_at:%H:%M}",
            store.facts.timezone,
            store.facts.labels,
            current.id if current else None,
            current.release if current else None,
            (current.state if reachable else State.UNREACHABLE) if current else "",
            current.message if current else "",
            current.created_at if current else None,
            current.applied_at if current else None,
            current.ready_at if current else None,
            current.last_known_good if current else None,
            deferred_until=store.deferred_until,
            claimed_by=claimed_by,
        )

    def _pass_time(self, store: SimStore, current: Deployed) -> None:
        """What happened in the store up to now; the centre sees it only if the store is in reach."""
        now, fate, reachable = self.now, current.fate, store.cut_at is None
        if current.taken_at is None:
            if not reachable or now < current.created_at + timedelta(seconds=fate.apply_s):
                return
            current.taken_at = current.applied_at = now
        if not reachable:
            return
        ready_after = None if fate.ready_s is None else timedelta(seconds=fate.ready_s)
        if ready_after is None or now < current.taken_at + ready_after:
            late = now >= current.taken_at + PROGRESS_DEADLINE
            current.state = State.FAILED if late else State.PROGRESSING
            current.message = (
                "not ready after 10 minutes" if late else f"{current.release} ready on 0 of 1 nodes"
            )
            return
        crash_after = None if fate.crash_s is None else timedelta(seconds=fate.crash_s)
        if crash_after is not None and now >= current.taken_at + ready_after + crash_after:
            current.state, current.message = State.PROGRESSING, "container agent keeps crashing (exit code 1)"
            return
        current.state, current.message = State.READY, f"{current.release} ready on 1 of 1 nodes"
        if current.ready_at is None:
            current.ready_at = now + timedelta(seconds=fate.skew_s)
            if current.release is not None:
                store.worked.add(current.release)
