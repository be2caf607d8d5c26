"""What holds of the shelf state machine whatever it sees."""

from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain import alerts, shelf
from agent.domain.facts import Fact
from agent.domain.view_codec import without_evidence
from agent.domain.zone_state import ZoneRule, ZoneState
from agent.domain.zones import ZoneLook
from contract import events
from contract.names import StockLevel, UnknownReason
from contract.store_config import Policy

RULE = ZoneRule("z", "cola", capacity=5, low_at=2)
POLICY = Policy(dwell_s=1.0, settle_s=0.4, stale_s=2.0, occlusion_unknown_s=6.0, retract_within_s=5.0)


@dataclass(frozen=True)
class Spell:
    """``looks`` times the same, ``gap`` seconds apart."""

    what: str
    looks: int
    gap: float = 0.2
    count: int = 0
    unsure: int = 0
    stranger: bool = False


counts = st.integers(0, 12)
seen = st.builds(
    Spell,
    st.sampled_from(["clear", "clear", "clear", "near", "hidden"]),
    st.integers(1, 14),
    st.sampled_from([0.1, 0.2, 0.2, 0.5]),
    counts,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([False, False, True]),
)
trouble = st.one_of(
    st.builds(Spell, st.just("lost"), st.integers(1, 3)),
    st.builds(Spell, st.just("jump"), st.just(1), st.sampled_from([-4000.0, -1.0, 3.0, 9.0, 1e5])),
    st.builds(Spell, st.just("restart"), st.just(1)),
)
stories = st.lists(st.one_of(seen, seen, seen, trouble), max_size=30)


@dataclass
class Run:
    state: ZoneState = field(default_factory=lambda: ZoneState("cola", 1))
    now: float = 10_000.0
    batches: list[tuple[ZoneState, tuple[Fact, ...], ZoneState]] = field(default_factory=list)
    observed_s: float = 0.0
    """Seconds of unbroken sight before the present look."""
    since_known: list[float] = field(default_factory=list)

    def tell(self, story: list[Spell]) -> "Run":
        for spell in story:
            for _ in range(spell.looks):
                self._one(spell)
        return self

    def _one(self, spell: Spell) -> None:
        self.now += spell.gap
        before = self.state
        facts: tuple[Fact, ...] = ()
        if spell.what == "lost":
            self.state, facts = shelf.lose(RULE, before, self.now, UnknownReason.CAMERA_UNHEALTHY, "dark")
        elif spell.what == "restart":
            self.state = without_evidence(before)
        elif spell.what != "jump":
            hidden = spell.what == "hidden"
            look = ZoneLook(
                self.now,
                spell.count,
                spell.count + spell.unsure,
                {"chips": 1} if spell.stranger else {},
                0.8 if spell.count else None,
                hidden,
                hidden or spell.what == "near",
            )
            self.state, facts = shelf.step(RULE, POLICY, before, look)
            for i, fact in enumerate(facts):
                self.state = alerts.remember(self.state, fact, UUID(int=1000 * len(self.batches) + i))
        self.batches.append((before, facts, self.state))

    @property
    def facts(self) -> list[Fact]:
        return [fact for _, facts, _ in self.batches for fact in facts]


@settings(max_examples=150, deadline=None)
@given(stories)
def test_facings_are_kept_like_books(story: list[Spell]) -> None:
    """Each change starts where the last one ended, and its quantity is the difference."""
    believed = None
    for fact in Run().tell(story).facts:
        data = fact.data
        if fact.kind is events.ZoneKnown:
            believed = data.facings if believed is None else believed
        elif fact.kind is events.FacingsChanged:
            assert data.previous_facings == believed
            assert data.facings != believed
            believed = data.facings
        elif fact.kind is events.Picked:
            assert data.previous_facings - data.quantity == data.facings == believed
        elif fact.kind in (events.PutBack, events.Restocked):
            assert data.previous_facings + data.quantity == data.facings == believed
        elif fact.kind is not events.ZoneUnknown:
            assert data.facings == believed or fact.kind is events.Retracted
        if data.facings is not None:
            assert 0 <= data.facings <= 2 * RULE.capacity


@settings(max_examples=150, deadline=None)
@given(stories)
def test_levels_alternate_as_they_must(story: list[Spell]) -> None:
    """No alert twice, no restock without a shortage, nothing said of a zone that is unknown."""
    known, level = False, None
    open_alerts: dict[UUID, StockLevel | None] = {}
    run = Run().tell(story)
    for batch, (_, facts, _) in enumerate(run.batches):
        for i, fact in enumerate(facts):
            kind = fact.kind
            if kind is events.ZoneKnown:
                assert not known
                known = True
                continue
            assert known
            if kind is events.ZoneUnknown:
                known = False
            elif kind is events.LowStock:
                assert level in (None, StockLevel.STOCKED)
                open_alerts[UUID(int=1000 * batch + i)] = level
                level = StockLevel.LOW
            elif kind is events.OutOfStock:
                assert level is not StockLevel.OUT_OF_STOCK
                open_alerts[UUID(int=1000 * batch + i)] = level
                level = StockLevel.OUT_OF_STOCK
            elif kind is events.Restocked:
                assert level in (StockLevel.LOW, StockLevel.OUT_OF_STOCK)
                level = StockLevel.STOCKED
            elif kind is events.Retracted:
                assert fact.data.retracts in open_alerts
                level = open_alerts.pop(fact.data.retracts)
            elif kind is events.FacingsChanged and fact.data.level is StockLevel.LOW:
                level = StockLevel.LOW if level is StockLevel.OUT_OF_STOCK else level
    assert run.state.known == known


@settings(max_examples=150, deadline=None)
@given(stories)
def test_only_clear_looks_report_stock(story: list[Spell]) -> None:
    run = Run()
    for spell in story:
        start = len(run.batches)
        run.tell([spell])
        for before, facts, after in run.batches[start:]:
            told = {fact.kind for fact in facts} - {events.ZoneUnknown}
            if spell.what not in {"clear", "near"} or after.watching is False:
                assert told == set()
            if told:
                assert after.evidence.clock - after.evidence.looks[0].clock >= POLICY.dwell_s - 1e-6
            assert before.known or not told or events.ZoneKnown in told


@settings(max_examples=100, deadline=None)
@given(stories, st.sampled_from(["hidden", "lost"]), st.integers(1, 200))
def test_what_cannot_be_seen_is_never_empty(story: list[Spell], what: str, looks: int) -> None:
    run = Run().tell(story)
    start = len(run.batches)
    run.tell([Spell(what, looks, 0.2, 0)])
    facts = [fact for _, facts, _ in run.batches[start:] for fact in facts]
    assert {fact.kind for fact in facts} <= {events.ZoneUnknown}


@settings(max_examples=100, deadline=None)
@given(stories, st.sampled_from([3.0, 30.0, -30.0, 1e6]))
def test_a_gap_or_a_jump_of_the_clock_needs_a_whole_new_dwell(story: list[Spell], jump: float) -> None:
    run = Run().tell(story)
    run.tell([Spell("clear", 1, 0.2, 4), Spell("jump", 1, jump)])
    start = len(run.batches)
    run.tell([Spell("clear", 5, 0.2, 0)])
    facts = [fact for _, facts, _ in run.batches[start:] for fact in facts]
    assert {fact.kind for fact in facts} <= {events.ZoneUnknown}


@settings(max_examples=100, deadline=None)
@given(stories, st.integers(0, 9))
def test_after_a_while_of_clear_sight_the_truth_is_believed_and_silence_falls(
    story: list[Spell], count: int
) -> None:
    run = Run().tell(story).tell([Spell("clear", 40, 0.2, count)])
    assert run.state.belief == count
    assert run.state.level is RULE.level(count, run.state.stock, POLICY.restock_margin)
    start = len(run.batches)
    run.tell([Spell("clear", 40, 0.2, count)])
    assert [fact for _, facts, _ in run.batches[start:] for fact in facts] == []


@settings(max_examples=100, deadline=None)
@given(stories)
def test_memory_is_bounded(story: list[Spell]) -> None:
    run = Run().tell(story)
    assert len(run.state.evidence.looks) <= 130
    assert len(run.state.alerts) <= 2
    assert len(run.state.strangers) <= 1
