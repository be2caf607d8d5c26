"""What people have planned to do to a gondola's stock, ahead of their doing it.

A visit is planned as a whole when it starts. Until it ends, its zones are claimed, so that two people
never reach for the same package.
"""

from typing import Literal

import numpy as np

from camera_sims.catalogue import BY_SKU, CATALOGUE, Shape
from camera_sims.planogram import Gondola, ZonePlan
from camera_sims.visits import Errand, Item

Stock = Literal["usual", "varied"]
"""``usual``: mostly full shelves; ``varied``: anything, with misplaced packages (for datasets)."""

Task = tuple[int, int, str | None]
"""Zone number, place in it, and the SKU put there; None for taking what is there away."""

Slots = list[list[Item | None]]
"""What stands where: one list of places per zone."""


class Stockbook:
    """The stock of ``gondola`` as it will be when everything planned so far is done."""

    def __init__(self, gondola: Gondola, rng: np.random.Generator, stock: Stock) -> None:
        self._zones = gondola.zones
        self._rng = rng
        self.slots: Slots = [self._first_stock(zone, stock) for zone in gondola.zones]
        self._claimed_until = [0.0] * len(self._zones)
        self._picked = [0] * len(self._zones)
        self._popularity = rng.choice([1.0, 1.0, 2.0, 6.0], len(self._zones))

    def choose(self, t: float) -> tuple[Errand, list[Task]]:
        """What somebody who arrives at ``t`` will do, in order."""
        free = [i for i, until in enumerate(self._claimed_until) if until < t]
        short = [z for z in free if len(self._own(z)) <= self._zones[z].low_at]
        if self._rng.random() < (0.04, 0.16, 0.28)[min(2, len(short))]:
            errand = Errand.RESTOCK
        else:
            errands = [Errand.PICK, Errand.WALK_PAST, Errand.LOOK, Errand.PUT_BACK, Errand.MISPLACE]
            errand = Errand(self._rng.choice(errands, p=[0.54, 0.18, 0.13, 0.08, 0.07]))
        tasks = self._tasks(errand, free)
        if errand not in (Errand.WALK_PAST, Errand.LOOK) and not tasks:
            errand = Errand.LOOK
        return errand, tasks

    def carry_out(self, task: Task) -> Item | None:
        """Note ``task`` as planned; returns what stands there afterwards."""
        zone, slot, sku = task
        before = self.slots[zone][slot]
        if sku is None and before is not None and before.sku == self._zones[zone].package.sku:
            self._picked[zone] += 1
        self.slots[zone][slot] = None if sku is None else self._new_item(sku)
        return self.slots[zone][slot]

    def claim(self, tasks: list[Task], until: float) -> None:
        """Keep others away from the zones of ``tasks``."""
        for zone, _, _ in tasks:
            self._claimed_until[zone] = until

    def _first_stock(self, zone: ZonePlan, stock: Stock) -> list[Item | None]:
        rng = self._rng
        if stock == "varied":
            count = round(zone.capacity * float(rng.beta(1.6, 1.0)))
        else:
            few = rng.random()
            spare = int(rng.integers(2))
            count = (
                zone.capacity - spare if few < 0.6 else zone.low_at + 1 + spare if few < 0.88 else zone.low_at
            )
            count = min(zone.capacity, count) if few < 0.96 else 0
        slots: list[Item | None] = [None] * zone.capacity
        for slot in rng.permutation(zone.capacity)[:count]:
            slots[slot] = self._new_item(zone.package.sku)
        if stock == "varied":
            for slot in range(zone.capacity):
                if slots[slot] is None and rng.random() < 0.2:
                    slots[slot] = self._new_item(CATALOGUE[int(rng.integers(len(CATALOGUE)))].sku)
        return slots

    def _new_item(self, sku: str) -> Item:
        rng = self._rng
        return Item(
            sku=sku,
            dx=float(rng.uniform(-3, 3)),
            scale=float(rng.uniform(0.95, 1.03)),
            angle=float(rng.normal(0, 1.6 if BY_SKU[sku].shape is Shape.BAG else 0.8)),
            brightness=float(rng.uniform(0.88, 1.1)),
        )

    def _own(self, zone: int) -> list[int]:
        """Places of ``zone`` that hold its own SKU."""
        sku = self._zones[zone].package.sku
        return [i for i, item in enumerate(self.slots[zone]) if item is not None and item.sku == sku]

    def _gaps(self, zone: int) -> list[int]:
        return [i for i, item in enumerate(self.slots[zone]) if item is None]

    def _tasks(self, errand: Errand, free: list[int]) -> list[Task]:
        match errand:
            case Errand.PICK:
                return self._picks(free)
            case Errand.PUT_BACK:
                return self._return(free)
            case Errand.MISPLACE:
                return self._confusion(free)
            case Errand.RESTOCK:
                return self._restocking(free)
            case _:
                return []

    def _picks(self, free: list[int]) -> list[Task]:
        rng = self._rng
        tasks: list[Task] = []
        candidates = [z for z in free if self._own(z)]
        for _ in range(2 if rng.random() < 0.2 else 1):
            if not candidates:
                break
            weights = self._popularity[candidates]
            zone = int(rng.choice(candidates, p=weights / weights.sum()))
            candidates.remove(zone)
            first = int(rng.choice(self._own(zone)))
            nearest = sorted(self._own(zone), key=lambda slot: abs(slot - first))
            wanted = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
            tasks += [(zone, slot, None) for slot in nearest[:wanted]]
        return tasks

    def _return(self, free: list[int]) -> list[Task]:
        """Somebody brings back what was picked before."""
        zones = [z for z in free if self._picked[z] and self._gaps(z)]
        if not zones:
            return []
        zone = int(self._rng.choice(zones))
        return [(zone, int(self._rng.choice(self._gaps(zone))), self._zones[zone].package.sku)]

    def _confusion(self, free: list[int]) -> list[Task]:
        """Somebody takes a package and leaves it in another zone."""
        rng = self._rng
        sources = [z for z in free if self._own(z)]
        targets = [z for z in free if self._gaps(z)]
        if not sources or not targets:
            return []
        source, target = int(rng.choice(sources)), int(rng.choice(targets))
        if source == target:
            return []
        taken = (source, int(rng.choice(self._own(source))), None)
        return [taken, (target, int(rng.choice(self._gaps(target))), self._zones[source].package.sku)]

    def _restocking(self, free: list[int]) -> list[Task]:
        """Fill the emptiest zones, after clearing out what does not belong there."""
        needy = sorted(
            (z for z in free if len(self._own(z)) < self._zones[z].capacity),
            key=lambda z: len(self._own(z)) / self._zones[z].capacity,
        )
        tasks: list[Task] = []
        for zone in needy[: int(self._rng.integers(1, 4))]:
            own = set(self._own(zone))
            for slot in (s for s in range(self._zones[zone].capacity) if s not in own):
                if self.slots[zone][slot] is not None:
                    tasks.append((zone, slot, None))
                tasks.append((zone, slot, self._zones[zone].package.sku))
        return tasks
