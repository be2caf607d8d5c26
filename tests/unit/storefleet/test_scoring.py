import pytest

from storefleet.scoring import Expected, Observed, nearest_rank, score


def expect(kind: str = "low_stock", time: float = 100.0, zone: str = "z1") -> Expected:
    return Expected("s", zone, kind, time, changed_at=time - 5, observable_at=time - 3)


def observe(kind: str = "low_stock", time: float = 100.0, zone: str = "z1") -> Observed:
    return Observed("s", zone, kind, time)


@pytest.mark.parametrize(
    ("expected", "observed", "matched", "missed", "false"),
    [
        pytest.param([expect()], [observe(time=101)], 1, 0, 0, id="in time"),
        pytest.param([expect()], [observe(time=94.5)], 1, 0, 0, id="at the change, within clock margin"),
        pytest.param([expect()], [observe(time=93.0)], 0, 1, 1, id="before it happened"),
        pytest.param([expect()], [observe(time=111)], 0, 1, 1, id="too late"),
        pytest.param([expect()], [observe(zone="z2")], 0, 1, 1, id="another zone"),
        pytest.param([expect()], [observe(kind="restocked")], 0, 1, 1, id="another kind"),
        pytest.param([expect()], [observe(), observe(time=102)], 1, 0, 1, id="second report is false"),
        pytest.param([expect(), expect(time=103)], [observe(), observe(time=104)], 2, 0, 0, id="two changes"),
        pytest.param([], [], 0, 0, 0, id="nothing"),
    ],
)
def test_matching(
    expected: list[Expected], observed: list[Observed], matched: int, missed: int, false: int
) -> None:
    result = score(expected, observed)
    assert (len(result.matches), len(result.missed), len(result.false)) == (matched, missed, false)


def test_ratios_are_none_without_evidence() -> None:
    assert score([], []).precision is None
    assert score([], []).recall is None
    assert score([expect()], []).recall == 0.0


def test_time_to_detect_runs_from_the_unobstructed_view() -> None:
    result = score([expect(time=100.0)], [observe(time=101.0)])
    assert result.time_to_detect(0.5) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("values", "quantile", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), (list(range(1, 101)), 0.95, 95)],
)
def test_nearest_rank(values: list[float], quantile: float, expected: float | None) -> None:
    assert nearest_rank(values, quantile) == expected
