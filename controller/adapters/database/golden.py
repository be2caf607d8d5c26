"""Golden sets and their results; shadow runs and theirs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, delete, func, insert, select

from controller.adapters.database.rollout_tables import (
    golden_demands,
    golden_results,
    golden_sets,
    shadow_orders,
    shadow_results,
)
from controller.adapters.database.rows import Order, as_dict, chunks, key_in, page, upsert
from controller.domain.golden import GoldenDemand, GoldenOutcome, GoldenSet
from controller.domain.page import Page, PageRequest
from controller.domain.shadow import ShadowFigures, ShadowRun
from controller.errors import ConflictError

KEPT = 8
"""Results kept of each device, those that came last."""


class Golden:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, golden: GoldenSet) -> None:
        columns = golden_sets.c
        query = select(columns.digest).where(columns.name == golden.name, columns.version == golden.version)
        taken = self._connection.scalar(query)
        if taken is not None and taken != golden.digest:
            raise ConflictError(
                f"golden set {golden.name} {golden.version} exists with digest {taken}; give the new one "
                "another version"
            )
        if self.get(golden.digest) is None:
            self._connection.execute(insert(golden_sets), as_dict(golden))

    def get(self, digest: str) -> GoldenSet | None:
        return self._one(golden_sets.c.digest == digest)

    def newest(self, name: str | None = None) -> GoldenSet | None:
        query = select(golden_sets).order_by(golden_sets.c.created_at.desc(), golden_sets.c.digest).limit(1)
        if name is not None:
            query = query.where(golden_sets.c.name == name)
        row = self._connection.execute(query).one_or_none()
        return GoldenSet(**row._mapping) if row else None

    def page(self, request: PageRequest) -> Page[GoldenSet]:
        order: Order = [(golden_sets.c.name, str), (golden_sets.c.version, str)]
        return page(
            self._connection, select(golden_sets), request, order, lambda row: GoldenSet(**row._mapping)
        )

    def demand(self, demands: Sequence[GoldenDemand]) -> None:
        upsert(self._connection, golden_demands, [as_dict(one) for one in demands])

    def demanded(self, rollout_id: UUID) -> GoldenDemand | None:
        query = select(golden_demands).where(golden_demands.c.rollout_id == rollout_id)
        row = self._connection.execute(query).one_or_none()
        return GoldenDemand(**row._mapping) if row else None

    def save(self, outcomes: Iterable[GoldenOutcome]) -> None:
        newest: dict[tuple[str, ...], GoldenOutcome] = {}
        for one in outcomes:
            key = (one.store, one.device, one.model_digest, one.golden_digest)
            if key not in newest or newest[key].at <= one.at:
                newest[key] = one
        columns = golden_results.c
        keys = [columns.store, columns.device, columns.model_digest, columns.golden_digest]
        for chunk in chunks(newest):
            query = select(*keys, columns.at).where(key_in(keys, chunk))
            for row in self._connection.execute(query).all():
                key = (row.store, row.device, row.model_digest, row.golden_digest)
                if row.at > newest[key].at:  # the broker sent an older one again
                    del newest[key]
        upsert(self._connection, golden_results, [as_dict(one) for one in newest.values()])
        _trim(self._connection, golden_results, {(one.store, one.device) for one in newest.values()})

    def results(self, stores: Iterable[str], model_digest: str | None = None) -> list[GoldenOutcome]:
        return _of_stores(self._connection, golden_results, stores, model_digest, GoldenOutcome)

    def _one(self, condition: Any) -> GoldenSet | None:
        row = self._connection.execute(select(golden_sets).where(condition)).one_or_none()
        return GoldenSet(**row._mapping) if row else None


class Shadows:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, runs: Sequence[ShadowRun]) -> None:
        upsert(self._connection, shadow_orders, [as_dict(run) for run in runs])

    def withdraw(self, stores: Iterable[str], model_digest: str | None = None) -> None:
        for chunk in chunks(sorted(set(stores))):
            query = delete(shadow_orders).where(shadow_orders.c.store.in_(chunk))
            if model_digest is not None:
                query = query.where(shadow_orders.c.model_digest == model_digest)
            self._connection.execute(query)

    def page(self, request: PageRequest) -> Page[ShadowRun]:
        order: Order = [(shadow_orders.c.store, str)]
        return page(
            self._connection, select(shadow_orders), request, order, lambda row: ShadowRun(**row._mapping)
        )

    def requested_by(self, actor: str) -> list[ShadowRun]:
        query = select(shadow_orders).where(shadow_orders.c.requested_by == actor)
        rows = self._connection.execute(query.order_by(shadow_orders.c.store))
        return [ShadowRun(**row._mapping) for row in rows]

    def revision(self, now: datetime) -> tuple[int, str, str]:
        """Counts a run that has come to its end as gone."""
        columns = shadow_orders.c
        query = select(func.count(), func.max(columns.created_at), func.min(columns.until)).where(
            columns.until > now
        )
        count, newest, next_end = self._connection.execute(query).one()
        return int(count), str(newest), str(next_end)

    def save(self, figures: Iterable[ShadowFigures]) -> None:
        """Of the same counting only what came last is kept."""
        last = {(one.store, one.device, one.model_digest, one.since): one for one in figures}
        upsert(self._connection, shadow_results, [as_dict(one) for one in last.values()])
        _trim(self._connection, shadow_results, {(store, device) for store, device, _, _ in last})

    def results(self, stores: Iterable[str], model_digest: str | None = None) -> list[ShadowFigures]:
        return _of_stores(self._connection, shadow_results, stores, model_digest, ShadowFigures)


def _of_stores(
    connection: Connection, table: Table, stores: Iterable[str], model_digest: str | None, build: Any
) -> list[Any]:
    found = []
    for chunk in chunks(sorted(set(stores))):
        query = select(table).where(table.c.store.in_(chunk))
        if model_digest is not None:
            query = query.where(table.c.model_digest == model_digest)
        rows = connection.execute(query.order_by(*table.primary_key.columns))
        found += [build(**row._mapping) for row in rows]
    return found


def _trim(connection: Connection, table: Table, devices: Iterable[tuple[str, str]]) -> None:
    keys = list(table.primary_key.columns)
    columns = table.c
    order = (columns.received_at.desc(), *keys)
    rank = func.row_number().over(partition_by=(columns.store, columns.device), order_by=order)
    for chunk in chunks(sorted(devices)):
        chosen = select(*keys, rank.label("rank")).where(key_in([columns.store, columns.device], chunk))
        ranked = chosen.subquery()
        extra = select(*(ranked.c[key.name] for key in keys)).where(ranked.c.rank > KEPT)
        gone = [tuple(row) for row in connection.execute(extra)]
        for few in chunks(gone):
            connection.execute(delete(table).where(key_in(keys, few)))
