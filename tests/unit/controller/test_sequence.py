"""The sequence check: what is in, what is missing, whatever the order of arrival."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.sequence import MAX_GAPS, Gap, Stream, advance, give_up

T0 = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
T1 = T0 + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("arrived", "highest", "missing", "committed"),
    [
        pytest.param([], 0, [], 0, id="nothing"),
        pytest.param([1, 2, 3], 3, [], 3, id="in order"),
        pytest.param([3, 1, 2, 2], 3, [], 3, id="out of order and twice"),
        pytest.param([1, 4], 4, [(2, 3)], 1, id="gap"),
        pytest.param([5], 5, [(1, 4)], 0, id="start missing"),
        pytest.param([1, 3, 5], 5, [(2, 2), (4, 4)], 1, id="two gaps"),
        pytest.param([10**15], 10**15, [(1, 10**15 - 1)], 0, id="a huge jump costs one gap"),
    ],
)
def test_a_new_stream(
    arrived: list[int], highest: int, missing: list[tuple[int, int]], committed: int
) -> None:
    stream = advance(Stream(), arrived, T0)
    assert (stream.highest, [(g.first, g.last) for g in stream.gaps]) == (highest, missing)
    assert stream.committed == committed


@pytest.mark.parametrize(
    ("late", "missing"),
    [
        pytest.param([2, 3, 4], [], id="closed"),
        pytest.param([2], [(3, 4)], id="from below"),
        pytest.param([4], [(2, 3)], id="from above"),
        pytest.param([3], [(2, 2), (4, 4)], id="split"),
    ],
)
def test_what_is_left_of_a_gap_keeps_its_age(late: list[int], missing: list[tuple[int, int]]) -> None:
    stream = advance(advance(Stream(), [1, 5], T0), late, T1)
    assert list(stream.gaps) == [Gap(first, last, T0) for first, last in missing]


def test_only_a_rising_watermark_counts_as_progress() -> None:
    stream = advance(Stream(), [1, 3], T0)
    assert advance(stream, [5], T1).advanced_at == T0
    assert advance(stream, [2], T1).advanced_at == T1


@given(st.lists(st.lists(st.integers(1, 40), max_size=8), max_size=12))
def test_any_arrival_in_any_batches_gives_the_same_as_the_set_of_numbers(batches: list[list[int]]) -> None:
    stream = Stream()
    for index, batch in enumerate(batches):
        after = advance(stream, batch, T0 + timedelta(seconds=index))
        assert after.committed >= stream.committed
        stream = after
    seen = {number for batch in batches for number in batch}
    highest = max(seen, default=0)
    missing = {n for gap in stream.gaps for n in range(gap.first, gap.last + 1)}
    assert stream.highest == highest
    assert missing == set(range(1, highest + 1)) - seen
    assert list(stream.gaps) == sorted(stream.gaps, key=lambda gap: gap.first)
    assert stream.committed == next(n for n in range(highest + 2) if n + 1 not in seen)


@pytest.mark.parametrize(
    ("oldest_held", "age_s", "lost"),
    [
        pytest.param(4, 31, [(1, 3)], id="forgotten by the device"),
        pytest.param(4, 29, [], id="too young to give up"),
        pytest.param(3, 31, [], id="the device still has its end"),
        pytest.param(9, 31, [(1, 3), (6, 7)], id="both"),
    ],
)
def test_only_what_the_device_no_longer_has_is_given_up(
    oldest_held: int, age_s: int, lost: list[tuple[int, int]]
) -> None:
    stream = advance(Stream(), [4, 5, 8], T0)
    after, gone = give_up(stream, oldest_held, T0 + timedelta(seconds=age_s), 30.0)
    assert [(gap.first, gap.last) for gap in gone] == lost
    assert set(after.gaps) == set(stream.gaps) - set(gone)
    assert after.committed == (after.gaps[0].first - 1 if after.gaps else 8)


def test_a_stream_full_of_holes_stays_small_and_still_ends_complete() -> None:
    stream = advance(Stream(), range(2, 10 * MAX_GAPS, 2), T0)
    stream = advance(stream, [10 * MAX_GAPS + 5, MAX_GAPS - 1], T0)
    assert len(stream.gaps) == MAX_GAPS
    assert stream.committed == 0
    again = advance(stream, range(1, 10 * MAX_GAPS + 6), T0)
    assert (again.gaps, again.committed) == ((), 10 * MAX_GAPS + 5)
