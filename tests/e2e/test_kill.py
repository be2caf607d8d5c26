"""``kill -9`` of agents, controller and broker at random moments, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import chaos
from storefleet.demo.stage import Stage, StageOptions


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def busy_stage(tmp_path: Path, database_url: str | None) -> Iterator[Stage]:
    options = StageOptions(1, 2, 303, 3.0, tmp_path / "stage", database_url)
    with Stage(options, print) as stage:
        stage.register_stores()
        stage.deploy("v2", stage.stores)
        stage.await_agents()
        yield stage


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_comes_twice(busy_stage: Stage) -> None:
    figures = chaos.run(busy_stage, duration_s=40, seed=303, console=Console())
    assert sum(figures["faults"].values()) >= 3
    assert (figures["lost"], figures["duplicated"], figures["sequence_gaps"]) == (0, 0, 0)
    assert figures["events_in_db"] > 0
