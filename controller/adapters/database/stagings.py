"""What stores shall hold ready ahead of a release."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select

from controller.adapters.database.rows import Order, as_dict, chunks, key_in, page, upsert
from controller.adapters.database.tables import stagings
from controller.domain.page import Page, PageRequest
from controller.domain.staging import Staging


class Stagings:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, wanted: Sequence[Staging], *, keep: int) -> None:
        upsert(self._connection, stagings, [as_dict(staging) for staging in wanted])
        columns = stagings.c
        rank = func.row_number().over(
            partition_by=columns.store, order_by=(columns.created_at.desc(), columns.release.desc())
        )
        for chunk in chunks(sorted({staging.store for staging in wanted})):
            ranked = (
                select(columns.store, columns.release, rank.label("rank"))
                .where(columns.store.in_(chunk))
                .subquery()
            )
            extra = select(ranked.c.store, ranked.c.release).where(ranked.c.rank > keep)
            gone = [(row.store, row.release) for row in self._connection.execute(extra)]
            for few in chunks(gone):
                self._connection.execute(
                    delete(stagings).where(key_in([columns.store, columns.release], few))
                )

    def page(self, release: str | None, store: str | None, request: PageRequest) -> Page[Staging]:
        query = select(stagings)
        if release is not None:
            query = query.where(stagings.c.release == release)
        if store is not None:
            query = query.where(stagings.c.store == store)
        order: Order = [(stagings.c.store, str), (stagings.c.release, str)]

        def build(row: Any) -> Staging:
            return Staging(**row._mapping)

        return page(self._connection, query, request, order, build)

    def revision(self) -> tuple[int, str]:
        query = select(func.count(), func.max(stagings.c.created_at)).select_from(stagings)
        count, newest = self._connection.execute(query).one()
        return int(count), newest.isoformat() if newest is not None else ""
