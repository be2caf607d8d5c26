"""Current stock per zone, and its history."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, select

from contract.names import StockLevel
from controller.adapters.database.rollout_tables import quarantines
from controller.adapters.database.rows import Order, as_dict, chunks, insert_for, key_in, page, upsert
from controller.adapters.database.tables import events, stock_history, zones
from controller.domain.keys import ZoneKey
from controller.domain.page import Page, PageRequest
from controller.domain.stock import QUARANTINED, StockChange, ZoneStock


class Stock:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def zones(self, keys: Iterable[ZoneKey]) -> dict[ZoneKey, ZoneStock]:
        found: dict[ZoneKey, ZoneStock] = {}
        for chunk in chunks(set(keys)):
            query = select(zones).where(key_in([zones.c.store, zones.c.zone], chunk))
            for row in self._connection.execute(query):
                found[row.store, row.zone] = _zone(row)
        return found

    def save(self, zones_: Iterable[ZoneStock], changes: Iterable[StockChange]) -> None:
        upsert(self._connection, zones, [as_dict(zone) for zone in zones_])
        rows = [as_dict(change) for change in changes]
        for row in rows:
            del row["retracted"]  # kept with the event
        if rows:
            self._connection.execute(
                insert_for(self._connection, stock_history).on_conflict_do_nothing(), rows
            )

    def keep_zones(self, store: str, names: Iterable[str]) -> None:
        known = set(self._connection.scalars(select(zones.c.zone).where(zones.c.store == store)))
        for gone in chunks(known - set(names)):
            self._connection.execute(delete(zones).where(zones.c.store == store, zones.c.zone.in_(gone)))

    def page(self, store: str | None, request: PageRequest) -> Page[ZoneStock]:
        query = select(zones, quarantines.c.rollout_id.label("quarantined")).outerjoin(
            quarantines, quarantines.c.rollout_id == zones.c.rollout_id
        )
        if store is not None:
            query = query.where(zones.c.store == store)
        return page(self._connection, query, request, [(zones.c.store, str), (zones.c.zone, str)], _shown)

    def history(self, store: str, zone: str, request: PageRequest) -> Page[StockChange]:
        columns = stock_history.c
        query = (
            select(stock_history, events.c.retracted_by, quarantines.c.rollout_id.label("quarantined"))
            .join(events, events.c.event_id == columns.event_id)
            .outerjoin(quarantines, quarantines.c.rollout_id == events.c.rollout_id)
            .where(columns.store == store, columns.zone == zone)
        )
        order: Order = [
            (columns.event_time, datetime.fromisoformat),
            (columns.sequence, int),
            (columns.event_id, UUID),
        ]
        return page(self._connection, query, request, order, _change, descending=True)


def _zone(row: Any) -> ZoneStock:
    values = dict(row._mapping)
    values["level"] = StockLevel(values["level"])
    return ZoneStock(**values)


def _shown(row: Any) -> ZoneStock:
    """What was believed because of events that are in quarantine is not known."""
    values = dict(row._mapping)
    if values.pop("quarantined") is not None:
        values |= {"level": StockLevel.UNKNOWN.value, "facings": None, "reason": QUARANTINED}
    values["level"] = StockLevel(values["level"])
    return ZoneStock(**values)


def _change(row: Any) -> StockChange:
    values = dict(row._mapping)
    retracted = values.pop("retracted_by") is not None
    quarantined = values.pop("quarantined") is not None
    values["level"] = StockLevel(values["level"])
    return StockChange(**values, retracted=retracted, quarantined=quarantined)
