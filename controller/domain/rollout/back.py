"""Putting stores back: in waves after a failure, at once those in the middle after an abort."""

from controller.domain.rollout.apply import rollout_after
from controller.domain.rollout.board import Board, named, stores
from controller.domain.rollout.sight import Sight
from controller.domain.rollout.state import ChangeStatus, Phase, Restore, Status


def roll_back(board: Board) -> None:
    """The wave that was exposed last goes first; in it, those that do not work. Stores out of reach are told
    at once and hold no place."""
    left = [sight for sight in board.sights.values() if _still_exposed(sight)]
    touched = len(left) + sum(sight.record.restoring is not None for sight in board.sights.values())
    limit = max(1, board.rollout.spec.on_failure.concurrency.at_most(touched))
    left.sort(key=lambda s: (-s.record.wave, s.phase == Phase.READY, s.record.store))
    busy = sum(sight.phase == Phase.RESTORING and sight.busy for sight in board.sights.values())
    keep: list[str] = []
    waiting = 0
    for sight in left:
        if not can_go_back(board, sight):
            keep.append(sight.record.store)
        elif sight.away or busy < limit:
            busy += not sight.away
            restore(board, sight, board.rollout.reason)
        else:
            waiting += 1
            sight.reason += f"; goes back as soon as one of {limit} places is free"
    if busy or waiting:
        board.reason = f"{stores(busy)} going back, {waiting} to come: {board.rollout.reason}"
        return
    _end(board, keep)


def abort(board: Board) -> None:
    """Stores that had become ready keep the release, the others go back, wherever they are."""
    for sight in board.sights.values():
        good = sight.record.ready_at is not None and sight.record.failed_at is None
        if _still_exposed(sight) and not good and can_go_back(board, sight):
            restore(board, sight, board.rollout.reason or "the rollout was aborted")


def restore(board: Board, sight: Sight, reason: str) -> None:
    release = _release_for(board, sight)
    board.steps.append(Restore(sight.record.store, release, reason))
    to = release or "running nothing"
    sight.phase, sight.reason = Phase.RESTORING, f"goes back to {to}: {reason}"
    sight.busy, sight.exposed = not sight.away, False


def can_go_back(board: Board, sight: Sight) -> bool:
    """Not, if all that is known to have worked there is withdrawn, or is the release itself."""
    if sight.record.back_to is None:
        return True
    if _release_for(board, sight) is not None:
        return True
    sight.reason += "; stays as it is: no other release is known to have worked there"
    return False


def _release_for(board: Board, sight: Sight) -> str | None:
    bad = board.rollout.spec.release
    known = (sight.record.back_to, sight.now.last_known_good if sight.now else None)
    return next((r for r in known if r is not None and r != bad and r not in board.withdrawn), None)


def _still_exposed(sight: Sight) -> bool:
    return sight.exposed and sight.record.restoring is None


def _end(board: Board, keep: list[str]) -> None:
    sights = board.sights.values()
    back = sum(sight.phase == Phase.RESTORED for sight in sights)
    words = f"{stores(back)} back"
    away = [s.record.store for s in sights if s.phase == Phase.RESTORING and s.away]
    stuck = [s.record.store for s in sights if s.stuck]
    if away:
        words += f", {len(away)} out of reach that go back when they return ({named(away)})"
    if stuck:
        words += f", {len(stuck)} not ready again ({named(stuck)})"
    if keep:
        words += f", {len(keep)} with nothing to go back to ({named(keep)})"
    words += f": {board.rollout.reason}" if board.rollout.reason else ""
    step = ChangeStatus(Status.ROLLED_BACK, words)
    board.steps.append(step)
    board.rollout = rollout_after(board.rollout, step, board.now)
    board.reason = words
