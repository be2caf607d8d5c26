"""A noisy detector in front of a shelf with shoppers: what is reported against what happened."""

import random
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from agent.domain import alerts, shelf
from agent.domain.facts import Fact
from agent.domain.zone_state import ZoneRule, ZoneState
from agent.domain.zones import ZoneLook
from contract.names import StockLevel
from contract.store_config import Policy

RULE = ZoneRule("z", "cola", capacity=6, low_at=2)
POLICY = Policy()
PERIOD = 0.2
ALERTS = ("LowStock", "OutOfStock", "Restocked")


@dataclass(frozen=True)
class Noise:
    """Chances per frame: to overlook an item, to see one that is not there, to overlook the one at the
    back, to overlook a person."""

    miss: float = 0.02
    ghost: float = 0.003
    back: float | None = None
    person: float = 0.05


NONE = Noise()


@dataclass
class Shelf:
    """Shoppers come about every 25 s, stand in the way, take, put back, or fill up; then all is still."""

    seed: int
    minutes: float
    noise: Noise = NONE
    facings: int = 6
    visits: bool = True
    facts: list[Fact] = field(default_factory=list)
    truth: list[tuple[float, str]] = field(default_factory=list)
    state: ZoneState = field(default_factory=lambda: ZoneState("cola", 0))

    def run(self) -> "Shelf":
        rng = random.Random(self.seed)
        stock, believed_stock = self.facings, self.facings
        level = StockLevel.STOCKED
        visit_from, visit_to = 10.0 if self.visits else 1e12, 0.0
        acted = False
        seen_for = 0.0
        t = 1000.0
        end = t + self.minutes * 60
        visit_from += t
        visit_to = visit_from + rng.uniform(1.5, 8)
        while t < end:
            t += PERIOD * rng.uniform(0.8, 1.2)
            inside = visit_from <= t <= visit_to
            if inside and not acted and t > (visit_from + visit_to) / 2:
                acted = True
                action = rng.random()
                if action < 0.5:
                    stock = max(0, stock - rng.randint(1, 3))
                elif action < 0.6:
                    stock = min(6, stock + 1)
                elif action < 0.85:
                    stock = 6
            if self.visits and t > visit_to:
                visit_from = t + rng.expovariate(1 / 20) + 0.5
                visit_to = visit_from + rng.uniform(1.5, 8)
                acted = False
            seen_for = 0.0 if inside else seen_for + PERIOD
            if seen_for >= POLICY.dwell_s and stock != believed_stock:
                believed_stock = stock
                new = RULE.level(stock, level, POLICY.restock_margin)
                if new is not level:
                    if new is StockLevel.STOCKED:
                        self.truth.append((t, "Restocked"))
                    elif new is StockLevel.OUT_OF_STOCK:
                        self.truth.append((t, "OutOfStock"))
                    elif level is StockLevel.STOCKED:
                        self.truth.append((t, "LowStock"))
                    level = new
            self._look(rng, t, inside, stock)
        return self

    def _look(self, rng: random.Random, t: float, inside: bool, stock: int) -> None:
        hidden = inside and rng.random() >= self.noise.person
        visible = rng.randint(0, stock) if inside else stock
        sure = maybe = 0
        for item in range(visible):
            chance = self.noise.miss if item or self.noise.back is None else self.noise.back
            if rng.random() >= chance:
                sure += 1
            elif rng.random() < 0.3:
                maybe += 1
        ghosts = rng.random() < self.noise.ghost
        count = sure + ghosts
        look = ZoneLook(t, count, count + maybe, {}, 0.9 if count else None, hidden, hidden)
        self.state, found = shelf.step(RULE, POLICY, self.state, look)
        for fact in found:
            self.state = alerts.remember(self.state, fact, UUID(int=len(self.facts)))
            self.facts.append(fact)

    def score(self) -> tuple[int, int, int, list[float]]:
        """True reports, false reports, misses, delays after the perfect observer."""
        waiting = list(self.truth)
        hits, false, delays = 0, 0, []
        for fact in self.facts:
            kind = fact.kind.__name__
            if kind not in ALERTS:
                continue
            match = next((w for w in waiting if w[1] == kind and w[0] - 4 <= fact.at <= w[0] + 10), None)
            if match is None:
                false += 1
            else:
                waiting.remove(match)
                hits += 1
                delays.append(fact.at - match[0])
        return hits, false, len(waiting), sorted(delays)


@pytest.mark.parametrize(
    ("noise", "precision", "recall"),
    [
        pytest.param(NONE, 0.99, 0.97, id="usual misses"),
        pytest.param(Noise(miss=0.06, ghost=0.01), 0.98, 0.95, id="three times the usual misses"),
        pytest.param(Noise(back=0.5), 0.97, 0.9, id="one item seen half of the time"),
        pytest.param(Noise(person=0.25), 0.98, 0.95, id="people overlooked in a quarter of frames"),
    ],
)
def test_alerts_are_right_and_none_is_missed(noise: Noise, precision: float, recall: float) -> None:
    hits = false = missed = 0
    delays: list[float] = []
    for seed in range(3):
        a, b, c, d = Shelf(seed, minutes=40, noise=noise).run().score()
        hits, false, missed, delays = hits + a, false + b, missed + c, delays + d
    assert hits > 40
    assert hits / (hits + false) >= precision
    assert hits / (hits + missed) >= recall
    assert sorted(delays)[len(delays) // 2] < POLICY.settle_s + 1.0


@pytest.mark.parametrize(
    ("facings", "noise"),
    [
        pytest.param(6, NONE, id="full"),
        pytest.param(3, NONE, id="just above low"),
        pytest.param(3, Noise(back=0.5), id="just above low, one item seen half of the time"),
        pytest.param(2, Noise(ghost=0.02), id="low, with ghosts"),
    ],
)
def test_hours_without_anybody_report_nothing(facings: int, noise: Noise) -> None:
    shelf_in_peace = Shelf(11, minutes=45, facings=facings, visits=False, noise=noise).run()
    reports = [fact for fact in shelf_in_peace.facts if fact.kind.__name__ in ALERTS]
    assert len(reports) == (1 if facings <= RULE.low_at else 0), "only the first belief may alert"
