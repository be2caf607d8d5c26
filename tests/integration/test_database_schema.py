"""The schema and the repositories, the same in SQLite and PostgreSQL."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, text

from controller.adapters.database import Database, migrate, open_database
from controller.adapters.database.migrate import alembic_config
from controller.adapters.database.tables import events, metadata
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.journal import AuditEntry
from controller.domain.model import Model
from controller.domain.page import PageRequest
from controller.domain.records import Deployment, ReleaseRecord
from controller.errors import ConflictError, InvalidError, NotFoundError, PermanentError, TransientError

T0 = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    migrate(database)
    yield database
    database.close()


def test_migrations_lead_from_empty_to_what_the_code_expects(database: Database) -> None:
    with database.connection(writing=False) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrations_lead_back_to_empty(database: Database) -> None:
    config = alembic_config()
    with database.connection(writing=True) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with database.connection(writing=False) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_migrating_again_changes_nothing(database: Database) -> None:
    before, after = migrate(database)
    assert before == after


def test_controllers_that_start_together_migrate_once(database_url: str) -> None:
    results: list[tuple[str | None, str]] = []

    def start() -> None:
        database = open_database(database_url)
        results.append(migrate(database))
        database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(before is None for before, _ in results) == [False, False, False, True]


def test_a_newer_schema_is_refused_with_the_remedy(database: Database) -> None:
    with database.connection(writing=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    with pytest.raises(PermanentError, match="start the version that wrote it"):
        migrate(database)


def test_an_unreachable_database_is_a_transient_error_without_its_password() -> None:
    database = open_database("postgresql://user:hunter2@127.0.0.1:9/nothing")
    with pytest.raises(TransientError) as caught, database.reading():
        pass
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(database)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://localhost/x", "sqlite+nothing:///x"])
def test_an_unusable_url_is_refused(url: str) -> None:
    if url.startswith("sqlite"):
        open_database(url).close()
        return
    with pytest.raises(PermanentError):
        open_database(url)


def test_times_come_back_as_the_same_instant_in_utc(database: Database) -> None:
    local = T0.astimezone(timezone(timedelta(hours=5, minutes=30))).replace(microsecond=123456)
    with database.writing() as repositories:
        repositories.stores.add(Store("a", created_at=local))
        found = repositories.stores.get("a")
    assert found is not None
    assert found.created_at == local
    assert str(found.created_at).endswith("+00:00")


def test_a_block_that_raises_stores_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.writing() as repositories:
        repositories.stores.add(Store("a", created_at=T0))
        repositories.audit.add(AuditEntry(T0, "admin", "store.register", "a"))
        raise RuntimeError
    with database.reading() as repositories:
        assert repositories.stores.get("a") is None
        assert repositories.audit.page(PageRequest()).items == ()


def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(ConflictError), database.writing() as repositories:
        repositories.releases.add(ReleaseRecord("r1", DIGEST, "image", T0))


def test_event_ids_and_places_in_a_stream_are_unique(database: Database) -> None:
    stream = uuid4()

    def row(**changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = dict.fromkeys(("store", "device", "camera", "type", "kind"), "a")
        values |= dict.fromkeys(("event_time", "record_time", "received_at"), T0)
        values |= {"event_id": uuid4(), "stream_id": stream, "sequence": 1, "historical": False}
        values |= {"model_version": "1", "model_digest": DIGEST, "data": {}}
        return values | changes

    first = row()
    with database.writing() as repositories:
        repositories.stores.add(Store("a", created_at=T0))
    for second in (row(event_id=first["event_id"], sequence=2), row()):
        with pytest.raises(ConflictError), database.connection(writing=True) as connection:
            connection.execute(insert(events), [first, second])


def test_a_listing_is_paged_without_repeats_while_rows_come_in(database: Database) -> None:
    with database.writing() as repositories:
        for n in range(7):
            repositories.stores.add(Store(f"s{n}", created_at=T0))
    seen: list[str] = []
    cursor = None
    while True:
        with database.writing() as repositories:
            page = repositories.stores.page(PageRequest(3, cursor))
            if len(seen) == 3:
                repositories.stores.add(Store("a-new", created_at=T0))
        seen += [store.name for store in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"s{n}" for n in range(7)]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "bnVsbA", "é", "W10"])
def test_a_made_up_cursor_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidError), database.reading() as repositories:
        repositories.deployments.page(None, PageRequest(10, cursor))


def test_a_store_has_one_current_configuration_and_may_go_back(database: Database) -> None:
    versions = [StoreConfigVersion("a", "sha256:" + d * 64, f"yaml {d}", "admin", T0) for d in "12"]
    with database.writing() as repositories:
        repositories.stores.add(Store("a", created_at=T0))
        for version in (*versions, versions[0]):
            repositories.configs.put(version)
            assert repositories.configs.current("a") == version
        with pytest.raises(NotFoundError):
            repositories.configs.put(StoreConfigVersion("b", DIGEST, "", "admin", T0))


def test_a_new_deployment_supersedes_the_one_before(database: Database) -> None:
    def deployment(generation: int) -> Deployment:
        return Deployment(
            uuid4(),
            "a",
            "r1",
            "present",
            generation,
            "pending",
            "",
            "admin",
            T0 + timedelta(seconds=generation),
        )

    model = Model(DIGEST, "shelf", "1", "onnx", 10, {"payload": "x"}, T0)
    first, second = deployment(1), deployment(2)
    with database.writing() as repositories:
        repositories.stores.add(Store("a", created_at=T0))
        repositories.models.add(model)
        repositories.models.add(model)
        with pytest.raises(ConflictError):
            repositories.models.add(Model("sha256:" + "b" * 64, "shelf", "1", "onnx", 10, {}, T0))
        repositories.releases.add(ReleaseRecord("r1", DIGEST, "image", T0, settings={"A": "1"}))
        repositories.deployments.supersede([first])
        repositories.deployments.supersede([second])
        # The reconciler was still at work on the first one.
        repositories.deployments.save(first)
    with database.reading() as repositories:
        assert repositories.deployments.current() == [second]
        old, new = (
            repositories.deployments.get(first.rollout_id),
            repositories.deployments.get(second.rollout_id),
        )
        listed = repositories.deployments.page("a", PageRequest()).items
    assert old is not None
    assert old.superseded_by == second.rollout_id
    assert new == second
    assert [d.generation for d in listed] == [2, 1]


def test_writers_of_many_threads_do_not_fail_each_other(database: Database) -> None:
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            for n in range(5):
                with database.writing() as repositories:
                    repositories.audit.add(AuditEntry(T0, "admin", "test", f"{number}-{n}"))
        except TransientError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.reading() as repositories:
        assert len(repositories.audit.page(PageRequest()).items) == 40
    assert failures == []


def fleet_of(database: Database, stores: int) -> list[Deployment]:
    """Stores ``s0``, ``s1`` … with a deployment each."""
    made = [
        Deployment(uuid4(), f"s{n}", "r1", "present", 1, "pending", "", "admin", T0) for n in range(stores)
    ]
    with database.writing() as repositories:
        repositories.models.add(Model(DIGEST, "shelf", "1", "onnx", 10, {"payload": "x"}, T0))
        repositories.releases.add(ReleaseRecord("r1", DIGEST, "image", T0))
        for deployment in made:
            repositories.stores.add(Store(deployment.store, created_at=T0))
            repositories.deployments.supersede([deployment])
    return made


def look(database: Database) -> tuple[object, set[tuple[str, Any]]]:
    with database.reading() as repositories:
        revision = repositories.deployments.revision()
        return revision, {(one.store, one.rollout_id) for one in repositories.deployments.wanted()}


def test_revision_changes_with_every_deployment_and_with_nothing_else(database: Database) -> None:
    empty, nothing = look(database)
    made = fleet_of(database, 3)
    first, wanted = look(database)
    assert (nothing, wanted) == (set(), {(d.store, d.rollout_id) for d in made})
    with database.writing() as repositories:
        repositories.deployments.save(replace(made[0], state="ready", detail={"nodes": 1}))
    assert look(database) == (first, wanted)
    again = replace(made[1], rollout_id=uuid4(), generation=2)
    with database.writing() as repositories:
        repositories.deployments.supersede([again])
    second, wanted = look(database)
    assert (again.store, again.rollout_id) in wanted
    assert len({empty, first, second}) == 3


def test_deployment_that_is_committed_late_is_not_overlooked(postgres_url: str) -> None:
    """It began first and has the older time, but a later one was committed, and seen, before it."""
    database = open_database(postgres_url)
    migrate(database)
    made = fleet_of(database, 2)
    early = replace(made[0], rollout_id=uuid4(), generation=2, created_at=T0 + timedelta(seconds=1))
    late = replace(made[1], rollout_id=uuid4(), generation=2, created_at=T0 + timedelta(seconds=2))
    with database.writing() as slow:
        slow.deployments.supersede([early])
        with database.writing() as quick:
            quick.deployments.supersede([late])
        seen, wanted = look(database)
        assert (early.store, early.rollout_id) not in wanted
    after, wanted = look(database)
    assert after != seen
    assert (early.store, early.rollout_id) in wanted
    database.close()
