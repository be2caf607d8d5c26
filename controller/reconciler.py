"""Brings every store to what it shall run: looks, decides (``domain.deployment``), acts, writes down.

Level-triggered: nothing is remembered that a restart would miss, so the controller may be killed at
any moment. Stores are looked at by a bounded pool; a store that failed last time may only use half of
it, so that many unreachable stores cannot keep the others waiting. An idle store costs a row and an
entry in a dictionary.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from controller.cluster import Cluster
from controller.deploying import ABSENT, LAST_KNOWN_GOOD
from controller.domain.deployment import (
    Action,
    Attempts,
    Decision,
    Desired,
    Observed,
    State,
    Unreachable,
    backoff,
    decide,
)
from controller.domain.fleet import Store
from controller.domain.journal import AuditEntry
from controller.domain.records import Deployment
from controller.domain.workload import Workload, WorkloadSettings
from controller.errors import ControllerError, NotFoundError, PermanentError, TransientError
from controller.ports import Transactions
from controller.releases import workload_of

log = logging.getLogger(__name__)

ACTOR = "reconciler"
CHANGES = frozenset({Action.APPLY, Action.REMOVE, Action.REPAIR_DRIFT})
"""Actions that change something in a store."""


@dataclass(frozen=True, slots=True)
class Tempo:
    workers: int = 8
    tick_s: float = 0.5
    """How often the database is asked for new deployments."""
    resync_s: float = 60.0
    """How often a store that is as it should be is looked at."""
    slow_s: float = 30.0
    """A look that takes longer is reported."""


@dataclass
class _Track:
    """What is remembered of one store between looks; forgotten with its deployment."""

    rollout_id: UUID
    due: float = 0.0
    attempts: Attempts = field(default_factory=Attempts)
    degraded: tuple[str, ...] = ()
    job: "Future[_Look] | None" = None
    job_for: UUID | None = None
    began: float = 0.0
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

    def run(self, stop: threading.Event) -> None:
        pool = ThreadPoolExecutor(self._tempo.workers, thread_name_prefix="reconcile")
        try:
            while not stop.is_set():
                self.tick(pool)
                stop.wait(self._tempo.tick_s)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def tick(self, pool: ThreadPoolExecutor) -> None:
        """Take in what is finished and start what is due. Never waits for a store."""
        if not self._leads():
            self._tracks = {store: track for store, track in self._tracks.items() if not _done(track)}
            return
        try:
            with self._transactions.reading() as repositories:
                current = {d.store: d for d in repositories.deployments.current()}
        except TransientError as error:
            log.warning("cannot read the deployments, trying again: %s", error)
            return
        now = time.monotonic()
        self._follow(current)
        busy = [track for track in self._tracks.values() if track.job is not None]
        free = self._tempo.workers - len(busy)
        free_for_failing = self._tempo.workers // 2 - sum(track.attempts.failures > 0 for track in busy)
        for store, track in sorted(self._tracks.items(), key=lambda item: item[1].due):
            if track.job is not None:
                self._collect(store, track, current[store], now)
            elif track.due <= now and free > 0:
                failing = track.attempts.failures > 0
                if failing and free_for_failing <= 0:
                    continue
                free -= 1
                free_for_failing -= failing
                track.began, track.reported_slow, track.job_for = now, False, track.rollout_id
                track.job = pool.submit(self._look, current[store], track.attempts, track.degraded)

    def _follow(self, current: dict[str, Deployment]) -> None:
        for store in [store for store in self._tracks if store not in current]:
            del self._tracks[store]
        for store, deployment in current.items():
            track = self._tracks.get(store)
            if track is None:
                self._tracks[store] = _Track(deployment.rollout_id)
            elif track.rollout_id != deployment.rollout_id:
                track.rollout_id, track.due, track.attempts = deployment.rollout_id, 0.0, Attempts()

    def _collect(self, store: str, track: _Track, deployment: Deployment, now: float) -> None:
        job = track.job
        if job is None:
            return
        if not job.done():
            if now - track.began > self._tempo.slow_s and not track.reported_slow:
                track.reported_slow = True
                words = f"the store's cluster has not answered for {now - track.began:.0f} s"
                self._record_quietly(deployment, Decision(Action.BACKOFF, State.UNREACHABLE, words, 0.0))
            return
        track.job = None
        error = job.exception()
        if error is None:
            look = job.result()
            track.degraded = look.degraded
            if track.job_for == track.rollout_id:  # else a newer deployment came in, which is due at once
                track.attempts, track.due = look.attempts, now + look.check_after
            return
        level = logging.WARNING if isinstance(error, ControllerError) else logging.ERROR
        log.log(level, "store %s: looking at it failed: %s", store, error, exc_info=error)
        track.attempts = replace(track.attempts, failures=track.attempts.failures + 1)
        track.due = now + backoff(track.attempts.failures, self._chance())

    def _look(self, deployment: Deployment, attempts: Attempts, degraded: tuple[str, ...]) -> _Look:
        """One look at one store, in a thread of the pool."""
        since = deployment.applied_at or deployment.created_at
        absent = deployment.desired == ABSENT
        desired = Desired(str(deployment.rollout_id), deployment.release, since, absent)
        observed: Observed | Unreachable
        applied_at = deployment.applied_at
        try:
            cluster, workload = self._prepare(deployment)
            observed = cluster.observe(deployment.store)
            known = tuple(dict.fromkeys((*degraded, *observed.degraded)))
            decision = self._decide(desired, replace(observed, degraded=known), attempts)
            if decision.action in CHANGES:
                if not self._is_wanted(deployment):
                    return _Look(0.0, attempts, degraded)
                if workload is None:
                    cluster.remove(deployment.store)
                else:
                    degraded = cluster.apply(workload).degraded
                applied_at = self._clock()
        except TransientError as error:
            observed = Unreachable(str(error), retry_after=error.retry_after)
            decision = self._decide(desired, observed, attempts)
        except PermanentError as error:
            observed = Unreachable(str(error), permanent=True)
            decision = self._decide(desired, observed, attempts)
        self._record(deployment, decision, observed, applied_at)
        failed = isinstance(observed, Unreachable)
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

    def _prepare(self, deployment: Deployment) -> tuple[Cluster, Workload | None]:
        """How to reach the store, and what it shall run; None: nothing."""
        with self._transactions.reading() as repositories:
            store = repositories.stores.get(deployment.store)
            if store is None:
                raise PermanentError(f"store {deployment.store} is gone")
            if deployment.desired == ABSENT:
                return self._cluster_of(store), None
            workload = workload_of(repositories, deployment, self._fleet, self._trusted_pem().decode())
        return self._cluster_of(store), workload

    def _decide(self, desired: Desired, observed: Observed | Unreachable, attempts: Attempts) -> Decision:
        return decide(
            desired,
            observed,
            self._clock(),
            attempts=attempts,
            jitter=self._chance(),
            resync_s=self._tempo.resync_s,
        )

    def _record(
        self,
        deployment: Deployment,
        decision: Decision,
        observed: Observed | Unreachable | None,
        applied_at: datetime | None,
    ) -> None:
        """Write down what changed; a deployment that was superseded meanwhile is left alone."""
        now = self._clock()
        with self._transactions.writing() as repositories:
            before = repositories.deployments.get(deployment.rollout_id)
            if before is None or before.superseded_by is not None:
                return
            after = replace(before, state=decision.state, message=decision.reason, applied_at=applied_at)
            if isinstance(observed, Observed):
                after = replace(
                    after,
                    observed_generation=before.generation
                    if observed.rollout_id == str(before.rollout_id)
                    else before.observed_generation,
                    detail=_detail(observed, before),
                )
            if decision.state == State.READY and after.ready_at is None:
                after = replace(after, ready_at=now)
            if after == before:
                return
            repositories.deployments.save(after)
            if decision.action in CHANGES:
                audit = {"rollout_id": str(before.rollout_id), "reason": decision.reason}
                repositories.audit.add(
                    AuditEntry(now, ACTOR, f"deployment.{decision.action}", before.store, audit)
                )
        log.info("store %s: %s: %s", before.store, decision.state, decision.reason)

    def _record_quietly(self, deployment: Deployment, decision: Decision) -> None:
        try:
            self._record(deployment, decision, None, deployment.applied_at)
        except (TransientError, NotFoundError) as error:
            log.warning("store %s: cannot record %s: %s", deployment.store, decision.reason, error)


def _done(track: _Track) -> bool:
    return track.job is None or track.job.done()


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
