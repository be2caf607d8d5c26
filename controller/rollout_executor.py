"""Carries rollouts on: looks at each one that is under way, plans, and writes the plan's steps down.

Level-triggered like the reconciler, which does the work in the stores: nothing is remembered that a restart
would miss. A rollout that waits costs nothing: it is looked at when its plan says that time may change it,
when the database says that something changed, and otherwise rarely. Gates are judged beside that in a small
pool, so that one that waits for a slow webhook keeps no other rollout waiting.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from controller.domain.rollout.records import Judged
from controller.domain.rollout.spec import BEFORE_WAVE
from controller.domain.rollout.state import ENDED, GateVerdict, Phase, Plan, Rollout, Status
from controller.errors import ConflictError, ControllerError, TransientError
from controller.ports import Repositories, Transactions
from controller.rollout_picture import NOBODY, Picture, latest_verdicts, owners_of_stores, take_picture
from controller.rollout_shadows import ShadowChange, carry_out_shadows, shadow_change
from controller.rollout_steps import carry_out

log = logging.getLogger(__name__)

REST = 2.0
"""Looking may take a third of the time, resting takes the others."""

Verdicts = Mapping[int, Sequence[GateVerdict]]
"""By wave."""
Judge = Callable[[Picture, datetime], Verdicts]
"""Says what the gates of a rollout's open waves, and of the one that is next, find. Called in a thread of the
executor's pool, outside of any transaction; may take as long as its gates' timeouts. Raises
``ControllerError`` when it cannot say anything."""


@dataclass(frozen=True, slots=True)
class RolloutTempo:
    tick_s: float = 0.5
    """How often the database is asked whether anything changed, while a rollout is under way."""
    busy_s: float = 2.0
    """How often a rollout is looked at that has stores in the middle of the change, or out of reach."""
    idle_s: float = 30.0
    """And any other."""
    judge_s: float = 2.0
    """Between two judgements of a rollout that waits for its gates."""
    soak_s: float = 30.0
    """And of one that soaks, or changes stores: a gate may fail then, too."""
    judges: int = 4


@dataclass
class _Track:
    """What is remembered of one rollout between looks; forgotten with it."""

    verdicts: Verdicts
    due: datetime
    judged: datetime | None = None
    job: "Future[Verdicts] | None" = None


@dataclass
class _Seen:
    change: object = None
    rest_until: float = 0.0
    """By the steady clock: looking at a large fleet without a pause would take a whole core."""
    tracks: dict[str, _Track] = field(default_factory=dict)


class RolloutExecutor:
    def __init__(
        self,
        transactions: Transactions,
        judge: Judge,
        clock: Callable[[], datetime],
        new_id: Callable[[], UUID],
        tempo: RolloutTempo = RolloutTempo(),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``leads``: whether this controller is the one that acts on stores."""
        self._transactions = transactions
        self._judge = judge
        self._clock = clock
        self._new_id = new_id
        self._tempo = tempo
        self._leads = leads
        self._seen = _Seen()

    def run(self, stop: threading.Event) -> None:
        pool = ThreadPoolExecutor(self._tempo.judges, thread_name_prefix="judge")
        try:
            while not stop.is_set():
                self.tick(pool)
                stop.wait(self._tempo.tick_s)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def tick(self, pool: ThreadPoolExecutor) -> None:
        """Look at every rollout that is due."""
        if not self._leads():
            self._seen = _Seen()
            return
        try:
            now = self._clock()
            with self._transactions.reading() as repositories:
                change = repositories.rollouts.change(stores=bool(self._seen.tracks))
            due = self._due(change, now)
            began = time.monotonic()
            if due is None or began < self._seen.rest_until:
                return
            with self._transactions.reading() as repositories:
                rollouts = repositories.rollouts.unsettled()
                self._follow(repositories, rollouts, now)
                owners = owners_of_stores(repositories) if len(rollouts) > 1 else NOBODY
                pictures = [
                    take_picture(repositories, rollout, now, owners=owners)
                    for rollout in rollouts
                    if due or self._seen.tracks[rollout.name].due <= now
                ]
                shadows = [shadow_change(repositories, picture, now) for picture in pictures]
            self._seen.change = change
        except TransientError as error:
            log.warning("cannot read the rollouts, trying again: %s", error)
            return
        for picture, shadow in zip(pictures, shadows, strict=True):
            self._look(picture, shadow, now, pool)
        ended = time.monotonic()
        self._seen.rest_until = ended + REST * (ended - began)

    def _due(self, change: object, now: datetime) -> bool | None:
        """True: all are; False: those whose time has come; None: none is."""
        for name, track in self._seen.tracks.items():
            self._collect(name, track, now)
        if change != self._seen.change:
            return True
        return False if any(track.due <= now for track in self._seen.tracks.values()) else None

    def _follow(self, repositories: Repositories, rollouts: Sequence[Rollout], now: datetime) -> None:
        tracks = self._seen.tracks
        for rollout in rollouts:
            if rollout.name not in tracks:
                tracks[rollout.name] = _Track(latest_verdicts(repositories, rollout.name), now)
        names = {rollout.name for rollout in rollouts}
        for name in [name for name in tracks if name not in names]:
            del tracks[name]

    def _look(self, picture: Picture, shadow: ShadowChange, now: datetime, pool: ThreadPoolExecutor) -> None:
        name = picture.rollout.name
        track = self._seen.tracks[name]
        plan = picture.plan(now, track.verdicts)
        judging = _judging(picture, now)
        pause = {None: self._tempo.idle_s, True: self._tempo.judge_s, False: self._tempo.soak_s}[judging]
        track.due = self._next_look(plan, pause, now)
        settled = _is_settled(picture, plan)
        if plan.steps or settled or shadow:
            try:
                with self._transactions.writing() as repositories:
                    done = self._leads() and carry_out(
                        repositories, picture, plan.steps, now=now, new_id=self._new_id, settled=settled
                    )
                    if shadow and self._leads():
                        carry_out_shadows(repositories, picture, shadow, now)
                if done:
                    log.info("rollout %s: %s", name, plan.reason or picture.rollout.status)
            except ConflictError as error:
                log.info("rollout %s: planned again: %s", name, error)
                track.due = now
            except ControllerError as error:
                log.warning("rollout %s: not carried on, trying again: %s", name, error)
                track.due = min(track.due, now + timedelta(seconds=self._tempo.busy_s))
        rested = track.judged is None or now - track.judged >= timedelta(seconds=pause)
        if judging is not None and track.job is None and rested:
            track.judged = now
            track.job = pool.submit(self._judge, picture, now)

    def _next_look(self, plan: Plan, pause: float, now: datetime) -> datetime:
        moving = (Phase.UPDATING, Phase.RESTORING, Phase.OFFLINE)
        if any(view.phase in moving for view in plan.stores.values()):
            pause = min(pause, self._tempo.busy_s)
        latest = now + timedelta(seconds=pause)
        return min(latest, plan.check_at) if plan.check_at is not None else latest

    def _collect(self, name: str, track: _Track, now: datetime) -> None:
        """Take in what the gates said, and write it down for whoever asks."""
        job = track.job
        if job is None or not job.done():
            return
        track.job = None
        error = job.exception()
        if error is not None:
            level = logging.WARNING if isinstance(error, ControllerError) else logging.ERROR
            log.log(level, "rollout %s: its gates could not be judged: %s", name, error, exc_info=error)
            return
        verdicts = job.result()
        track.verdicts, track.due = {**track.verdicts, **verdicts}, now
        judged = [Judged(wave, one, now) for wave, several in verdicts.items() for one in several]
        try:
            with self._transactions.writing() as repositories:
                repositories.verdicts.put(name, judged)
        except ControllerError as failure:
            log.warning("rollout %s: verdicts not written down: %s", name, failure)


def _judging(picture: Picture, now: datetime) -> bool | None:
    """None: there is nothing to judge. True: the rollout waits for what its gates say."""
    rollout = picture.rollout
    if rollout.status is not Status.RUNNING or not rollout.spec.gates:
        return None
    for wave, spec in zip(rollout.waves, rollout.spec.waves, strict=True):
        if wave.passed_at is not None:
            continue
        if wave.opened_at is None:
            return True if any(gate.kind in BEFORE_WAVE for gate in rollout.spec.gates) else None
        members = [record for store in wave.stores if (record := picture.records.get(store))]
        if any(r.exposed_at and not r.ready_at and not r.failed_at for r in members):
            return False
        ready = [record.ready_at for record in members if record.ready_at is not None]
        return bool(ready) and now >= max(ready) + spec.soak
    return None


def _is_settled(picture: Picture, plan: Plan) -> bool:
    """Ended, and nothing of it is on its way any more."""
    if picture.rollout.status not in ENDED or plan.steps:
        return False
    for store, view in plan.stores.items():
        record = picture.records.get(store)
        if view.phase in (Phase.RESTORING, Phase.UPDATING):
            return False
        if view.phase is Phase.OFFLINE and record is not None and record.deployment is not None:
            return False
    return True
