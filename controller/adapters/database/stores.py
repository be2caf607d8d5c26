"""Stores and their configurations."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, insert, select, update

from controller.adapters.database.rows import as_dict, chunks, insert_for, page
from controller.adapters.database.tables import store_configs, stores
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.page import Page, PageRequest
from controller.errors import ConflictError, NotFoundError


class Stores:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, store: Store) -> None:
        if self.get(store.name) is not None:
            raise ConflictError(f"store {store.name} exists already")
        self._connection.execute(insert(stores), as_dict(store))

    def get(self, name: str) -> Store | None:
        row = self._connection.execute(select(stores).where(stores.c.name == name)).one_or_none()
        return _store(row) if row else None

    def several(self, names: Iterable[str] | None = None) -> list[Store]:
        if names is None:
            return [_store(row) for row in self._connection.execute(select(stores).order_by(stores.c.name))]
        found: list[Store] = []
        for chunk in chunks(sorted(set(names))):
            query = select(stores).where(stores.c.name.in_(chunk)).order_by(stores.c.name)
            found.extend(_store(row) for row in self._connection.execute(query))
        return found

    def page(self, request: PageRequest) -> Page[Store]:
        return page(self._connection, select(stores), request, [(stores.c.name, str)], _store)

    def known(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for chunk in chunks(set(names)):
            found.update(self._connection.scalars(select(stores.c.name).where(stores.c.name.in_(chunk))))
        return found


class StoreConfigs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, version: StoreConfigVersion) -> None:
        pointed = self._connection.execute(
            update(stores).where(stores.c.name == version.store).values(config_digest=version.digest)
        )
        if pointed.rowcount == 0:
            raise NotFoundError(f"store {version.store} does not exist; register it first")
        statement = insert_for(self._connection, store_configs).on_conflict_do_nothing()
        self._connection.execute(statement, as_dict(version))

    def current(self, store: str) -> StoreConfigVersion | None:
        return self.currents([store]).get(store)

    def currents(self, names: Iterable[str]) -> dict[str, StoreConfigVersion]:
        found: dict[str, StoreConfigVersion] = {}
        same = (stores.c.name == store_configs.c.store) & (stores.c.config_digest == store_configs.c.digest)
        for chunk in chunks(set(names)):
            query = select(store_configs).join(stores, same).where(stores.c.name.in_(chunk))
            for row in self._connection.execute(query):
                found[row.store] = StoreConfigVersion(**row._mapping)
        return found

    def get(self, store: str, digest: str) -> StoreConfigVersion | None:
        query = select(store_configs).where(store_configs.c.store == store, store_configs.c.digest == digest)
        row = self._connection.execute(query).one_or_none()
        return StoreConfigVersion(**row._mapping) if row else None


def _store(row: Any) -> Store:
    return Store(**row._mapping)
