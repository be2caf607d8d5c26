"""What has become of one store of a rollout, told from its record and from what is seen of it now.

Only what is seen of *this* rollout's own deployment is evidence. Three things are kept apart: a store that
failed (it was in reach, and was not ready in time), one that is out of reach (which says nothing about the
release), and one whose turn has not come.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.deployment import State
from controller.domain.rollout.apply import record_after
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import Observe, Phase, Rollout, StoreNow, StoreRecord

CRASHING = "keeps crashing"
"""How ``pod_trouble`` words a crash loop: no reason to wait for the store's deadline."""


@dataclass(slots=True)
class Sight:
    """One store during one planning. The planner changes phase and reason of a store that is due."""

    record: StoreRecord
    """As it is once ``observe`` is written down."""
    now: StoreNow | None
    phase: Phase
    reason: str
    observe: Observe | None = None
    busy: bool = False
    """In the middle of the change: holds one of the places that ``concurrency`` gives."""
    away: bool = False
    """Out of reach."""
    exposed: bool = False
    """Runs, or will find when it returns, what this rollout brought."""
    stuck: bool = False
    """Cannot be put back as it was: in reach, but not ready in time."""
    deferred: bool = False
    check_at: datetime | None = None


def look(rollout: Rollout, record: StoreRecord, now: StoreNow | None, at: datetime) -> Sight:
    """``at`` is the present moment."""
    if now is None:
        return Sight(record, None, Phase.SKIPPED, "the store is no longer in the fleet")
    if record.restoring is not None:
        return _put_back(rollout.spec, record, now, at)
    if record.deployment is None:
        sight = _untouched(rollout, record, now)
        sight.away = not now.reachable
        sight.exposed = record.exposed_at is not None and now.release == rollout.spec.release  # to be retried
        return sight
    if now.deployment != record.deployment:
        by = " anew, by others" if now.release == rollout.spec.release else ""
        what = (
            f"{now.release} was deployed since{by}" if now.release else "nothing is deployed there any more"
        )
        return Sight(record, now, Phase.SUPERSEDED, what)
    if record.skipped:
        return Sight(record, now, Phase.SKIPPED, record.skipped, exposed=True, away=not now.reachable)
    sight = _exposed(rollout.spec, record, now, at)
    sight.exposed = True
    if sight.observe is not None:
        sight.record = record_after(record, sight.observe, at)
    return sight


def _untouched(rollout: Rollout, record: StoreRecord, now: StoreNow) -> Sight:
    release = rollout.spec.release
    if record.skipped:
        return Sight(record, now, Phase.SKIPPED, record.skipped)
    if record.failed_at is not None:  # it cannot run the release, so it did not get it
        return Sight(record, now, Phase.FAILED, record.failure, away=not now.reachable)
    if record.ready_at is not None:
        if now.release == release:
            return Sight(record, now, Phase.READY, f"ran {release} already")
        return Sight(record, now, Phase.SUPERSEDED, f"{now.release} was deployed since")
    if now.claimed_by:
        return Sight(record, now, Phase.SUPERSEDED, f"{now.claimed_by} ranks higher and wants this store")
    since = rollout.started_at
    if rollout.spec.after:  # until those before it are done, whatever they deploy is what it waits for
        since = rollout.waves[0].opened_at
    if since and now.created_at and now.created_at > since and now.release != release:
        # Whoever deployed since decided later than whoever started this rollout.
        return Sight(record, now, Phase.SUPERSEDED, f"{now.release} was deployed after this rollout began")
    return Sight(record, now, Phase.PENDING, "")


def _exposed(spec: RolloutSpec, record: StoreRecord, now: StoreNow, at: datetime) -> Sight:
    away = not now.reachable or now.state == State.UNREACHABLE
    if record.failed_at is not None:
        if record.ready_at is None and now.state == State.READY and not away:
            return _became_ready(record, now, at)
        return Sight(record, now, Phase.FAILED, record.failure, away=away)
    if record.ready_at is not None:
        return _was_ready(spec, record, now, at, away)
    if now.state == State.READY and not away:
        return _became_ready(record, now, at)
    return _changing(spec, record, now, at, away)


def _became_ready(record: StoreRecord, now: StoreNow, at: datetime) -> Sight:
    ready = now.ready_at
    if ready is None or ready > at or (record.exposed_at is not None and ready < record.exposed_at):
        ready = at  # a clock that is wrong must neither shorten the soak nor stretch it
    seen = Observe(record.store, ready_at=ready)
    return Sight(record, now, Phase.READY, f"ready since {_clock(ready)}", seen)


def _was_ready(spec: RolloutSpec, record: StoreRecord, now: StoreNow, at: datetime, away: bool) -> Sight:
    ready = f"ready since {_clock(record.ready_at)}"
    if away or now.state == State.READY:
        found = Observe(record.store, away=record.away) if record.lost_at else None
        words = f"{ready}; out of reach now: {now.reachable_reason or now.message}" if away else ready
        return Sight(record, now, Phase.READY, words, found, away=away)
    if CRASHING in now.message:
        return _failed(record, now, at, f"was ready, then: {now.message}")
    lost = record.lost_at or at
    if at - lost >= spec.limits.store_deadline:
        return _failed(record, now, at, f"was ready, then not for {_length(at - lost)}: {now.message}")
    seen = Observe(record.store, lost_at=at) if record.lost_at is None else None
    words = f"was ready; since {_clock(lost)} it is not: {now.message}"
    return Sight(record, now, Phase.UPDATING, words, seen, True, check_at=lost + spec.limits.store_deadline)


def _changing(spec: RolloutSpec, record: StoreRecord, now: StoreNow, at: datetime, away: bool) -> Sight:
    deadline = spec.limits.store_deadline
    if away:
        lost = record.lost_at or at
        until = lost + deadline
        seen = Observe(record.store, lost_at=at) if record.lost_at is None else None
        words = f"out of reach since {_clock(lost)}, in the middle of the change"
        words += f": {now.reachable_reason or now.message}" if now.reachable_reason or now.message else ""
        return Sight(record, now, Phase.OFFLINE, words, seen, at < until, away=True, check_at=until)
    absent, found = record.away, None
    if record.lost_at is not None:
        absent += max(timedelta(0), at - max(record.lost_at, now.applied_at or at))
        found = Observe(record.store, away=absent)
    if now.applied_at is None and now.state not in (State.BLOCKED, State.FAILED):
        until = (now.created_at or record.exposed_at or at) + deadline
        if at < until:
            words = "waits for its cluster to take the release"
            return Sight(record, now, Phase.UPDATING, words, found, True, check_at=until)
        words = f"its cluster has not taken the release for {_length(deadline)}: {now.message}"
        return Sight(record, now, Phase.OFFLINE, words, found)
    until = (now.applied_at or now.created_at or record.exposed_at or at) + deadline + absent
    if at >= until:
        return _failed(record, now, at, f"not ready within {_length(deadline)}: {now.message or now.state}")
    return Sight(record, now, Phase.UPDATING, now.message or now.state, found, True, check_at=until)


def _failed(record: StoreRecord, now: StoreNow, at: datetime, failure: str) -> Sight:
    seen = Observe(record.store, failed_at=at, failure=failure)
    return Sight(record, now, Phase.FAILED, failure, seen)


def _put_back(spec: RolloutSpec, record: StoreRecord, now: StoreNow, at: datetime) -> Sight:
    what = f"put back to {record.back_to}" if record.back_to else "put back to running nothing"
    if record.restored_at is not None:
        return Sight(record, now, Phase.RESTORED, what)
    gone = now.deployment is None and record.back_to is None
    if now.deployment != record.restoring and not gone:
        return Sight(record, now, Phase.SUPERSEDED, f"{now.release} was deployed since")
    away = not now.reachable or now.state == State.UNREACHABLE
    if gone or (now.state == State.READY and not away):
        seen = Observe(record.store, restored_at=at)
        return Sight(record_after(record, seen, at), now, Phase.RESTORED, what, seen)
    if away:
        words = f"out of reach; it is {what} when it returns"
        return Sight(record, now, Phase.RESTORING, words, away=True)
    until = (now.applied_at or now.created_at or at) + spec.limits.store_deadline
    words = f"is {what}: {now.message or now.state}"
    stuck = at >= until
    return Sight(
        record, now, Phase.RESTORING, words, busy=not stuck, stuck=stuck, check_at=None if stuck else until
    )


def _clock(at: datetime | None) -> str:
    return f"{at.isoformat(' ', 'seconds')[:19]} UTC" if at is not None else "?"


def _length(span: timedelta) -> str:
    minutes = span.total_seconds() / 60
    return f"{minutes:g} minutes" if minutes == int(minutes) else f"{span.total_seconds():.0f} s"
