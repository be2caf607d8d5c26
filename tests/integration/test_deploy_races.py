"""Deployments made and observed at the same moment, in both databases."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest

from controller.adapters.database import Database, migrate, open_database
from controller.domain.deployment import State
from controller.domain.fleet import Store
from controller.domain.model import Model
from controller.domain.records import Deployment, ReleaseRecord
from controller.errors import ConflictError

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def database(database_url: str, now: datetime) -> Iterator[Database]:
    database = open_database(database_url)
    migrate(database)
    with database.writing() as repositories:
        repositories.stores.add(Store("berlin-01", created_at=now))
        repositories.models.add(Model(DIGEST, "shelf", "1", "onnx", 1, {}, now, "t", {}))
        repositories.releases.add(ReleaseRecord("v1", DIGEST, "agent:1", now))
    yield database
    database.close()


def deployment(now: datetime, generation: int) -> Deployment:
    return Deployment(uuid4(), "berlin-01", "v1", "present", generation, State.PENDING, "", "t", now)


def test_an_observation_made_while_a_deployment_is_superseded_does_not_revive_it(
    database: Database, now: datetime
) -> None:
    old, new = deployment(now, 1), deployment(now, 2)
    with database.writing() as repositories:
        repositories.deployments.supersede([old])

    def observe() -> None:
        """As the reconciler writes down what it saw."""
        with database.writing() as repositories:
            before = repositories.deployments.get(old.rollout_id)
            assert before is not None
            if before.superseded_by is None:
                repositories.deployments.save(replace(before, state=State.READY))

    with ThreadPoolExecutor(1) as pool:
        with database.writing() as repositories:
            repositories.deployments.save(replace(old, state=State.SUPERSEDED))
            repositories.deployments.supersede([new])
            observed = pool.submit(observe)
            time.sleep(0.5)
        observed.result(10)
    with database.reading() as repositories:
        found = repositories.deployments.get(old.rollout_id)
    assert found is not None
    assert (found.state, found.superseded_by) == (State.SUPERSEDED, new.rollout_id)


def test_of_two_deployments_at_once_one_wins_and_the_other_is_told(database: Database, now: datetime) -> None:
    with database.writing() as repositories:
        repositories.deployments.supersede([deployment(now, 1)])
    with database.writing() as repositories:
        repositories.deployments.supersede([deployment(now, 2)])
    with (
        pytest.raises(ConflictError, match="store berlin-01: another deployment"),
        database.writing() as repositories,
    ):
        repositories.deployments.supersede([deployment(now, 2)])
    with database.reading() as repositories:
        (current,) = repositories.deployments.current()
    assert current.generation == 2
