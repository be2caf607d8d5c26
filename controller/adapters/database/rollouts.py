"""Rollouts, what they did with each store, and what their gates said."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, case, delete, func, insert, select, tuple_, update

from controller.adapters.database.rollout_tables import (
    rollout_stores,
    rollout_verdicts,
    rollouts,
    store_deferrals,
)
from controller.adapters.database.rows import Order, as_dict, chunks, page, upsert
from controller.adapters.database.tables import deployments
from controller.domain.page import Page, PageRequest
from controller.domain.rollout.records import Deferral, Judged, RolloutSummary
from controller.domain.rollout.spec import RolloutSpec
from controller.domain.rollout.state import (
    Approval,
    GateVerdict,
    Rollout,
    Status,
    StoreRecord,
    Verdict,
    WaveState,
)
from controller.errors import ConflictError

SLOT_S = 60
"""Of a gate's verdicts one a minute is kept."""
KEEP_SLOTS = 1440
"""A day of them."""


class Rollouts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, rollout: Rollout) -> None:
        if self._connection.scalar(select(rollouts.c.name).where(rollouts.c.name == rollout.name)):
            raise ConflictError(f"rollout {rollout.name} exists already")
        values = _values(rollout) | {"name": rollout.name, "settled": False}
        self._connection.execute(insert(rollouts), values)

    def get(self, name: str, *, locked: bool = False) -> Rollout | None:
        query = select(rollouts).where(rollouts.c.name == name)
        found = self._several(query.with_for_update() if locked else query)
        return found[0] if found else None

    def spec(self, name: str) -> RolloutSpec | None:
        found = self._connection.scalar(select(rollouts.c.spec).where(rollouts.c.name == name))
        return None if found is None else RolloutSpec.model_validate(found)

    def save(self, rollout: Rollout, expected_revision: int, *, settled: bool = False) -> None:
        values = _values(rollout) | {"revision": expected_revision + 1, "settled": settled}
        done = self._connection.execute(
            update(rollouts)
            .where(rollouts.c.name == rollout.name, rollouts.c.revision == expected_revision)
            .values(values)
        )
        if done.rowcount == 0:
            raise _changed(rollout.name)

    def lock(self, name: str, expected_revision: int) -> None:
        query = select(rollouts.c.revision).where(rollouts.c.name == name).with_for_update()
        if self._connection.scalar(query) != expected_revision:
            raise _changed(name)

    def unsettled(self) -> list[Rollout]:
        query = select(rollouts).where(rollouts.c.settled.is_(False), rollouts.c.status != Status.DRAFT)
        return self._several(query.order_by(rollouts.c.name))

    def statuses(self, names: Iterable[str]) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for chunk in chunks(set(names)):
            query = select(rollouts.c.name, rollouts.c.status).where(rollouts.c.name.in_(chunk))
            found.update((row.name, Status(row.status)) for row in self._connection.execute(query))
        return found

    def withdrawn(self) -> frozenset[str]:
        columns = rollouts.c
        newest = func.row_number().over(
            partition_by=columns.release, order_by=(columns.started_at.desc(), columns.name.desc())
        )
        ranked = (
            select(columns.release, columns.status, newest.label("rank"))
            .where(columns.started_at.is_not(None))
            .subquery()
        )
        turned = (Status.ABORTED, Status.ROLLED_BACK, Status.ROLLING_BACK)
        query = select(ranked.c.release).where(ranked.c.rank == 1, ranked.c.status.in_(turned))
        return frozenset(self._connection.scalars(query))

    def page(self, status: Status | None, request: PageRequest) -> Page[RolloutSummary]:
        query: Select[Any] = select(rollouts)
        if status is not None:
            query = query.where(rollouts.c.status == status)
        order: Order = [(rollouts.c.created_at, datetime.fromisoformat), (rollouts.c.name, str)]
        found = page(self._connection, query, request, order, lambda row: row, descending=True)
        counts = self._counts([row.name for row in found.items])
        items = tuple(_summary(row, counts.get(row.name, {})) for row in found.items)
        return Page(items, found.next_cursor, found.end_cursor)

    def change(self, *, stores: bool = True) -> object:
        latest = select(func.count(), func.sum(rollouts.c.revision)).select_from(rollouts)
        if not stores:
            return tuple(self._connection.execute(latest).one())
        deferred = select(func.count(), func.max(store_deferrals.c.at)).select_from(store_deferrals)
        states = (
            select(
                deployments.c.state,
                func.count(),
                func.sum(deployments.c.generation),
                func.max(deployments.c.created_at),
                func.max(deployments.c.applied_at),
                func.max(deployments.c.ready_at),
            )
            .where(deployments.c.superseded_by.is_(None))
            .group_by(deployments.c.state)
            .order_by(deployments.c.state)
        )
        return tuple(
            tuple(row) for query in (latest, deferred, states) for row in self._connection.execute(query)
        )

    def _several(self, query: Select[Any]) -> list[Rollout]:
        rows = self._connection.execute(query).all()
        names = [row.name for row in rows if row.waves]
        waves: dict[tuple[str, int], list[str]] = {}
        for chunk in chunks(names):
            columns = rollout_stores.c
            stores = (
                select(columns.rollout, columns.wave, columns.store)
                .where(columns.rollout.in_(chunk))
                .order_by(columns.rollout, columns.wave, columns.store)
            )
            for row in self._connection.execute(stores):
                waves.setdefault((row.rollout, row.wave), []).append(row.store)
        return [_rollout(row, waves) for row in rows]

    def _counts(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        columns = rollout_stores.c

        def count(condition: Any, name: str) -> Any:
            return func.sum(case((condition, 1), else_=0)).label(name)

        going_well = and_(columns.failed_at.is_(None), columns.restoring.is_(None))
        query = (
            select(
                columns.rollout,
                func.count().label("stores"),
                count(columns.exposed_at.is_not(None), "exposed"),
                count(and_(columns.ready_at.is_not(None), going_well), "ready"),
                count(columns.failed_at.is_not(None), "failed"),
                count(columns.skipped != "", "skipped"),
                count(columns.restored_at.is_not(None), "restored"),
            )
            .where(columns.rollout.in_(names))
            .group_by(columns.rollout)
        )
        found = {}
        for row in self._connection.execute(query):
            values = dict(row._mapping)
            name = values.pop("rollout")
            found[name] = {column: int(value) for column, value in values.items()}
        return found


class RolloutStores:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_rollout(self, rollout: str) -> dict[str, StoreRecord]:
        query = select(rollout_stores).where(rollout_stores.c.rollout == rollout)
        rows = self._connection.execute(query.order_by(rollout_stores.c.store))
        return {row.store: _record(row) for row in rows}

    def of_store(self, store: str) -> dict[str, StoreRecord]:
        query = (
            select(rollout_stores)
            .join(rollouts, rollouts.c.name == rollout_stores.c.rollout)
            .where(rollout_stores.c.store == store)
            .order_by(rollouts.c.created_at.desc())
        )
        return {row.rollout: _record(row) for row in self._connection.execute(query)}

    def put(self, rollout: str, records: Iterable[StoreRecord]) -> None:
        for chunk in chunks(records, 1000):
            rows = [as_dict(record) | {"rollout": rollout} for record in chunk]
            upsert(self._connection, rollout_stores, rows)


class Verdicts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, rollout: str, judged: Sequence[Judged]) -> None:
        rows = [
            {
                "rollout": rollout,
                "wave": one.wave,
                "gate": one.verdict.gate,
                "slot": int(one.judged_at.timestamp()) // SLOT_S,
                "kind": one.verdict.kind,
                "verdict": one.verdict.verdict.value,
                "reason": one.verdict.reason,
                "observed_at": one.verdict.observed_at,
                "figures": dict(one.verdict.figures),
                "judged_at": one.judged_at,
            }
            for one in judged
        ]
        upsert(self._connection, rollout_verdicts, rows)
        columns = rollout_verdicts.c
        for row in rows:
            same = and_(columns.rollout == rollout, columns.wave == row["wave"], columns.gate == row["gate"])
            oldest_kept = (
                select(columns.slot).where(same).order_by(columns.slot.desc()).offset(KEEP_SLOTS - 1).limit(1)
            ).scalar_subquery()
            self._connection.execute(delete(rollout_verdicts).where(same, columns.slot < oldest_kept))

    def latest(self, rollout: str) -> list[Judged]:
        columns = rollout_verdicts.c
        newest = (
            select(columns.wave, columns.gate, func.max(columns.slot))
            .where(columns.rollout == rollout)
            .group_by(columns.wave, columns.gate)
        )
        query = (
            select(rollout_verdicts)
            .where(columns.rollout == rollout, tuple_(columns.wave, columns.gate, columns.slot).in_(newest))
            .order_by(columns.wave, columns.gate)
        )
        return [_judged(row) for row in self._connection.execute(query)]

    def history(self, rollout: str, request: PageRequest) -> Page[Judged]:
        columns = rollout_verdicts.c
        query = select(rollout_verdicts).where(columns.rollout == rollout)
        order: Order = [(columns.slot, int), (columns.wave, int), (columns.gate, int)]
        return page(self._connection, query, request, order, _judged, descending=True)


class Deferrals:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, deferral: Deferral) -> None:
        upsert(self._connection, store_deferrals, [as_dict(deferral)])

    def remove(self, store: str) -> bool:
        done = self._connection.execute(delete(store_deferrals).where(store_deferrals.c.store == store))
        return done.rowcount > 0

    def of_stores(self, stores: Iterable[str]) -> dict[str, Deferral]:
        found: dict[str, Deferral] = {}
        for chunk in chunks(set(stores)):
            query = select(store_deferrals).where(store_deferrals.c.store.in_(chunk))
            found.update((row.store, Deferral(**row._mapping)) for row in self._connection.execute(query))
        return found

    def page(self, request: PageRequest) -> Page[Deferral]:
        def build(row: Any) -> Deferral:
            return Deferral(**row._mapping)

        return page(
            self._connection, select(store_deferrals), request, [(store_deferrals.c.store, str)], build
        )


def _changed(name: str) -> ConflictError:
    return ConflictError(
        f"rollout {name} was changed by somebody else at the same moment; "
        f"look at it with storefleet rollout show {name}, then try again"
    )


def _values(rollout: Rollout) -> dict[str, Any]:
    return {
        "release": rollout.spec.release,
        "spec": rollout.spec.model_dump(mode="json"),
        "status": rollout.status.value,
        "reason": rollout.reason,
        "waves": [_wave_row(wave) for wave in rollout.waves],
        "failed_wave": rollout.failed_wave,
        "created_at": rollout.created_at,
        "created_by": rollout.created_by,
        "started_at": rollout.started_at,
        "ended_at": rollout.ended_at,
        "status_since": rollout.status_since,
        "revision": rollout.revision,
    }


def _wave_row(wave: WaveState) -> Mapping[str, Any]:
    approval = wave.approval
    return {
        "approval": None
        if approval is None
        else {
            "approved": approval.approved,
            "by": approval.by,
            "at": approval.at.isoformat(),
            "comment": approval.comment,
        },
        "opened_at": wave.opened_at.isoformat() if wave.opened_at else None,
        "passed_at": wave.passed_at.isoformat() if wave.passed_at else None,
    }


def _rollout(row: Any, stores: Mapping[tuple[str, int], Sequence[str]]) -> Rollout:
    values = dict(row._mapping)
    for name in ("name", "release", "settled"):
        del values[name]
    values["spec"] = RolloutSpec.model_validate(values["spec"])
    values["status"] = Status(values["status"])
    values["waves"] = tuple(
        _wave(wave, stores.get((row.name, number), ())) for number, wave in enumerate(row.waves)
    )
    return Rollout(**values)


def _wave(value: Mapping[str, Any], stores: Sequence[str]) -> WaveState:
    said = value["approval"]
    approval = said and Approval(
        said["approved"], said["by"], datetime.fromisoformat(said["at"]), said["comment"]
    )
    return WaveState(tuple(stores), approval, _time(value["opened_at"]), _time(value["passed_at"]))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _record(row: Any) -> StoreRecord:
    values = dict(row._mapping)
    del values["rollout"]
    return StoreRecord(**values)


def _judged(row: Any) -> Judged:
    verdict = GateVerdict(row.gate, row.kind, Verdict(row.verdict), row.reason, row.observed_at, row.figures)
    return Judged(row.wave, verdict, row.judged_at)


def _summary(row: Any, counts: Mapping[str, int]) -> RolloutSummary:
    return RolloutSummary(
        row.name, row.release, row.status, row.reason, row.created_at, row.created_by, row.started_at,
        row.ended_at, len(row.waves), sum(wave["passed_at"] is not None for wave in row.waves),
        counts.get("stores", 0), counts.get("exposed", 0), counts.get("ready", 0), counts.get("failed", 0),
        counts.get("skipped", 0), counts.get("restored", 0), row.revision,
    )  # fmt: skip
