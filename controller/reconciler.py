"""Brings every store to what it shall run: looks, decides (``domain.deployment``), acts, writes down.

Level-triggered: nothing is remembered that a restart would miss, so the controller may be killed at
any moment. Stores are looked at by a bounded pool; a store that failed last time is a suspect, and all
suspects together may only use half of it, so that many unreachable stores cannot keep the others waiting.
An idle store costs a row, a few small objects and a place on the agenda; the database is asked for one
number while nothing new is deployed.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from controller.agenda import Agenda
from controller.cluster import Cluster
from controller.deploying import ABSENT, LAST_KNOWN_GOOD
from controller.domain.deployment import (
    RESYNC_SPREAD,
    Action,
    Attempts,
    Decision,
    Desired,
    Observed,
    State,
    Unreachable,
    backoff,
    decide,
    wake_pause,
)
from controller.domain.fleet import Store
from controller.domain.journal import AuditEntry
from controller.domain.records import Deployment, Wanted
from controller.domain.workload import WorkloadSettings
from controller.errors import ControllerError, NotFoundError, PermanentError, TransientError
from controller.ports import Transactions
from controller.releases import workload_of

log = logging.getLogger(__name__)

ACTOR = "reconciler"
NO_ATTEMPTS = Attempts()
CHANGES = frozenset({Action.APPLY, Action.REMOVE, Action.REPAIR_DRIFT})
"""Actions that change something in a store."""


@dataclass(frozen=True, slots=True)
class Tempo:
    workers: int = 32
    """How many stores are looked at at the same time. Threads are made when needed."""
    tick_s: float = 0.5
    """How often the database is asked for new deployments."""
    resync_s: float = 60.0
    """How often a store that is as it should be is looked at, at most."""
    looks_per_s: float = 20.0
    """How many such looks all stores together get: a larger fleet is looked at less often."""
    reread_s: float = 60.0
    """How often all deployments are read though none has changed."""
    slow_s: float = 30.0
    """A look that takes longer is reported."""


@dataclass(slots=True)
class _Track:
    """What is remembered of one store between looks; forgotten with its deployment."""

    rollout_id: UUID
    attempts: Attempts = NO_ATTEMPTS
    suspect: bool = False
    """The last look failed, whatever was to be deployed then."""
    degraded: tuple[str, ...] = ()
    woken_at: float = float("-inf")
    woken_in_vain: int = 0


@dataclass(slots=True)
class _Job:
    """A look that goes on."""

    future: "Future[_Look]"
    rollout_id: UUID
    began: float
    suspect: bool
    reported_slow: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """What came of looking at one store."""

    check_after: float
    attempts: Attempts
    degraded: tuple[str, ...]


class Reconciler:
    def __init__(
        self,
        transactions: Transactions,
        cluster_of: Callable[[Store], Cluster],
        fleet: WorkloadSettings,
        trusted_pem: Callable[[], bytes],
        clock: Callable[[], datetime],
        chance: Callable[[], float],
        tempo: Tempo = Tempo(),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``chance`` gives random numbers in [0, 1) that spread retries. ``leads``: whether this controller
        is the one that acts on stores; asked right before every act."""
        self._transactions = transactions
        self._cluster_of = cluster_of
        self._fleet = fleet
        self._trusted_pem = trusted_pem
        self._clock = clock
        self._chance = chance
        self._tempo = tempo
        self._leads = leads
        self._tracks: dict[str, _Track] = {}
        self._agenda = Agenda()
        self._jobs: dict[str, _Job] = {}
        self._bell = threading.Event()
        """A look has ended."""
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        self._revision: object = None
        self._asked_at = self._read_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        pool = ThreadPoolExecutor(self._tempo.workers, thread_name_prefix="reconcile")
        try:
            while not stop.is_set():
                self._bell.clear()
                self.tick(pool)
                self._bell.wait(self._tempo.tick_s)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def wake(self, store: str) -> None:
        """The store was heard of by another way: if looking at it failed, it is looked at again soon, and
        not when its backoff ends. From any thread, as often as one likes."""
        with self._lock:
            self._heard.add(store)

    def tick(self, pool: ThreadPoolExecutor) -> None:
        """Take in what is finished and start what is due. Never waits for a store."""
        now = time.monotonic()
        for store in list(self._jobs):
            self._collect(store, now)
        if not self._leads():  # whoever leads now decides; all is read anew if that is us again
            self._tracks.clear()
            self._agenda = Agenda()
            self._asked_at = self._read_at = float("-inf")
            return
        try:
            self._follow(now)
        except TransientError as error:
            self._asked_at = float("-inf")
            log.warning("cannot read the deployments, trying again: %s", error)
            return
        self._wake_heard(now)
        free = self._tempo.workers - len(self._jobs)
        suspects = self._tempo.workers // 2 - sum(job.suspect for job in self._jobs.values())
        self._start(pool, now, min(free, suspects), suspect=True)
        self._start(pool, now, self._tempo.workers - len(self._jobs), suspect=False)

    def _start(self, pool: ThreadPoolExecutor, now: float, limit: int, *, suspect: bool) -> None:
        for _ in range(limit):
            store = self._agenda.take(now, suspect=suspect)
            if store is None:
                return
            track = self._tracks[store]
            future = pool.submit(self._look, store, track.attempts, track.degraded)
            future.add_done_callback(lambda _: self._bell.set())
            self._jobs[store] = _Job(future, track.rollout_id, now, suspect)

    def _follow(self, now: float) -> None:
        """Take in what was deployed since the database was last asked."""
        if now - self._asked_at < self._tempo.tick_s:
            return
        self._asked_at = now
        with self._transactions.reading() as repositories:
            revision = repositories.deployments.revision()
            if revision == self._revision and now - self._read_at < self._tempo.reread_s:
                return
            wanted = repositories.deployments.wanted()
        self._revision, self._read_at = revision, now
        for store in self._tracks.keys() - {one.store for one in wanted}:
            del self._tracks[store]
            self._agenda.discard(store)
        resync_s = self._resync_s(len(wanted))
        for one in wanted:
            self._follow_one(one, now, resync_s)

    def _follow_one(self, wanted: Wanted, now: float, resync_s: float) -> None:
        track = self._tracks.get(wanted.store)
        if track is None:  # just started, or a new store: those that were well can wait their turn
            track = _Track(wanted.rollout_id, suspect=wanted.state == State.UNREACHABLE)
            self._tracks[wanted.store] = track
            due = now + resync_s * self._chance() if wanted.state == State.READY else 0.0
        elif track.rollout_id != wanted.rollout_id:
            track.rollout_id, track.attempts, due = wanted.rollout_id, Attempts(), 0.0
        else:
            return
        if wanted.store not in self._jobs:  # else it follows when the look that goes on has ended
            self._agenda.put(wanted.store, due, suspect=track.suspect)

    def _resync_s(self, stores: int) -> float:
        mean = 1 - RESYNC_SPREAD / 2
        return max(self._tempo.resync_s, stores / self._tempo.looks_per_s / mean)

    def _wake_heard(self, now: float) -> None:
        with self._lock:
            heard, self._heard = self._heard, set()
        for store in heard:
            track = self._tracks.get(store)
            if track is None or not track.attempts.failures:
                continue
            if store in self._jobs:
                self.wake(store)  # that look began before: ask again when it has ended
            elif now - track.woken_at >= wake_pause(track.woken_in_vain):
                track.woken_at, track.woken_in_vain = now, track.woken_in_vain + 1
                self._agenda.put(store, now, suspect=True)

    def _collect(self, store: str, now: float) -> None:
        job, track = self._jobs[store], self._tracks.get(store)
        if not job.future.done():
            if now - job.began > self._tempo.slow_s and not job.reported_slow:
                job.reported_slow = True
                words = f"the store's cluster has not answered for {now - job.began:.0f} s"
                self._record_quietly(
                    store, job.rollout_id, Decision(Action.BACKOFF, State.UNREACHABLE, words, 0.0)
                )
            return
        del self._jobs[store]
        error = job.future.exception()
        if error is not None:
            level = logging.WARNING if isinstance(error, ControllerError) else logging.ERROR
            log.log(level, "store %s: looking at it failed: %s", store, error, exc_info=error)
        if track is None:
            return
        if error is None:
            look = job.future.result()
            track.degraded, attempts, due = look.degraded, look.attempts, now + look.check_after
        elif isinstance(error, TransientError):  # of the database: a store's own is an observation
            attempts, due = track.attempts, now + backoff(2, self._chance())
        else:
            attempts = replace(track.attempts, failures=track.attempts.failures + 1)
            due = now + backoff(attempts.failures, self._chance())
        track.suspect = attempts.failures > 0
        if not track.suspect:
            track.woken_in_vain = 0
        if job.rollout_id == track.rollout_id:
            track.attempts = attempts
        else:
            due = 0.0  # a newer deployment came in
        self._agenda.put(store, due, suspect=track.suspect)

    def _look(self, store: str, attempts: Attempts, degraded: tuple[str, ...]) -> _Look:
        """One look at one store, in a thread of the pool."""
        with self._transactions.reading() as repositories:
            found = repositories.deployments.current([store])
            registered = repositories.stores.get(store)
        if not found or registered is None:  # gone meanwhile
            return _Look(self._tempo.resync_s, Attempts(), degraded)
        deployment = found[0]
        since = deployment.applied_at or deployment.created_at
        absent = deployment.desired == ABSENT
        desired = Desired(str(deployment.rollout_id), deployment.release, since, absent)
        observed: Observed | Unreachable
        applied_at: datetime | None = None
        try:
            cluster = self._cluster_of(registered)
            observed = cluster.observe(store)
            known = tuple(dict.fromkeys((*degraded, *observed.degraded)))
            decision = self._decide(desired, replace(observed, degraded=known), attempts)
            if decision.action in CHANGES:
                if not self._is_wanted(deployment):
                    return _Look(0.0, attempts, degraded)
                degraded = self._change(cluster, deployment, degraded)
                applied_at = self._clock()
        except TransientError as error:
            observed = Unreachable(str(error), retry_after=error.retry_after)
            decision = self._decide(desired, observed, attempts)
        except PermanentError as error:
            observed = Unreachable(str(error), permanent=True)
            decision = self._decide(desired, observed, attempts)
        self._record(deployment, decision, observed, applied_at)
        failed = isinstance(observed, Unreachable) or decision.state == State.UNREACHABLE
        repairing = decision.action is Action.REPAIR_DRIFT
        calm = decision.action is Action.READY
        return _Look(
            decision.check_after,
            Attempts(
                failures=attempts.failures + 1 if failed else 0,
                repairs=attempts.repairs + 1 if repairing else 0 if calm else attempts.repairs,
            ),
            degraded,
        )

    def _is_wanted(self, deployment: Deployment) -> bool:
        """Asked right before a store is changed. Looking at it took a while, in which a rollout may have been
        aborted; what an abort put an end to must not be applied any more."""
        if not self._leads():
            return False
        with self._transactions.reading() as repositories:
            current = repositories.deployments.current([deployment.store])
        return [found.rollout_id for found in current] == [deployment.rollout_id]

    def _change(self, cluster: Cluster, deployment: Deployment, degraded: tuple[str, ...]) -> tuple[str, ...]:
        """Bring the store to what it shall run; what its cluster cannot do."""
        if deployment.desired == ABSENT:
            cluster.remove(deployment.store)
            return degraded
        with self._transactions.reading() as repositories:
            workload = workload_of(repositories, deployment, self._fleet, self._trusted_pem().decode())
        return cluster.apply(workload).degraded

    def _decide(self, desired: Desired, observed: Observed | Unreachable, attempts: Attempts) -> Decision:
        return decide(
            desired,
            observed,
            self._clock(),
            attempts=attempts,
            jitter=self._chance(),
            resync_s=self._resync_s(len(self._tracks)),
        )

    def _record(
        self,
        deployment: Deployment,
        decision: Decision,
        observed: Observed | Unreachable,
        applied_at: datetime | None,
    ) -> None:
        """Write down what changed; a deployment that was superseded meanwhile is left alone."""
        now = self._clock()
        if _after(deployment, decision, observed, applied_at, now) == deployment:
            return
        with self._transactions.writing() as repositories:
            before = repositories.deployments.get(deployment.rollout_id)
            if before is None or before.superseded_by is not None:
                return
            repositories.deployments.save(_after(before, decision, observed, applied_at, now))
            if applied_at is not None:
                audit = {"rollout_id": str(before.rollout_id), "reason": decision.reason}
                repositories.audit.add(
                    AuditEntry(now, ACTOR, f"deployment.{decision.action}", before.store, audit)
                )
        log.info("store %s: %s: %s", before.store, decision.state, decision.reason)

    def _record_quietly(self, store: str, rollout_id: UUID, decision: Decision) -> None:
        try:
            with self._transactions.reading() as repositories:
                found = repositories.deployments.current([store])
            if found and found[0].rollout_id == rollout_id:
                self._record(found[0], decision, Unreachable(decision.reason), None)
        except (TransientError, NotFoundError) as error:
            log.warning("store %s: cannot record %s: %s", store, decision.reason, error)


def _after(
    before: Deployment,
    decision: Decision,
    observed: Observed | Unreachable,
    applied_at: datetime | None,
    now: datetime,
) -> Deployment:
    """The record after a look; ``applied_at``: when it was applied in this look, None if it was not."""
    after = replace(
        before,
        state=decision.state,
        message=decision.reason,
        applied_at=applied_at or before.applied_at,
    )
    if isinstance(observed, Observed):
        seen = observed.rollout_id == str(before.rollout_id)
        after = replace(
            after,
            observed_generation=before.generation if seen else before.observed_generation,
            detail=_detail(observed, before),
        )
    if decision.state == State.READY and after.ready_at is None:
        after = replace(after, ready_at=now)
    return after


def _detail(observed: Observed, before: Deployment) -> dict[str, object]:
    return {
        LAST_KNOWN_GOOD: before.detail.get(LAST_KNOWN_GOOD),
        "nodes": observed.desired,
        "ready": observed.ready,
        "updated": observed.updated,
        "images": list(observed.images),
        "problems": list(observed.problems),
        "drift": list(observed.drift),
    }
