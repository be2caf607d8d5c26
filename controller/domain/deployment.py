"""What to do about one store, decided from what it should run and what was seen there.

Level-triggered: the decision depends only on the present, never on how it came about, so a controller
that was killed at any moment carries on from the next observation.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

PROGRESS_DEADLINE = timedelta(minutes=10)
"""A deployment that is not ready by then has failed (the default of a Kubernetes Deployment)."""

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0
"""An unreachable store is asked at least this often, so it catches up within five minutes."""

POLL_S = 1.0
"""How often a store in the middle of a change is looked at."""

WAKE_FIRST_S = 10.0
"""How long after one look out of turn the next one may come."""

RESYNC_SPREAD = 0.5
"""By how much of itself the pause of a store that is well is shortened at random, so that stores which
became ready together are not looked at together for ever."""

BLOCKED_POLL_S = 15.0
"""How often a store is looked at that waits for a person."""


class State(StrEnum):
    """How a deployment is doing."""

    PENDING = "pending"
    PROGRESSING = "progressing"
    READY = "ready"
    BLOCKED = "blocked"
    """Someone has to change something; it goes on by itself afterwards."""
    FAILED = "failed"
    """Not ready within the progress deadline. Still watched: it may yet become ready."""
    UNREACHABLE = "unreachable"
    SUPERSEDED = "superseded"


class Action(StrEnum):
    APPLY = "apply"
    REMOVE = "remove"
    WAIT = "wait"
    READY = "ready"
    BLOCKED = "blocked"
    FAILED = "failed"
    REPAIR_DRIFT = "repair_drift"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class Desired:
    rollout_id: str
    release: str
    since: datetime
    """When it was applied, or else created; the progress deadline counts from here."""
    absent: bool = False
    """Whether the store shall run nothing; ``release`` is then the one that it shall not run any more."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a store's cluster says about its workload. Counts are camera nodes."""

    rollout_id: str | None
    """None: there is no workload."""
    generation: int = 0
    observed_generation: int = 0
    desired: int = 0
    ready: int = 0
    """Ready with any release."""
    updated: int = 0
    """Nodes whose agent of ``rollout_id`` is ready and which run no older one."""
    images: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What stands in the way, in words for an operator."""
    blocked: bool = False
    """Some problem stays until a person does something, such as a secret that is missing."""
    drift: tuple[str, ...] = ()
    """What differs from the last applied fields."""
    degraded: tuple[str, ...] = ()
    """What this cluster cannot do."""
    trouble: "Unreachable | None" = None
    """Why this is not known for certain, of a store that can be told what to run though it does not
    answer, or refuses: it then finds what it was told."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The cluster could not be asked or refused. ``permanent``: it will until someone acts."""

    error: str
    permanent: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often in a row things went wrong; forgotten when they go well."""

    failures: int = 0
    repairs: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    state: State
    reason: str
    check_after: float
    """Seconds until the store should be looked at again."""


def decide(
    desired: Desired,
    observed: Observed | Unreachable,
    now: datetime,
    *,
    attempts: Attempts = Attempts(),
    jitter: float = 0.0,
    resync_s: float = 60.0,
    deadline: timedelta = PROGRESS_DEADLINE,
) -> Decision:
    """``jitter`` is a random number in [0, 1) that spreads retries; ``resync_s`` is how often a store
    that is as it should be is looked at for drift."""
    if isinstance(observed, Unreachable):
        return _unreachable(observed, attempts, jitter)
    if desired.absent:
        return _removal(desired, observed, attempts, jitter, resync_s)
    if observed.rollout_id is None:
        return Decision(Action.APPLY, State.PROGRESSING, f"applying {desired.release}", POLL_S)
    if observed.rollout_id != desired.rollout_id:
        reason = f"applying {desired.release} over rollout {observed.rollout_id}"
        return Decision(Action.APPLY, State.PROGRESSING, reason, POLL_S)
    if observed.trouble is not None:
        return _unreachable(observed.trouble, attempts, jitter)
    if observed.drift:
        pause = backoff(attempts.repairs, jitter)
        reason = "repairing changes made in the store: " + _listed(observed.drift)
        return Decision(Action.REPAIR_DRIFT, State.PROGRESSING, reason, pause)
    if observed.observed_generation < observed.generation:
        reason = _listed(observed.problems) or "the cluster has not yet looked at the change"
        return _overdue(desired, reason, now, deadline)
    if observed.desired == 0:
        reason = _listed(observed.problems) or "no camera node in this store"
        return Decision(Action.BLOCKED, State.BLOCKED, reason, BLOCKED_POLL_S)
    if observed.updated >= observed.desired:
        reason = f"{desired.release} ready on {observed.updated} of {observed.desired} nodes"
        if observed.degraded:
            reason += "; " + _listed(observed.degraded)
        return Decision(Action.READY, State.READY, reason, resync_s * (1 - RESYNC_SPREAD * jitter))
    reason = f"{desired.release} ready on {observed.updated} of {observed.desired} nodes"
    if observed.problems:
        reason += ": " + _listed(observed.problems)
    if observed.blocked:
        return Decision(Action.BLOCKED, State.BLOCKED, reason, POLL_S)
    return _overdue(desired, reason, now, deadline)


def _removal(
    desired: Desired, observed: Observed, attempts: Attempts, jitter: float, resync_s: float
) -> Decision:
    if observed.rollout_id is not None:
        reason = f"taking {desired.release} away"
        return Decision(Action.REMOVE, State.PROGRESSING, reason, POLL_S)
    if observed.trouble is not None:
        return _unreachable(observed.trouble, attempts, jitter)
    reason = f"runs nothing, as before {desired.release}"
    return Decision(Action.READY, State.READY, reason, resync_s * (1 - 0.2 * jitter))


def backoff(failures: int, jitter: float) -> float:
    """Seconds: doubling from ``BACKOFF_FIRST_S`` to ``BACKOFF_MAX_S``, the upper half of it random."""
    full = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 16))
    return full * (0.5 + 0.5 * jitter)


def wake_pause(in_vain: int) -> float:
    """Seconds between two looks at a store that failed, before its time, because it was heard of. They
    double while they are ``in_vain``: a store whose broker link works but whose cluster does not answer,
    or that comes and goes, costs at most about twice what it would cost in silence."""
    return min(BACKOFF_MAX_S, WAKE_FIRST_S * 2.0 ** min(in_vain, 16))


def _unreachable(observed: Unreachable, attempts: Attempts, jitter: float) -> Decision:
    pause = max(backoff(attempts.failures, jitter), observed.retry_after)
    if observed.permanent:
        return Decision(Action.BLOCKED, State.BLOCKED, observed.error, max(pause, BLOCKED_POLL_S))
    return Decision(Action.BACKOFF, State.UNREACHABLE, observed.error, pause)


def _overdue(desired: Desired, reason: str, now: datetime, deadline: timedelta) -> Decision:
    if now - desired.since < deadline:
        return Decision(Action.WAIT, State.PROGRESSING, reason, POLL_S)
    minutes = deadline.total_seconds() / 60
    return Decision(
        Action.FAILED, State.FAILED, f"not ready after {minutes:g} minutes: {reason}", BLOCKED_POLL_S
    )


def _listed(words: tuple[str, ...]) -> str:
    more = f" (and {len(words) - 3} more)" if len(words) > 3 else ""
    return "; ".join(words[:3]) + more
