"""Which store is looked at next: two queues by time, one for stores that are well and one for suspects.

Apart, so that finding the next of one kind never means stepping over thousands of the other.
"""

import heapq

_Place = tuple[float, int, str]
"""When, a number that never repeats, and the store."""


class Agenda:
    """A store is on it once; putting it again moves it. Costs about 0.3 KB a store."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._queues: tuple[list[_Place], list[_Place]] = ([], [])
        self._count = 0

    def put(self, store: str, due: float, *, suspect: bool) -> None:
        """``due``: in the caller's seconds. Of stores that are due, the earliest comes first."""
        self._count += 1
        place = (due, self._count, store)
        self._places[store] = place
        queue = self._queues[suspect]
        heapq.heappush(queue, place)
        if len(queue) > 2 * len(self._places) + 64:  # mostly places that were given up
            queue[:] = [kept for kept in queue if self._places.get(kept[2]) is kept]
            heapq.heapify(queue)

    def take(self, now: float, *, suspect: bool) -> str | None:
        """The next store of this kind that is due, off the agenda; None when there is none."""
        queue = self._queues[suspect]
        while queue and queue[0][0] <= now:
            place = heapq.heappop(queue)
            if self._places.get(place[2]) is place:
                del self._places[place[2]]
                return place[2]
        return None

    def discard(self, store: str) -> None:
        self._places.pop(store, None)

    def __contains__(self, store: str) -> bool:
        return store in self._places

    def __len__(self) -> int:
        return len(self._places)
