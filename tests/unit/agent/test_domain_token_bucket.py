import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.token_bucket import BURST_S, full, take


@pytest.mark.parametrize(
    ("rate", "takes", "wait_s"),
    [
        (0, [(0.0, 10**9)], 0.0),
        (1000, [(0.0, 250)], 0.0),
        (1000, [(0.0, 1250)], 1.0),
        (1000, [(0.0, 250), (0.1, 100)], 0.0),
        (1000, [(0.0, 250), (0.1, 200)], 0.1),
        (1000, [(0.0, 0), (100.0, 350)], 0.1),
        (1000, [(5.0, 250), (4.0, 100)], 0.1),
    ],
    ids=["no-limit", "burst", "beyond-burst", "refilled", "half-refilled", "never-over-full", "clock-back"],
)
def test_pause_after_the_last_take(rate: float, takes: list[tuple[float, int]], wait_s: float) -> None:
    bucket = full(rate, takes[0][0])
    waited = 0.0
    for now, amount in takes:
        bucket, waited = take(bucket, amount, now)
    assert waited == pytest.approx(wait_s)


@given(
    rate=st.integers(1_000, 10**7),
    takes=st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 0.5)), min_size=1, max_size=50),
)
def test_who_waits_as_told_never_exceeds_the_rate(rate: int, takes: list[tuple[int, float]]) -> None:
    now, total = 0.0, 0
    bucket = full(rate, now)
    for amount, pause in takes:
        bucket, wait_s = take(bucket, amount, now)
        total += amount
        now += wait_s + pause
    assert total <= rate * (now + BURST_S) + 1
