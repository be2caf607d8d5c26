"""The shelf state machine, sentence by sentence of docs/architecture.md ("What a zone event means").

A story is a line of steps: ``4*20`` is twenty looks at four facings, ``h*5`` five looks at a person in
front, ``n4*3`` three looks at four facings with a person beside, ``4+x*20`` with another SKU among
them, ``4?5*9`` four sure and five unsure detections, ``.*10`` two seconds without any look, ``lost`` an
unhealthy camera, ``back`` a clock set back by an hour. Looks come five times a second.
"""

from dataclasses import dataclass, field
from uuid import UUID

import pytest

from agent.domain import alerts, shelf
from agent.domain.facts import Fact
from agent.domain.zone_state import ZoneRule, ZoneState
from agent.domain.zones import ZoneLook
from contract.names import StockLevel, UnknownReason
from contract.store_config import Camera, Policy, Zone

RULE = ZoneRule("a1", "cola", capacity=6, low_at=2)
POLICY = Policy(dwell_s=3.0, settle_s=0.7, stale_s=2.0, occlusion_unknown_s=60.0, retract_within_s=20.0)
TICK = 0.2
FULL = 16
"""Looks that span one dwell."""
CALM = 31
"""Looks that span two: what a change without anybody near needs."""


@dataclass
class Teller:
    policy: Policy = POLICY
    rule: ZoneRule = RULE
    state: ZoneState = field(default_factory=lambda: ZoneState("cola", 1))
    now: float = 1_000.0
    facts: list[Fact] = field(default_factory=list)
    named: bool = True

    def tell(self, story: str) -> "Teller":
        for part in story.split():
            what, _, times = part.partition("*")
            for _ in range(int(times or 1)):
                self._one(what)
        return self

    def _one(self, what: str) -> None:
        self.now += TICK
        if what == ".":
            return
        if what == "back":
            self.now -= 3600
            return
        if what == "lost":
            found = self._keep(
                shelf.lose(self.rule, self.state, self.now, UnknownReason.CAMERA_UNHEALTHY, "dark")
            )
        else:
            found = self._keep(shelf.step(self.rule, self.policy, self.state, self._look(what)))
        for fact in found:
            self.facts.append(fact)
            if self.named:
                self.state = alerts.remember(self.state, fact, UUID(int=len(self.facts)))

    def _keep(self, result: shelf.Result) -> tuple[Fact, ...]:
        self.state, found = result
        return found

    def _look(self, what: str) -> ZoneLook:
        if what.startswith("h"):
            return ZoneLook(self.now, 0, 0, {}, None, True, True)
        near = what.startswith("n")
        what, _, others = what.removeprefix("n").partition("+")
        sure, _, unsure = what.partition("?")
        strangers = {sku: others.count(sku) for sku in others}
        return ZoneLook(self.now, int(sure), int(unsure or sure), strangers, 0.9, False, near)

    @property
    def said(self) -> list[str]:
        return [_words(fact) for fact in self.facts]


def _words(fact: Fact) -> str:
    name, data = fact.kind.__name__, fact.data
    match name:
        case "FacingsChanged":
            return f"{data.previous_facings}>{data.facings}"
        case "Picked" | "PutBack" | "Restocked":
            return f"{name} {data.quantity}"
        case "ZoneKnown":
            return f"known {data.facings} {data.level}"
        case "ZoneUnknown":
            return f"unknown {data.reason}"
        case "Misplaced":
            return f"misplaced {data.found_sku} {data.found_count}"
        case "Retracted":
            return f"retracted {data.retracted_type.split('.')[-2]}"
    return name


STORIES = [
    pytest.param("5*15", [], id="nothing before the first dwell is over"),
    pytest.param("5*16", ["known 5 stocked"], id="the first belief makes the zone known"),
    pytest.param("2*16", ["known 2 low", "LowStock"], id="first belief low"),
    pytest.param("0*16", ["known 0 out_of_stock", "OutOfStock"], id="first belief empty"),
    pytest.param("5*16 h*5 3*18", ["known 5 stocked"], id="a change waits for settle and dwell"),
    pytest.param(
        "5*16 h*5 3*20", ["known 5 stocked", "5>3", "Picked 2"], id="fewer after a visit are picked"
    ),
    pytest.param(
        "5*16 h*5 3*20 h*5 4*20",
        ["known 5 stocked", "5>3", "Picked 2", "3>4", "PutBack 1"],
        id="more, but not more than were picked, are put back",
    ),
    pytest.param(
        "4*16 h*5 3*20 h*5 6*20",
        ["known 4 stocked", "4>3", "Picked 1", "3>6"],
        id="more than were picked without a shortage only change the facings",
    ),
    pytest.param(
        "5*16 h*5 2*20", ["known 5 stocked", "5>2", "Picked 3", "LowStock"], id="entering low alerts"
    ),
    pytest.param(
        "5*16 h*5 0*20",
        ["known 5 stocked", "5>0", "Picked 5", "OutOfStock"],
        id="straight to empty gives out of stock alone",
    ),
    pytest.param(
        "5*16 h*5 2*20 h*5 0*20",
        ["known 5 stocked", "5>2", "Picked 3", "LowStock", "2>0", "Picked 2", "OutOfStock"],
        id="low, then empty",
    ),
    pytest.param(
        "0*16 h*5 2*20", ["known 0 out_of_stock", "OutOfStock", "0>2"], id="from empty up to low: no alert"
    ),
    pytest.param(
        "0*16 h*5 6*20",
        ["known 0 out_of_stock", "OutOfStock", "0>6", "Restocked 6"],
        id="from empty to stocked is a restock",
    ),
    pytest.param(
        "3*16 h*5 2*20 h*5 3*20",
        ["known 3 stocked", "3>2", "Picked 1", "LowStock", "2>3", "PutBack 1", "Restocked 1"],
        id="whoever ends a shortage restocks",
    ),
    pytest.param("5*16 4 5*3 3 5*3 0 5*40", ["known 5 stocked"], id="flicker changes nothing"),
    pytest.param(
        "5*16 h*5 3*10 5 3*9",
        ["known 5 stocked", "5>3", "Picked 2"],
        id="one flicker does not restart the clock",
    ),
    pytest.param("5*16 5*31 4*30", ["known 5 stocked"], id="without anybody near a change needs patience"),
    pytest.param(
        "5*16 5*31 4*31",
        ["known 5 stocked", "5>4", "Picked 1"],
        id="patience ends after two dwells",
    ),
    pytest.param(
        "5*16 n5*2 n4*16",
        ["known 5 stocked", "5>4", "Picked 1"],
        id="a person beside the zone makes a change plausible",
    ),
    pytest.param("5*16 4?5*60", ["known 5 stocked"], id="an unsure detection holds what was believed"),
    pytest.param("5*16 5?6*60", ["known 5 stocked"], id="an unsure detection adds nothing"),
    pytest.param(
        "6*16 h*5 4*9 2*9", ["known 6 stocked"], id="two changes in a row: neither has held for a dwell"
    ),
    pytest.param(
        "6*16 h*5 4*9 2*20",
        ["known 6 stocked", "6>2", "Picked 4", "LowStock"],
        id="two changes in a row are believed when they are over",
    ),
    pytest.param("5*16 h*290", ["known 5 stocked"], id="stock is held while hidden"),
    pytest.param("5*16 h*310", ["known 5 stocked", "unknown occluded"], id="hidden for too long is unknown"),
    pytest.param(
        "5*16 h*100 0*2 h*100 0*2 h*110",
        ["known 5 stocked", "unknown occluded"],
        id="a person box that flickers off is still there",
    ),
    pytest.param(
        "5*16 h*310 5*20",
        ["known 5 stocked", "unknown occluded", "known 5 stocked"],
        id="known again, nothing changed",
    ),
    pytest.param(
        "5*16 lost*9 0*15", ["known 5 stocked", "unknown camera_unhealthy"], id="after a fault: a full dwell"
    ),
    pytest.param(
        "5*16 lost*9 2*16",
        ["known 5 stocked", "unknown camera_unhealthy", "known 2 low", "5>2", "Picked 3", "LowStock"],
        id="known comes first, then what changed",
    ),
    pytest.param(
        "2*16 lost 1*16",
        ["known 2 low", "LowStock", "unknown camera_unhealthy", "known 1 low", "2>1", "Picked 1"],
        id="a shortage that outlasts the fault is not reported twice",
    ),
    pytest.param("lost*3 5*16", ["known 5 stocked"], id="never known needs no unknown"),
    pytest.param("5*16 0*14 .*11 0*15", ["known 5 stocked"], id="a gap in looks discards evidence"),
    pytest.param("5*16 0*10 back 0*15", ["known 5 stocked"], id="a clock set back discards evidence"),
    pytest.param(
        "5*16 back 5*16 h*4 3*20", ["known 5 stocked", "5>3", "Picked 2"], id="a clock set back stops nothing"
    ),
    pytest.param(
        "5*16 .*400 0*15",
        ["known 5 stocked", "unknown stale_frame"],
        id="not looked at for too long is unknown",
    ),
    pytest.param("20*16", ["known 12 stocked"], id="twice the capacity is the most that is believed"),
    pytest.param(
        "5*47 0*31 5*31",
        ["known 5 stocked", "5>0", "Picked 5", "OutOfStock", "retracted out_of_stock", "0>5"],
        id="an alert that dissolves with nobody near is retracted",
    ),
    pytest.param(
        "5*47 2*31 0*31 5*31",
        [
            "known 5 stocked", "5>2", "Picked 3", "LowStock", "2>0", "Picked 2", "OutOfStock",
            "retracted out_of_stock", "retracted low_stock", "0>5",
        ],
        id="both alerts fall together",
    ),
    pytest.param(
        "5*47 0*31 2*31",
        [
            "known 5 stocked", "5>0", "Picked 5", "OutOfStock",
            "retracted out_of_stock", "0>2", "LowStock",
        ],
        id="not empty, but low all the same",
    ),
    pytest.param(
        "2*47 0*31 2*31",
        [
            "known 2 low", "LowStock", "2>0", "Picked 2", "OutOfStock",
            "retracted out_of_stock", "0>2",
        ],
        id="back to a shortage that was right",
    ),
    pytest.param(
        "0*16 5*31",
        ["known 0 out_of_stock", "OutOfStock", "retracted out_of_stock", "0>5"],
        id="a wrong first belief is retracted",
    ),
    pytest.param(
        "5*47 0*31 n0*1 5*31",
        ["known 5 stocked", "5>0", "Picked 5", "OutOfStock", "0>5", "PutBack 5", "Restocked 5"],
        id="somebody was near: a restock",
    ),
    pytest.param(
        "5*47 0*110 5*31",
        ["known 5 stocked", "5>0", "Picked 5", "OutOfStock", "0>5", "PutBack 5", "Restocked 5"],
        id="too late to retract: a restock",
    ),
    pytest.param(
        "5*47 0*31 .*12 5*31",
        ["known 5 stocked", "5>0", "Picked 5", "OutOfStock", "0>5", "PutBack 5", "Restocked 5"],
        id="an unwatched moment: a restock",
    ),
    pytest.param("4+x*15", [], id="a stranger waits for the dwell as well"),
    pytest.param("4+x*60", ["known 4 stocked", "misplaced x 1"], id="a stranger is reported once"),
    pytest.param(
        "4+xxy*40", ["known 4 stocked", "misplaced x 2", "misplaced y 1"], id="two strangers, one twice"
    ),
    pytest.param("4*20 4+x*2 4*20 4+x*3 4*20", ["known 4 stocked"], id="a confused class for a few frames"),
    pytest.param(
        "4+x*20 h*5 4*20 h*5 4+x*20",
        ["known 4 stocked", "misplaced x 1", "misplaced x 1"],
        id="gone and come again is reported again",
    ),
    pytest.param(
        "4+x*20 4*3 4+x*40 h*9 4+x*40", ["known 4 stocked", "misplaced x 1"], id="still the same stranger"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("story", "expected"), STORIES)
def test_story(story: str, expected: list[str]) -> None:
    assert Teller().tell(story).said == expected


def test_events_carry_what_they_changed_and_the_frames_that_prove_it() -> None:
    teller = Teller().tell("5*16 h*5 2*20")
    low = teller.facts[-1]
    assert (low.data.previous_facings, low.data.facings, low.data.capacity) == (5, 2, 6)
    assert (low.data.previous_level, low.data.level) == (StockLevel.STOCKED, StockLevel.LOW)
    assert low.data.evidence_frames == FULL
    assert low.data.confidence == pytest.approx(0.9)
    assert low.at == pytest.approx(1000 + (16 + 5 + 3 + FULL) * TICK), "the frame that proved it"
    assert low.zone == "a1"


def test_unknown_names_what_was_believed_but_claims_nothing() -> None:
    fact = Teller().tell("5*16 lost").facts[-1]
    assert (fact.data.facings, fact.data.level) == (None, StockLevel.UNKNOWN)
    assert (fact.data.previous_facings, fact.data.detail) == (5, "dark")


def test_known_again_tells_for_how_long_it_was_not() -> None:
    teller = Teller().tell("5*16 lost .*20 5*16")
    assert teller.facts[-1].data.unknown_s == pytest.approx(37 * TICK - TICK, abs=TICK)


def test_a_retraction_names_the_event_it_retracts() -> None:
    teller = Teller().tell("5*47 0*31 5*31")
    kinds = [fact.kind.__name__ for fact in teller.facts]
    retraction = teller.facts[kinds.index("Retracted")]
    assert retraction.data.retracts == UUID(int=kinds.index("OutOfStock") + 1)
    assert retraction.data.level is StockLevel.STOCKED
    assert "nobody near" in retraction.data.reason


def test_an_alert_that_was_never_stored_cannot_be_retracted() -> None:
    teller = Teller(named=False).tell("5*47 0*31 5*31")
    assert teller.said[-1] == "Restocked 5"


def test_the_same_frame_twice_is_one_look() -> None:
    look = ZoneLook(1000.0, 5, 5)
    state, _ = shelf.step(RULE, POLICY, ZoneState("cola", 1), look)
    again, facts = shelf.step(RULE, POLICY, state, look)
    assert again is state
    assert facts == ()


@pytest.mark.parametrize(
    ("facings", "before", "margin", "expected"),
    [
        (0, None, 1, StockLevel.OUT_OF_STOCK),
        (1, None, 1, StockLevel.LOW),
        (2, StockLevel.STOCKED, 1, StockLevel.LOW),
        (3, StockLevel.LOW, 1, StockLevel.STOCKED),
        (3, StockLevel.LOW, 0, StockLevel.STOCKED),
        (3, StockLevel.LOW, 2, StockLevel.LOW),
        (3, StockLevel.STOCKED, 2, StockLevel.STOCKED),
        (3, StockLevel.OUT_OF_STOCK, 2, StockLevel.LOW),
        (3, None, 2, StockLevel.STOCKED),
        (4, StockLevel.LOW, 2, StockLevel.STOCKED),
        (6, StockLevel.LOW, 50, StockLevel.STOCKED),
        (5, StockLevel.LOW, 50, StockLevel.LOW),
    ],
)
def test_level(facings: int, before: StockLevel | None, margin: int, expected: StockLevel) -> None:
    assert RULE.level(facings, before, margin) is expected


def test_slow_cameras_are_believed_too() -> None:
    teller = Teller(rule=ZoneRule("a1", "cola", 6, 2, period_s=5.0))
    for _ in range(3):
        teller.tell(".*24 4")
    assert teller.said == ["known 4 stocked"]


def test_memory_is_bounded() -> None:
    teller = Teller(policy=POLICY.model_copy(update={"dwell_s": 600.0}))
    teller.tell("4*3100")
    assert len(teller.state.evidence.looks) <= 130
    assert teller.said == ["known 4 stocked"]


def test_a_zone_for_a_single_facing_is_stocked_when_full() -> None:
    zone = Zone(id="a1", camera="cam-1", sku="cola", capacity=1, polygon=((0, 0), (9, 0), (9, 9)))
    rule = ZoneRule.of(zone, Camera(id="cam-1", url="file:x", frame_size=(640, 480)))
    assert rule.level(1, None, 1) is StockLevel.STOCKED
    assert rule.level(0, StockLevel.STOCKED, 1) is StockLevel.OUT_OF_STOCK
    assert rule.level(1, StockLevel.OUT_OF_STOCK, 1) is StockLevel.STOCKED
