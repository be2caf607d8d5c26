"""Releases and deployments."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, insert, select, update

from controller.adapters.database.rows import Order, as_dict, chunks, insert_for, page
from controller.adapters.database.tables import deployments, releases
from controller.domain.deployment import State
from controller.domain.page import Page, PageRequest
from controller.domain.records import Deployment, ReleaseRecord, Wanted
from controller.errors import ConflictError, NotFoundError


class Releases:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, release: ReleaseRecord) -> None:
        if self.get(release.name) is not None:
            raise ConflictError(
                f"release {release.name} exists already; releases never change, use a new name"
            )
        self._connection.execute(insert(releases), as_dict(release))

    def get(self, name: str) -> ReleaseRecord | None:
        row = self._connection.execute(select(releases).where(releases.c.name == name)).one_or_none()
        return ReleaseRecord(**row._mapping) if row else None

    def page(self, request: PageRequest) -> Page[ReleaseRecord]:
        def build(row: Any) -> ReleaseRecord:
            return ReleaseRecord(**row._mapping)

        return page(self._connection, select(releases), request, [(releases.c.name, str)], build)


class Deployments:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def supersede(self, made: Sequence[Deployment], message: Mapping[str, str] | None = None) -> None:
        if not made:
            return
        marked = (
            update(deployments)
            .where(deployments.c.store == bindparam("of_store"), deployments.c.superseded_by.is_(None))
            .values(superseded_by=bindparam("by"), state=State.SUPERSEDED, message=bindparam("words"))
        )
        words = message or {}
        self._connection.execute(
            marked,
            [
                {
                    "of_store": deployment.store,
                    "by": deployment.rollout_id,
                    "words": words.get(deployment.store, f"superseded by {deployment.release}"),
                }
                for deployment in made
            ],
        )
        # Two deployments made at once were both planned as the next generation: the later one is refused.
        statement = insert_for(self._connection, deployments).on_conflict_do_nothing()
        rows = [as_dict(deployment) for deployment in made]
        added = set(self._connection.scalars(statement.returning(deployments.c.rollout_id), rows))
        for deployment in made:
            if deployment.rollout_id not in added:
                raise ConflictError(
                    f"store {deployment.store}: another deployment came in at the same moment; "
                    "look at it with storefleet deployments, then deploy again"
                )

    def of(self, *, rollout: str | None = None, release: str | None = None) -> list[Deployment]:
        query = select(deployments).where(deployments.c.desired == "present")
        if rollout is not None:
            query = query.where(deployments.c.rollout == rollout)
        if release is not None:
            query = query.where(deployments.c.release == release)
        rows = self._connection.execute(query.order_by(deployments.c.store, deployments.c.generation))
        return [Deployment(**row._mapping) for row in rows]

    def save(self, deployment: Deployment) -> None:
        values = as_dict(deployment)
        # Who superseded it is written by ``supersede`` alone: a reconciler that observed an older
        # generation must not make it current again.
        for fixed in ("rollout_id", "superseded_by"):
            del values[fixed]
        done = self._connection.execute(
            update(deployments).where(deployments.c.rollout_id == deployment.rollout_id).values(values)
        )
        if done.rowcount == 0:
            raise NotFoundError(f"deployment {deployment.rollout_id} does not exist")

    def current(self, stores: Iterable[str] | None = None) -> list[Deployment]:
        query = select(deployments).where(deployments.c.superseded_by.is_(None))
        if stores is None:
            rows = list(self._connection.execute(query.order_by(deployments.c.store)))
        else:
            rows = []
            for chunk in chunks(sorted(set(stores))):
                chosen = query.where(deployments.c.store.in_(chunk)).order_by(deployments.c.store)
                rows.extend(self._connection.execute(chosen))
        return [Deployment(**row._mapping) for row in rows]

    def wanted(self) -> list[Wanted]:
        columns = deployments.c
        query = select(columns.store, columns.rollout_id, columns.state)
        return [
            Wanted(*row) for row in self._connection.execute(query.where(columns.superseded_by.is_(None)))
        ]

    def revision(self) -> tuple[int, int]:
        """Each store's generation only rises, by one with every deployment, so their sum is the same only
        while each of them is. Times and serial numbers would not do: they are not in the order of commits."""
        columns = deployments.c
        query = select(func.count(), func.coalesce(func.sum(columns.generation), 0))
        count, total = self._connection.execute(query.where(columns.superseded_by.is_(None))).one()
        return int(count), int(total)

    def page(self, store: str | None, request: PageRequest) -> Page[Deployment]:
        query = (
            select(deployments) if store is None else select(deployments).where(deployments.c.store == store)
        )
        order: Order = [(deployments.c.created_at, datetime.fromisoformat), (deployments.c.rollout_id, UUID)]

        def build(row: Any) -> Deployment:
            return Deployment(**row._mapping)

        return page(self._connection, query, request, order, build, descending=True)

    def get(self, rollout_id: UUID) -> Deployment | None:
        # Locked, so that what is saved afterwards cannot undo a supersession that goes on meanwhile.
        query = select(deployments).where(deployments.c.rollout_id == rollout_id).with_for_update()
        row = self._connection.execute(query).one_or_none()
        return Deployment(**row._mapping) if row else None
