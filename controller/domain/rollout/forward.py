"""A running rollout: which wave is next, which stores are next, and when to stop.

Waves go strictly in order. Every store of an open wave that is not given the release gets a reason; every
wave that does not open or pass gets one too.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.rollout.apply import rollout_after
from controller.domain.rollout.board import Board, count, named, stores
from controller.domain.rollout.dispatch import Dispatch
from controller.domain.rollout.judge import Hold, failing_gate, first_hold, judge_wave
from controller.domain.rollout.state import (
    ChangeStatus,
    OpenWave,
    PassWave,
    Phase,
    Status,
)

FINAL = frozenset(
    {Phase.READY, Phase.FAILED, Phase.SKIPPED, Phase.SUPERSEDED, Phase.RESTORED, Phase.RESTORING}
)


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the rollout cannot go on as it is."""

    reason: str
    wave: int


def advance(board: Board) -> None:
    """Steps of a running rollout; may end it, pause it or turn it back (``board.rollout`` then says so)."""
    stop = _broken(board)
    if stop is not None:
        rollback = board.rollout.spec.on_failure.action == "rollback"
        _become(board, Status.ROLLING_BACK if rollback else Status.PAUSED, stop.reason, stop.wave)
        return
    board.check(board.rollout.spec.deadline)
    dispatch = Dispatch(board)
    for number in range(len(board.rollout.waves)):
        wave = board.rollout.waves[number]
        if wave.passed_at is None and wave.opened_at is None:
            hold = _may_open(board, number)
            if hold is not None:
                _hold(board, number, hold)
                return
            _step(board, OpenWave(number, _opening(board, number)))
        dispatch.wave(number)
        if wave.passed_at is not None:
            continue
        verdict = judge_wave(board, number)
        if isinstance(verdict, Hold):
            _hold(board, number, verdict)
            return
        _step(board, PassWave(number, verdict))
    _finish(board)


def _broken(board: Board) -> Stop | None:
    """A failure budget that is used up, or a gate that failed, in any wave that was opened."""
    for number, wave in enumerate(board.rollout.waves):
        if wave.opened_at is None:
            return None
        sights = board.stores_of(number)
        failed = [s.record for s in sights if s.record.failed_at is not None and not s.record.skipped]
        budget = board.rollout.spec.limits.failures.at_most(len(sights))
        name = board.rollout.spec.waves[number].name
        if len(failed) > budget:
            shown = "; ".join(f"{record.store}: {record.failure}" for record in failed[:3])
            words = f"{stores(len(failed))} of wave {name} failed, at most {budget} may: {shown}"
            return Stop(words, number)
        failure = failing_gate(board, number)
        if failure is not None:
            return Stop(f"gate {failure.kind} of wave {name} failed: {failure.reason}", number)
    return None


def _may_open(board: Board, number: int) -> Hold | None:
    """None: it may. All waves before it have passed."""
    spec, wave = board.rollout.spec, board.rollout.waves[number]
    if number == 0:
        for name in spec.after:
            status = board.others.get(name)
            if status != Status.SUCCEEDED:
                how = f"which is {status.value.replace('_', ' ')}" if status else "which is not known"
                return Hold(f"begins after rollout {name}, {how}")
    if not wave.stores:
        return None
    if spec.waves[number].approval:
        approval = wave.approval
        if approval is None:
            return Hold("waits for somebody's approval")
        if not approval.approved:
            why = f": {approval.comment}" if approval.comment else ""
            return Hold(f"was rejected by {approval.by}{why}", pause=True)
    if _past_deadline(board):
        return Hold(f"not begun by the deadline, {spec.deadline:%Y-%m-%d %H:%M} UTC", pause=True)
    began = board.rollout.started_at or board.rollout.created_at
    before = board.rollout.waves[number - 1].passed_at if number else None
    since = max(filter(None, (before, began, board.rollout.status_since)))
    return first_hold(board, number, before=True, evidence_since=began, patience_since=since)


def _opening(board: Board, number: int) -> str:
    if number == 0:
        return "the first wave"
    return f"wave {board.rollout.spec.waves[number - 1].name} passed"


def _past_deadline(board: Board) -> bool:
    deadline: datetime | None = board.rollout.spec.deadline
    return deadline is not None and board.now >= deadline


def _hold(board: Board, number: int, hold: Hold) -> None:
    """The rollout stays at this wave; later ones wait for it."""
    name = board.rollout.spec.waves[number].name
    board.check(hold.check_at)
    board.reason = f"wave {name}: {hold.reason}"
    for later in range(number, len(board.rollout.waves)):
        for sight in board.stores_of(later):
            if sight.phase == Phase.PENDING and not sight.reason:
                own = board.rollout.spec.waves[later].name
                sight.reason = f"wave {own} has not begun; {board.reason}"
    sights = board.sights.values()
    if hold.barren and all(s.phase in FINAL for s in sights) and count(sights, Phase.SUPERSEDED):
        taken = count(sights, Phase.SUPERSEDED)
        _become(board, Status.SUPERSEDED, f"other deployments took over the {stores(taken)} still to come")
        return
    late = _past_deadline(board) and not hold.settles
    if hold.pause or late:
        words = f"{board.reason}; the deadline has passed" if late and not hold.pause else board.reason
        _become(board, Status.PAUSED, words, number)


def _finish(board: Board) -> None:
    """Every wave has passed."""
    sights = list(board.sights.values())
    busy = sum(sight.phase == Phase.UPDATING or sight.busy for sight in sights)
    left = [sight for sight in sights if sight.phase not in FINAL]
    late = _past_deadline(board)
    if busy or (left and not late):
        words = [f"{busy} on their way"] if busy else []
        for phase, what in ((Phase.OFFLINE, "out of reach"), (Phase.WAITING, "waiting for their turn")):
            found = [s.record.store for s in left if s.phase == phase and not s.busy]
            if found:
                words.append(f"{len(found)} {what} ({named(found)})")
        board.reason = f"every wave has passed; of the stores, {', '.join(words)}"
        return
    ready, failed = count(sights, Phase.READY), [s.record.store for s in sights if s.phase == Phase.FAILED]
    words = [f"{stores(ready)} ready"]
    if failed:
        words.append(f"{len(failed)} failed within the budget ({named(failed)})")
    for phase, what in ((Phase.SKIPPED, "skipped"), (Phase.SUPERSEDED, "taken over by others")):
        if number := count(sights, phase):
            words.append(f"{number} {what}")
    if left:
        words.append(f"{len(left)} left out at the deadline ({named([s.record.store for s in left])})")
        for sight in left:
            sight.reason = f"left out: the deadline passed; {sight.reason}"
    taken = not ready and not failed and count(sights, Phase.SUPERSEDED) > 0
    _become(board, Status.SUPERSEDED if taken else Status.SUCCEEDED, ", ".join(words))


def _become(board: Board, status: Status, reason: str, failed_wave: int | None = None) -> None:
    step = ChangeStatus(status, reason, failed_wave)
    board.steps.append(step)
    board.rollout = rollout_after(board.rollout, step, board.now)
    board.reason = reason


def _step(board: Board, step: OpenWave | PassWave) -> None:
    board.steps.append(step)
    board.rollout = rollout_after(board.rollout, step, board.now)
