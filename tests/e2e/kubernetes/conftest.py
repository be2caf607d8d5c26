"""Three real stores, one of two nodes, for all tests of this directory: starting them takes a minute.

The tests follow one another as the life of these stores does, and each leaves them running a release.
``STOREFLEET_TEST_AGENT_IMAGE`` names the archive of an image to test instead of this checkout's."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kubernetes_stage import KubernetesOptions, KubernetesStage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesStage]:
    directory = tmp_path_factory.mktemp("kubernetes") / "stage"
    image = os.environ.get("STOREFLEET_TEST_AGENT_IMAGE")
    options = KubernetesOptions(
        name=f"e2e-{os.getpid()}", directory=directory, image=Path(image) if image else None
    )
    with KubernetesStage(options, print) as opened:
        yield opened
