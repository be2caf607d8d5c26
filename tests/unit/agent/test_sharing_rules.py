"""Who watches what: assignment of cameras, and what one node decides from what it sees."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.sharing import (
    NOBODY,
    Ledger,
    Observed,
    Plan,
    Record,
    Session,
    Terms,
    alive,
    assign,
    observe,
    plan,
    renewed,
)

TERMS = Terms(hold_s=8, lease_s=12, renew_s=2, settle_s=20)
FIRST = 1000
NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=3), max_size=12)


@given(cameras=NAMES, members=NAMES, data=st.data())
def test_cameras_are_spread_evenly_and_move_only_if_they_must(
    cameras: set[str], members: set[str], data: st.DataObject
) -> None:
    everyone = st.sampled_from([*sorted(members), "dead"])
    holders = {camera: data.draw(everyone) for camera in cameras if data.draw(st.booleans())}
    found = assign(cameras, holders, members)
    assert set(found) == (cameras if members else set())
    loads = Counter(dict.fromkeys(members, 0)) + Counter()
    loads.update(found.values())
    counts = [loads[member] for member in members]
    assert not members or max(counts) - min(counts) <= 1
    held = Counter(h for c, h in holders.items() if h in members)
    allowed = -(-len(cameras) // len(members)) if members else 0
    for camera, to in found.items():
        before = holders.get(camera)
        if before in members and before != to:
            assert held[before] > allowed - 1  # it had more than its due
    again = assign(cameras, found, members)
    assert again == found


def test_cameras_of_a_dead_node_go_to_the_others_and_theirs_stay() -> None:
    cameras = [f"c{i}" for i in range(6)]
    before = assign(cameras, {}, {"a", "b", "c"})
    after = assign(cameras, before, {"a", "b"})
    assert {c: m for c, m in after.items() if before[c] != "c"} == {
        c: m for c, m in before.items() if m != "c"
    }
    assert sorted(Counter(after.values()).values()) == [3, 3]


class Eyes:
    """What node ``a`` sees, read after read."""

    def __init__(self) -> None:
        self.seen = Observed()
        self.ledger = Ledger()

    def see(self, at: float, members: dict[str, str], cameras: dict[str, tuple[str, int]]) -> None:
        """``members``: version by node; ``-`` marks one that left."""
        people = {n: Record(n, NOBODY if v == "-" else n, 0, v) for n, v in members.items()}
        things = {n: Record(n, holder, epoch, "1") for n, (holder, epoch) in cameras.items()}
        self.ledger = Ledger(people, things)
        self.seen = observe(self.seen, self.ledger, ["c1", "c2"], at, TERMS)

    def decide(self, at: float, holds: dict[str, int] | None = None) -> Plan:
        session = Session(at + TERMS.hold_s, holds or {})
        return plan("a", ["c1", "c2"], self.ledger, self.seen, session, at, TERMS, FIRST)


def takes(todo: Plan) -> dict[str, int]:
    return {take.record.name: take.record.epoch for take in todo.take}


def gives(todo: Plan) -> list[str]:
    return [release.record.name for release in todo.release]


def test_the_first_node_takes_all_at_once() -> None:
    eyes = Eyes()
    eyes.see(0, {}, {})
    assert takes(eyes.decide(0)) == {"c1": FIRST, "c2": FIRST}


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [
        pytest.param(12.0, {}, id="unchanged for no longer than the lease"),
        pytest.param(12.1, {"c1": 8, "c2": 8}, id="unchanged for longer"),
    ],
)
def test_cameras_of_a_silent_node_are_taken_after_its_lease(
    asked_at: float, expected: dict[str, int]
) -> None:
    eyes = Eyes()
    cameras = {"c1": ("b", 7), "c2": ("b", 7)}
    eyes.see(0, {"b": "5"}, cameras)
    eyes.see(asked_at + 3, {"b": "5"}, cameras)  # a slow answer proves nothing about the time since
    assert takes(eyes.decide(asked_at)) == expected


def test_cameras_of_a_node_that_said_goodbye_are_taken_at_once() -> None:
    eyes = Eyes()
    eyes.see(0, {"b": "-"}, {"c1": ("b", 7), "c2": ("b", 7)})
    assert takes(eyes.decide(0)) == {"c1": 8, "c2": 8}


def test_after_a_restart_ones_own_cameras_are_confirmed_in_their_epoch() -> None:
    eyes = Eyes()
    eyes.see(0, {"a": "1"}, {"c1": ("a", 7), "c2": ("a", 9)})
    assert takes(eyes.decide(0)) == {"c1": 7, "c2": 9}


def test_a_newcomer_gets_cameras_only_once_it_has_settled() -> None:
    eyes = Eyes()
    cameras = {"c1": ("a", 7), "c2": ("a", 7)}
    for at in range(0, 20, 2):
        eyes.see(at, {"a": str(at), "b": str(at)}, cameras)
        assert gives(eyes.decide(at, {"c1": 7, "c2": 7})) == []
    eyes.see(20, {"a": "20", "b": "20"}, cameras)
    assert len(gives(eyes.decide(20, {"c1": 7, "c2": 7}))) == 1


def test_one_that_comes_and_goes_has_to_settle_again() -> None:
    eyes = Eyes()
    cameras = {"c1": ("a", 7), "c2": ("a", 7)}
    for at in [*range(0, 16, 2), *range(40, 58, 2)]:
        eyes.see(at, {"b": str(at)}, cameras)
        assert gives(eyes.decide(at, {"c1": 7, "c2": 7})) == []


def test_the_newcomer_opens_what_it_will_get() -> None:
    eyes = Eyes()
    eyes.see(0, {"b": "1"}, {"c1": ("b", 7), "c2": ("b", 7)})
    todo = eyes.decide(0)
    assert len(todo.soon) == 1
    assert todo.take == ()


def test_what_the_ledger_gives_to_another_is_lost() -> None:
    eyes = Eyes()
    eyes.see(0, {"b": "1"}, {"c1": ("b", 8), "c2": ("a", 7)})
    assert eyes.decide(0, {"c1": 7, "c2": 7}).lost == ("c1",)


def test_a_camera_that_is_not_configured_any_more_is_released() -> None:
    eyes = Eyes()
    eyes.see(0, {}, {"c1": ("a", 7), "c2": ("a", 7), "old": ("a", 3)})
    assert gives(eyes.decide(0, {"c1": 7, "c2": 7, "old": 3})) == ["old"]


def test_a_removed_record_is_not_free_before_its_holder_must_have_noticed() -> None:
    eyes = Eyes()
    eyes.see(0, {"b": "1"}, {"c1": ("b", 7), "c2": ("a", 7)})
    for at in range(2, 14, 2):
        eyes.see(at, {"b": str(at)}, {"c2": ("a", 7)})
        assert takes(eyes.decide(at, {"c2": 7})) == {}
    eyes = Eyes()
    eyes.see(0, {"b": "-"}, {"c1": ("b", 7000), "c2": ("a", 7)})
    eyes.see(2, {"b": "-"}, {"c2": ("a", 7)})
    assert takes(eyes.decide(2, {"c2": 7})) == {"c1": 7001}


def test_a_removed_member_record_frees_nothing_at_once() -> None:
    eyes = Eyes()
    cameras = {"c1": ("b", 7), "c2": ("b", 7)}
    eyes.see(0, {"b": "1"}, cameras)
    eyes.see(50, {"b": "9"}, cameras)
    eyes.see(52, {}, cameras)
    assert alive(eyes.seen, "b", 64, TERMS)
    eyes.see(66, {}, cameras)
    assert not alive(eyes.seen, "b", 66, TERMS)


@pytest.mark.parametrize(
    ("session", "answered_at", "holds"),
    [
        pytest.param(None, 1, {}, id="first"),
        pytest.param(Session(8, {"c1": 7}), 7.9, {"c1": 7}, id="in time"),
        pytest.param(Session(8, {"c1": 7}), 8.0, {}, id="too late, though it was sent in time"),
    ],
)
def test_a_session_that_was_broken_holds_nothing(
    session: Session | None, answered_at: float, holds: dict[str, int]
) -> None:
    assert renewed(session, 7, answered_at, TERMS) == Session(15, holds)


def test_nothing_may_be_reported_from_the_deadline_on_or_in_another_epoch() -> None:
    session = Session(8, {"c1": 7})
    assert session.may_report("c1", 7, 7.9)
    assert not session.may_report("c1", 7, 8)
    assert not session.may_report("c1", 6, 1)
    assert not session.may_report("c2", 7, 1)


@pytest.mark.parametrize(("hold", "lease", "renew"), [(12, 12, 2), (8, 12, 8), (8, 12, 0)])
def test_terms_that_would_not_be_safe_are_refused(hold: float, lease: float, renew: float) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Terms(hold_s=hold, lease_s=lease, renew_s=renew)
