"""Which stores of an open wave get the release now, and what holds back the others."""

from controller.domain.deployment import State
from controller.domain.rollout.apply import record_after
from controller.domain.rollout.board import Board
from controller.domain.rollout.sight import Sight
from controller.domain.rollout.state import Deploy, Observe, Phase, StoreNow
from controller.domain.rollout.windows import Closed, Open, local, opens

_ON_ITS_WAY = frozenset({State.PENDING, State.PROGRESSING})


class Dispatch:
    """Of one planning: counts the places that are left and remembers the window of each time zone."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._spec = board.rollout.spec
        self._limit = max(1, self._spec.limits.concurrency.at_most(len(board.sights)))
        self._busy = board.busy()
        self._windows: dict[str, Open | Closed] = {}
        deadline = self._spec.deadline
        self._late = deadline is not None and board.now >= deadline

    def wave(self, number: int) -> None:
        release = self._spec.release
        for sight in self._board.stores_of(number):
            now = sight.now
            if sight.phase != Phase.PENDING or now is None:
                continue
            runs = now.release == release and now.state == State.READY and now.deployment is not None
            if runs and not sight.exposed:
                self._runs_already(sight, now)
                continue
            phase, reason = self._held_back(sight, now)
            if phase is not None:
                sight.phase, sight.reason = phase, reason
                continue
            self._board.steps.append(Deploy(sight.record.store, self._back_to(sight, now), reason))
            sight.phase, sight.reason, sight.busy = Phase.UPDATING, f"gets {release}: {reason}", True
            self._busy += 1

    def _runs_already(self, sight: Sight, now: StoreNow) -> None:
        board = self._board
        seen = Observe(sight.record.store, ready_at=min(now.ready_at or board.now, board.now))
        board.steps.append(seen)
        sight.record = record_after(sight.record, seen, board.now)
        sight.phase, sight.reason = Phase.READY, f"ran {self._spec.release} already"

    def _held_back(self, sight: Sight, now: StoreNow) -> tuple[Phase | None, str]:
        """What the store waits for; or no phase, and why it is its turn."""
        release, board = self._spec.release, self._board
        if sight.away:
            why = f" ({now.reachable_reason})" if now.reachable_reason else ""
            return Phase.OFFLINE, f"out of reach{why}; gets {release} when it returns"
        if self._late:
            return Phase.WAITING, f"not changed by the deadline, {self._spec.deadline:%Y-%m-%d %H:%M} UTC"
        deferred = now.deferred_until
        if deferred is not None and deferred > board.now and not self._spec.emergency:
            sight.deferred = True
            board.check(deferred)
            by = f" by {now.deferred_by}" if now.deferred_by else ""
            return Phase.WAITING, f"deferred{by} until {local(deferred, now.timezone)}"
        window = self._window(now.timezone)
        if isinstance(window, Closed):
            board.check(window.until)
            return Phase.WAITING, window.reason
        wait = self._nothing_to_go_back_to(sight, now)
        if wait:
            return Phase.WAITING, wait
        if self._busy >= self._limit:
            return Phase.WAITING, f"waits for one of {self._limit} places: as many stores are being changed"
        return None, window.reason

    def _window(self, timezone: str) -> Open | Closed:
        found = self._windows.get(timezone)
        if found is None:
            found = self._windows[timezone] = opens(self._spec, timezone, self._board.now)
        return found

    def _nothing_to_go_back_to(self, sight: Sight, now: StoreNow) -> str:
        """A release that is just on its way may become the last known good one; it gets the time that this
        rollout gives a store. Empty: no need to wait."""
        if now.state not in _ON_ITS_WAY or self._back_to(sight, now) is not None:
            return ""
        until = (now.applied_at or now.created_at or self._board.now) + self._spec.limits.store_deadline
        if self._board.now >= until:
            return ""
        self._board.check(until)
        return f"{now.release} is on its way there, and there is no other to go back to yet"

    def _back_to(self, sight: Sight, now: StoreNow) -> str | None:
        """The newest release that is known to have worked in the store and is not withdrawn; None: there is
        none. This rollout's own release counts only if there is no other."""
        candidates = [sight.record.back_to]
        if now.ready_at is not None and now.state == State.READY:
            candidates.append(now.release)
        candidates.append(now.last_known_good)
        if now.ready_at is not None:
            candidates.append(now.release)
        known = [c for c in candidates if c is not None]
        good = [c for c in known if c not in self._board.withdrawn]
        others = [c for c in good if c != self._spec.release]
        if now.release is None:  # it was put back to nothing before: no worse than what is withdrawn
            known = []
        return next(iter([*others, *good, *known]), None)
