"""What to do next about one rollout: a pure function of what was asked for, what was done and what is seen.

Level-triggered: the plan depends only on the present, so a controller that was killed at any moment goes on
from the next look. Carrying out the steps and planning again, with nothing else changed, gives no further
step.

Decisions that somebody may question:

- *Offline is not failed.* A store that is out of reach holds a place of ``concurrency`` for
  ``store_deadline`` and then counts against the ``offline`` budget alone; its own deadline moves by the time
  that it was away. A wave passes without such stores. They get the release when they return, as long as the
  rollout runs, and the rollout goes on running for them; with a ``deadline`` it ends without them. Stores
  that asked to be deferred are left behind by their wave in the same way, but count against nothing.
- *Ready ones that drop off count as offline*: a release that cuts stores off must not pass for a good one.
- *A failure stays one* until ``retry-failed`` or ``skip-store``, except that a store which was merely slow
  may yet become ready. Failures within the budget do not keep a rollout from succeeding; its reason names
  them.
- *A wave without one ready store proves nothing* and does not pass, unless all its stores were skipped by
  hand.
- *What to go back to* is the store's own last good release. Nothing (``None``) is recorded only where no
  release ever became ready; if one is just on its way there, it is waited for.
- *Going back* does not ask for windows, deferrals or the deadline. A store that is out of reach is told at
  once: that is what keeps the bad release away from it.
- *Resuming* does not forgive: a budget that is used up pauses again until stores are retried or skipped. A
  gate that failed must fail again, on evidence that is newer than the resumption.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from controller.domain.rollout.back import abort, roll_back
from controller.domain.rollout.board import Board, lay_out
from controller.domain.rollout.forward import advance
from controller.domain.rollout.state import (
    ENDED,
    GateVerdict,
    Phase,
    Plan,
    Rollout,
    Status,
    StoreNow,
    StoreRecord,
)


def plan(
    rollout: Rollout,
    records: Mapping[str, StoreRecord],
    now_of: Mapping[str, StoreNow],
    *,
    now: datetime,
    verdicts: Mapping[int, Sequence[GateVerdict]] = {},
    others: Mapping[str, Status] = {},
    withdrawn: Collection[str] = frozenset(),
) -> Plan:
    """``records`` and ``now_of`` by store, for each target (one that is missing was not touched, or has left
    the fleet). ``verdicts`` by wave: the newest of each gate. ``others``: how the rollouts named in
    ``after`` stand. ``withdrawn``: releases that nothing is put back to, because a rollout of them was
    aborted or rolled back.

    Cost: linear in the number of targets. An ended rollout may still have steps: what comes back from stores
    that were out of reach is written down, and an aborted one puts the stores in the middle back.
    """
    board = lay_out(rollout, records, now_of, now, verdicts, others, withdrawn)
    if rollout.status == Status.RUNNING:
        advance(board)
    if board.rollout.status == Status.ROLLING_BACK:
        roll_back(board)
    elif board.rollout.status == Status.ABORTED:
        abort(board)
    if board.rollout.status != Status.RUNNING:
        _stand_still(board)
    return board.finish()


def _stand_still(board: Board) -> None:
    """Words for the stores that are not touched, now that no more are."""
    status, reason = board.rollout.status, board.rollout.reason
    words = {
        Status.DRAFT: "the rollout is not started",
        Status.PAUSED: f"the rollout is paused: {reason}",
    }.get(status, f"the rollout is {status.value.replace('_', ' ')}: {reason}")
    for sight in board.sights.values():
        if not sight.reason:
            sight.reason = words
        if sight.phase == Phase.PENDING and status in ENDED:
            sight.phase = Phase.SKIPPED
    board.reason = board.reason or words
