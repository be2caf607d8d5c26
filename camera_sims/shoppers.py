"""Who comes to a gondola and what they do there: the seeded script of one camera.

The script is written visit by visit as time advances, from its own random stream, so that the same seed
gives the same shop however often or seldom somebody looks. It only runs forward and forgets visits that
are over; whoever needs the story again starts a new ``Script``.
"""

import heapq
from math import inf

import numpy as np

from camera_sims.people import Stance, Xy, invent_persona
from camera_sims.planogram import FRAME_WIDTH, Gondola
from camera_sims.stockbook import Slots, Stock, Stockbook, Task
from camera_sims.visits import Change, Errand, Reach, Visit

MEAN_GAP_S = 24.0
"""Between two people at one camera, at activity 1."""


class Script:
    """The story of one gondola. ``contents[zone][slot]`` is what stands there now."""

    def __init__(
        self, gondola: Gondola, seed: tuple[int, ...], activity: float, stock: Stock = "usual"
    ) -> None:
        self._gondola = gondola
        self._rng = np.random.default_rng(seed)
        self._activity = activity
        self._book = Stockbook(gondola, self._rng, stock)
        self.contents: Slots = [list(slots) for slots in self._book.slots]
        self._changes: list[Change] = []
        self._number = 0
        self._visits: list[Visit] = []
        self._next_arrival = float(self._rng.uniform(5, 5 + 10 / activity)) if activity > 0 else inf

    def advance(self, t: float) -> list[Change]:
        """Move on to scene time ``t`` (seconds, never backwards); what changed on the shelf meanwhile."""
        while self._next_arrival <= t:
            errand, tasks = self._book.choose(self._next_arrival)
            self._visits.append(self._plan(errand, self._next_arrival, tasks))
            gap = MEAN_GAP_S / self._activity * float(self._rng.gamma(4.0, 0.25))
            self._next_arrival += max(1.5, gap)
        self._visits = [visit for visit in self._visits if visit.end >= t]
        done = []
        while self._changes and self._changes[0].at <= t:
            change = heapq.heappop(self._changes)
            self.contents[change.zone][change.slot] = change.item
            done.append(change)
        return done

    def present(self, t: float) -> list[Visit]:
        """Visits under way at ``t``, the farthest from the camera first; ``t`` as last advanced to."""
        here = [visit for visit in self._visits if visit.start <= t <= visit.end]
        return sorted(here, key=lambda visit: visit.persona.scale)

    def _plan(self, errand: Errand, t: float, tasks: list[Task]) -> Visit:
        """Walk in at ``t``, do ``tasks`` one by one, walk out."""
        rng = self._rng
        staff = errand is Errand.RESTOCK
        persona = invent_persona(rng, staff)
        pace = float(rng.uniform(330, 560))
        outside = persona.half_width(Stance.BACK) + 110 * persona.scale
        entry, leave = (float(x) for x in rng.choice([-outside, FRAME_WIDTH + outside], 2))
        if errand is Errand.WALK_PAST:
            leave = FRAME_WIDTH + outside if entry < 0 else -outside
        facing = Stance.FRONT if not tasks and rng.random() < 0.25 else Stance.BACK
        way, reaches = _Way(t, entry, pace), []
        if errand is Errand.LOOK:
            way.go(float(rng.uniform(150, FRAME_WIDTH - 150)))
            way.wait(float(rng.uniform(2, 6)))
        for number, task in enumerate(tasks):
            target = self._target(task)
            if number == 0 or abs(target[0] - way.x) > 80:
                way.go(float(np.clip(target[0] + rng.uniform(-45, 45), 60, FRAME_WIDTH - 60)))
                way.wait(0.25 if staff else float(rng.uniform(0.5, 1.4)))
            out, back = (
                (0.35, 0.3) if staff else (float(rng.uniform(0.45, 0.6)), float(rng.uniform(0.4, 0.55)))
            )
            reaches.append(self._reach(task, way.now, out, back, target))
            way.wait(out + back + (0.05 if staff else 0.25))
        way.go(leave)
        self._book.claim(tasks, way.now)
        return Visit(errand, persona, facing, tuple(way.points), tuple(reaches))

    def _reach(self, task: Task, start: float, out: float, back: float, target: Xy) -> Reach:
        zone, slot, sku = task
        taken = self._book.slots[zone][slot]
        item = self._book.carry_out(task)
        self._number += 1
        heapq.heappush(self._changes, Change(start + out, self._number, zone, slot, item))
        taken_sku = taken.sku if taken is not None else None
        return Reach(start, start + out, start + out + back, target, brings=sku, takes=taken_sku)

    def _target(self, task: Task) -> Xy:
        """Where the hand goes: a little below the middle of the package, in frame pixels."""
        plan = self._gondola.zones[task[0]]
        x, y = self._gondola.to_frame([(plan.slot_x(task[1]), plan.floor - plan.package.height * 0.45)])[0]
        return float(x), float(y)


class _Way:
    """Where a body is when, as far as planned."""

    def __init__(self, now: float, x: float, pace: float) -> None:
        self.now, self.x = now, x
        self._pace = pace
        self.points = [(now, x)]

    def go(self, to: float) -> None:
        if to != self.x:
            self.now += abs(to - self.x) / self._pace
            self.x = to
            self.points.append((self.now, self.x))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.points.append((self.now, self.x))
