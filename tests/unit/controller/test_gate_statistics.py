"""The arithmetic under the gates, against published tables, brute force and its own symmetries."""

import random
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.rollout.statistics import (
    Placebo,
    holm,
    kernel_tail,
    robust_scale,
    slope_through_zero,
    student_tail,
    theil_sen,
    theil_sen_lower,
)


@pytest.mark.parametrize(
    ("t", "df", "tail"),
    [(6.314, 1, 0.05), (2.015, 5, 0.05), (2.764, 10, 0.01), (4.781, 9, 0.0005), (1.653, 200, 0.05)],
)
def test_student_tail_agrees_with_the_tables(t: float, df: int, tail: float) -> None:
    assert student_tail(t, df) == pytest.approx(tail, rel=2e-3)
    assert student_tail(-t, df) == pytest.approx(1 - tail, rel=2e-3)


@given(st.floats(-60, 60))
def test_kernel_is_student_with_four_degrees_of_freedom(t: float) -> None:
    assert kernel_tail(t) == pytest.approx(student_tail(t, 4), rel=1e-6, abs=1e-12)


def test_student_needs_degrees_of_freedom() -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_tail(1.0, 0)


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= 1
        assert adjusted <= max(min(1.0, len(p_values) * q) for q in p_values if q <= p) + 1e-12


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.randoms())
def test_holm_does_not_depend_on_the_order(p_values: list[float], chance: random.Random) -> None:
    order = list(range(len(p_values)))
    chance.shuffle(order)
    mixed = holm([p_values[i] for i in order])
    assert [mixed[order.index(i)] for i in range(len(order))] == pytest.approx(holm(p_values))


def test_slope_survives_wrong_points_and_its_bound_is_lower() -> None:
    line = [(x / 10, 5.0 * x / 10) for x in range(12)]
    wild = [(x, y + (400 if i in (3, 7) else 0)) for i, (x, y) in enumerate(line)]
    slope, least = theil_sen(wild), theil_sen_lower(wild)
    assert slope == pytest.approx(5.0)
    assert least is not None
    assert least <= 5.0
    assert theil_sen([(1.0, 2.0), (1.0, 3.0)]) is None
    assert theil_sen_lower(line[:4]) is None


def test_a_slope_of_noise_is_surely_above_nothing_in_one_of_a_hundred() -> None:
    chance = random.Random(5)
    sure = 0
    for _ in range(400):
        least = theil_sen_lower([(float(x), chance.gauss(0, 1)) for x in range(10)])
        assert least is not None
        sure += least > 0
    assert sure <= 12


def test_robust_scale_is_a_standard_deviation() -> None:
    chance = random.Random(1)
    values = [chance.gauss(0, 3) for _ in range(5000)]
    assert robust_scale(values) == pytest.approx(3, rel=0.05)
    assert robust_scale([*values, *[1e6] * 50]) == pytest.approx(3, rel=0.07)
    assert robust_scale([]) == 0


def test_slope_through_zero() -> None:
    assert slope_through_zero([(1, 2), (2, 4), (-1, -2)]) == 2
    assert slope_through_zero([(0, 1)]) == 0


@pytest.mark.parametrize("n", [1, 2, 4, 9])
def test_sums_are_as_rare_as_a_bootstrap_says(n: int) -> None:
    chance = random.Random(n)
    values = [chance.gauss(0, 1) if chance.random() < 0.95 else chance.gauss(0, 5) for _ in range(1500)]
    placebo = Placebo(values, 60)
    sums = sorted(sum(chance.choices(values, k=n)) for _ in range(20_000))
    for share in (0.9, 0.99):
        total = sums[int(share * len(sums))]
        assert placebo.tail(total, n) == pytest.approx(1 - share, rel=0.5)
        assert placebo.below(total, n) == pytest.approx(share, rel=0.05)


def test_what_was_never_seen_is_rare_but_not_impossible() -> None:
    chance = random.Random(3)
    placebo = Placebo([chance.gauss(0, 1) for _ in range(1000)], 60)
    assert 1e-9 < placebo.tail(12.0, 1) < 1e-3
    assert placebo.tail(12.0, 1) < placebo.tail(6.0, 1) < placebo.tail(3.0, 1)


def test_many_values_are_near_students_distribution() -> None:
    chance = random.Random(3)
    placebo = Placebo([chance.gauss(0, 1) for _ in range(1000)], 200)
    assert placebo.tail(1.96 * sqrt(50), 50) == pytest.approx(0.025, abs=0.012)
