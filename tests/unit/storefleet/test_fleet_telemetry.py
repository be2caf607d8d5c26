"""The simulated fleet has what makes real counts hard, and releases that differ as they should."""

from uuid import UUID

import numpy as np
import pytest

from benchmarks.gates import Trial, figures, releases
from storefleet.fleet_sim.telemetry import SKUS, STEPS_A_DAY, Effect, Fleet, step_of, time_of

DAY = range(12 * STEPS_A_DAY, 13 * STEPS_A_DAY)
"""A Saturday."""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet(7, 30)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return Trial(3, 20, 3)


def test_the_same_seed_is_the_same_fleet(fleet: Fleet) -> None:
    again = Fleet(7, 30)
    assert fleet.buckets(3, DAY) == again.buckets(3, DAY)
    assert fleet.buckets(3, DAY) != Fleet(8, 30).buckets(3, DAY)


def test_quarters_of_an_hour_vary_far_more_than_poisson(fleet: Fleet) -> None:
    seen = fleet.detections[DAY.start : DAY.stop][fleet.frames[DAY.start : DAY.stop] > 0]
    counts = seen[:, seen.mean(axis=0).argmax()]
    assert counts.var() > 50 * counts.mean()


def test_shops_close_run_out_and_have_broken_cameras(fleet: Fleet) -> None:
    night = fleet.frames[DAY.start + 4]
    noon = fleet.frames[2 * STEPS_A_DAY + 48]  # a Wednesday
    assert not night.any()
    assert noon.any()
    assert (fleet.unknown == 1.0).any()
    assert all((fleet.events[:, :, kind] > 0).any() for kind in range(4))


def test_a_blind_model_sees_all_but_one_product(fleet: Fleet) -> None:
    fine = fleet.buckets(2, DAY)
    bad = fleet.buckets(2, DAY, UUID(int=5), "m", Effect(recall=0.0, sku=0))
    assert sum(b.detections.get(SKUS[0], 0) for b in bad) == 0
    for sku in SKUS[1:]:
        assert [b.detections.get(sku) for b in fine] == [b.detections.get(sku) for b in bad]


def test_steps_are_quarters_of_an_hour() -> None:
    assert step_of(time_of(1234)) == 1234


@pytest.mark.parametrize(
    ("release", "verdict", "gate"),
    [("3x slower", "caught", "performance"), ("leaks memory", "caught", "performance")],
)
def test_the_benchmark_tells_releases_apart(trial: Trial, release: str, verdict: str, gate: str) -> None:
    outcome = trial.run(release, releases(trial.fleet)[release])
    assert (outcome.verdict, outcome.gate) == (verdict, gate)
    row = figures([outcome])[release]
    assert (row["caught"], row["passed"], row["by_gate"]) == (1.0, 0.0, {gate: 1})
    assert np.isfinite(row["time_to_detect_min_p50"])
