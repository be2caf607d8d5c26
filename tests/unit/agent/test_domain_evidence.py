"""How many looks make a belief."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import evidence
from agent.domain.evidence import Evidence, Seen


def seen(*counts: int) -> tuple[Seen, ...]:
    return tuple(Seen(0.2 * i, count, count) for i, count in enumerate(counts))


@pytest.mark.parametrize(
    ("counts", "belief", "expected"),
    [
        pytest.param([5] * 10, None, 5, id="first belief"),
        pytest.param([5] * 7 + [4] * 3, None, 5, id="first belief despite misses"),
        pytest.param([5] * 3 + [4] * 7, None, 5, id="first belief of an item at the back"),
        pytest.param([5] * 10, 5, 5, id="held"),
        pytest.param([3] * 10, 5, 3, id="fewer"),
        pytest.param([3] * 8 + [5, 5], 5, None, id="fewer, but no longer"),
        pytest.param([3, 3, 5, 3, 3, 3, 3, 5, 3, 3], 5, 3, id="fewer, with two flickers"),
        pytest.param([3, 5, 3, 5, 3, 3, 5, 3, 3, 3], 5, 5, id="fewer in seven of ten is not clear enough"),
        pytest.param([5, 3, 3, 3, 3, 3, 3, 3, 3, 3], 5, None, id="fewer, but not from the beginning"),
        pytest.param([4] * 5 + [3] * 5, 5, None, id="fewer, and still falling"),
        pytest.param([6] * 10, 5, 6, id="more"),
        pytest.param([6, 5, 6, 5, 6, 6, 5, 6, 5, 6], 5, 6, id="more in six of ten"),
        pytest.param([6, 5, 5, 6, 5, 5, 6, 5, 5, 6], 5, 5, id="more in four of ten is not enough"),
        pytest.param([5, 6, 6, 6, 6, 6, 6, 6, 6, 6], 5, None, id="more, but not from the beginning"),
        pytest.param([6] * 5 + [8] * 5, 5, None, id="more, and still rising"),
    ],
)
def test_believed(counts: list[int], belief: int | None, expected: int | None) -> None:
    assert evidence.believed(seen(*counts), belief) == expected


@pytest.mark.parametrize(
    ("share", "at_most", "at_least"),
    [(0.0, 1, 5), (0.2, 1, 5), (0.5, 3, 3), (0.6, 3, 3), (0.8, 4, 2), (1.0, 5, 1)],
)
def test_ranks(share: float, at_most: int, at_least: int) -> None:
    counts = [3, 1, 5, 2, 4]
    assert evidence.at_most(counts, share) == at_most
    assert evidence.at_least(counts, share) == at_least


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.01, 1))
def test_ranks_keep_their_promise(counts: list[int], share: float) -> None:
    low, high = evidence.at_most(counts, share), evidence.at_least(counts, share)
    assert sum(c <= low for c in counts) >= (share - 0.001) * len(counts)
    assert sum(c >= high for c in counts) >= (share - 0.001) * len(counts)


def test_a_window_is_empty_until_it_spans_the_dwell() -> None:
    have = Evidence()
    lengths = []
    for i in range(20):
        have = evidence.add(have, 0.2 if i else 0.0, Seen(0, 1, 1), 6.0)
        lengths.append(len(evidence.window(have, 3.0)))
    assert lengths == [0] * 15 + [16] * 5


def test_two_looks_are_no_evidence_however_far_apart() -> None:
    have = evidence.add(Evidence(), 0.0, Seen(0, 1, 1), 6.0)
    have = evidence.add(have, 10.0, Seen(0, 1, 1), 6.0)
    assert evidence.window(have, 3.0) == ()


@given(st.lists(st.floats(0, 5), max_size=600))
def test_memory_is_bounded_whatever_the_times(elapsed: list[float]) -> None:
    have = Evidence()
    for step in elapsed:
        have = evidence.add(have, step, Seen(0, 1, 1), 6.0)
        assert len(have.looks) <= evidence.MAX_LOOKS + evidence.MIN_LOOKS
        assert list(have.looks) == sorted(have.looks, key=lambda look: look.clock)
