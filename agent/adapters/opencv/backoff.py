"""How long to wait before a camera is tried again.

A store has few cameras and they sit on the local network, so a try is cheap: for the first two minutes
the wait stays short and a fault's end is noticed at once. A camera that stays away is then tried ever
more rarely. Jitter keeps the cameras of one switch that comes back from being asked all at once.
"""

from collections.abc import Callable

FIRST_S = 0.2
EARLY_CAP_S = 1.5
EARLY_S = 120.0
LATE_CAP_S = 30.0


class Backoff:
    """State of one camera's failing streak. ``random`` gives numbers in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._failures = 0
        self._since: float | None = None

    def succeeded(self) -> None:
        self._failures = 0
        self._since = None

    def early(self, now: float) -> bool:
        """Whether the streak is young: the camera is likely to be back any moment."""
        return self._since is None or now - self._since < EARLY_S

    def failed(self, started: float, now: float) -> float:
        """An attempt begun at ``started`` failed at ``now``: seconds to wait before the next. Time that
        the attempt itself took counts as waiting."""
        if self._since is None:
            self._since = started
        wait = FIRST_S * 2.0 ** min(self._failures, 12)
        self._failures += 1
        if self.early(now):
            wait = min(wait, EARLY_CAP_S)
        else:
            wait = min(EARLY_CAP_S + (now - self._since - EARLY_S) / 10, LATE_CAP_S)
        wait *= 0.5 + 0.5 * self._random()
        return max(0.05, wait - (now - started))
