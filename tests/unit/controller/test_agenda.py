"""The order in which stores are looked at."""

from hypothesis import given
from hypothesis import strategies as st

from controller.agenda import Agenda


def taken(agenda: Agenda, now: float, *, suspect: bool = False) -> list[str]:
    found = []
    while (store := agenda.take(now, suspect=suspect)) is not None:
        found.append(store)
    return found


def test_earliest_comes_first_and_nothing_before_its_time() -> None:
    agenda = Agenda()
    for store, due in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        agenda.put(store, due, suspect=False)
    assert taken(agenda, 2.5) == ["a", "b"]
    assert len(agenda) == 1
    assert taken(agenda, 3.0) == ["c"]


def test_suspects_do_not_stand_in_the_way() -> None:
    agenda = Agenda()
    agenda.put("ill", 0.0, suspect=True)
    agenda.put("well", 1.0, suspect=False)
    assert taken(agenda, 5.0) == ["well"]
    assert taken(agenda, 5.0, suspect=True) == ["ill"]


def test_putting_again_moves_and_discarding_removes() -> None:
    agenda = Agenda()
    agenda.put("a", 1.0, suspect=False)
    agenda.put("a", 9.0, suspect=True)
    agenda.put("b", 1.0, suspect=False)
    agenda.discard("b")
    assert taken(agenda, 5.0) == []
    assert "a" in agenda
    assert taken(agenda, 9.0, suspect=True) == ["a"]


def test_stores_that_are_moved_over_and_over_take_no_memory() -> None:
    agenda = Agenda()
    for number in range(10_000):
        agenda.put(f"s{number % 10}", 1e9 + number, suspect=False)
    assert sum(len(queue) for queue in agenda._queues) < 100


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 20), st.booleans(), st.booleans()), max_size=60
    )
)
def test_agenda_behaves_like_a_sorted_table(steps: list[tuple[str, int, bool, bool]]) -> None:
    agenda, table = Agenda(), dict[str, tuple[int, int, bool]]()
    for number, (store, when, suspect, put) in enumerate(steps):
        if put:
            agenda.put(store, when, suspect=suspect)
            table[store] = (when, number, suspect)
        else:
            due = [(at, n, s) for s, (at, n, kind) in table.items() if kind == suspect and at <= when]
            expected = min(due)[2] if due else None
            assert agenda.take(when, suspect=suspect) == expected
            table.pop(expected or "", None)
        assert len(agenda) == len(table)
