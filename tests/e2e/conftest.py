"""The demo's stage for end-to-end tests: real Mosquitto, RTSP cameras, controller and agents."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storefleet.demo.stage import Stage, StageOptions


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One store with two cameras, watched by an agent of release v2."""
    directory: Path = tmp_path_factory.mktemp("stage") / "run"
    options = StageOptions(stores=1, cameras=2, seed=101, activity=2.0, directory=directory)
    with Stage(options, print) as opened:
        opened.register_stores()
        opened.deploy("v2", opened.stores)
        opened.await_agents()
        yield opened
