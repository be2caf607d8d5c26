"""Everything that one planning looks at and writes on; lives only as long as one call of ``plan``."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain.rollout.sight import Sight, look
from controller.domain.rollout.state import (
    GateVerdict,
    Phase,
    Plan,
    Rollout,
    Status,
    Step,
    StoreNow,
    StoreRecord,
    StoreView,
)


@dataclass(slots=True)
class Board:
    rollout: Rollout
    """Changes while the plan is made: a wave that passes lets the next one open in the same plan."""
    now: datetime
    sights: dict[str, Sight]
    verdicts: Mapping[int, Sequence[GateVerdict]]
    others: Mapping[str, Status]
    withdrawn: Collection[str]
    steps: list[Step] = field(default_factory=list)
    reason: str = ""
    check_at: datetime | None = None

    def check(self, at: datetime | None) -> None:
        """Time alone may change something at ``at``."""
        if at is not None and at > self.now and (self.check_at is None or at < self.check_at):
            self.check_at = at

    def stores_of(self, wave: int) -> list[Sight]:
        return [self.sights[store] for store in self.rollout.waves[wave].stores]

    def busy(self) -> int:
        return sum(sight.busy for sight in self.sights.values())

    def finish(self) -> Plan:
        views = {store: StoreView(sight.phase, sight.reason) for store, sight in self.sights.items()}
        return Plan(tuple(self.steps), views, self.reason, self.check_at)


def lay_out(
    rollout: Rollout,
    records: Mapping[str, StoreRecord],
    now_of: Mapping[str, StoreNow],
    now: datetime,
    verdicts: Mapping[int, Sequence[GateVerdict]],
    others: Mapping[str, Status],
    withdrawn: Collection[str],
) -> Board:
    """A board with every target looked at, and what is new of them as its first steps."""
    board = Board(rollout, now, {}, verdicts, others, withdrawn)
    for number, wave in enumerate(rollout.waves):
        for store in wave.stores:
            record = records.get(store) or StoreRecord(store, number)
            sight = look(rollout, record, now_of.get(store), now)
            board.sights[store] = sight
            if sight.observe is not None:
                board.steps.append(sight.observe)
            board.check(sight.check_at)
    return board


def count(sights: Iterable[Sight], phase: Phase) -> int:
    return sum(sight.phase == phase for sight in sights)


def named(stores: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 7 more``."""
    more = f" and {len(stores) - most} more" if len(stores) > most else ""
    return ", ".join(stores[:most]) + more


def stores(number: int) -> str:
    return f"{number} store" if number == 1 else f"{number} stores"
