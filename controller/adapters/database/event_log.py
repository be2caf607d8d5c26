"""The event log: append only, except for the mark of a retraction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, select, update

from contract.events import EventBase
from controller.adapters.database.rollout_tables import quarantines
from controller.adapters.database.rows import Order, chunks, insert_for, page
from controller.adapters.database.tables import deployments, events, retractions
from controller.domain.event_log import EventFilter, StoredEvent
from controller.domain.page import Page, PageRequest
from controller.ports import AddedEvents

retracting = events.alias("retracting")


class Events:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, added: Sequence[EventBase], received_at: datetime) -> AddedEvents:
        if not added:
            return AddedEvents(frozenset(), frozenset())
        statement = insert_for(self._connection, events).on_conflict_do_nothing().returning(events.c.event_id)
        rows = [_row(event, received_at) for event in added]
        new = frozenset(self._connection.execute(statement, rows).scalars())
        present = set(new)
        for chunk in chunks({event.id for event in added} - new):
            query = select(events.c.event_id).where(events.c.event_id.in_(chunk))
            present.update(self._connection.scalars(query))
        self._retract_late(new)
        return AddedEvents(new, frozenset(event.id for event in added if event.id not in present))

    def retract(self, wrong: Mapping[UUID, UUID], at: datetime) -> None:
        """A store retracts its own events only; its access list ends where another store begins."""
        for retracted, by in wrong.items():
            same_store = select(retracting.c.store).where(retracting.c.event_id == by).scalar_subquery()
            marked = self._connection.execute(
                update(events)
                .where(events.c.event_id == retracted, events.c.retracted_by.is_(None))
                .where(events.c.store == same_store)
                .values(retracted_by=by)
            )
            if marked.rowcount == 0:
                statement = insert_for(self._connection, retractions).on_conflict_do_nothing()
                self._connection.execute(statement, {"event_id": retracted, "retracted_by": by, "at": at})

    def _retract_late(self, new: frozenset[UUID]) -> None:
        """Mark new events whose retraction came first, from the same store."""
        for chunk in chunks(new):
            query = (
                select(retractions)
                .join(events, events.c.event_id == retractions.c.event_id)
                .join(retracting, retracting.c.event_id == retractions.c.retracted_by)
                .where(retractions.c.event_id.in_(chunk), retracting.c.store == events.c.store)
            )
            early = self._connection.execute(query).all()
            if early:
                statement = update(events).where(events.c.event_id == bindparam("wrong"))
                values = [{"wrong": row.event_id, "retracted_by": row.retracted_by} for row in early]
                self._connection.execute(statement, values)
                done = [row.event_id for row in early]
                self._connection.execute(delete(retractions).where(retractions.c.event_id.in_(done)))

    def get(self, ids: Iterable[UUID]) -> dict[UUID, StoredEvent]:
        found: dict[UUID, StoredEvent] = {}
        for chunk in chunks(set(ids)):
            rows = self._connection.execute(select(events).where(events.c.event_id.in_(chunk)))
            found.update((row.event_id, _event(row)) for row in rows)
        return found

    def page(self, wanted: EventFilter, request: PageRequest) -> Page[StoredEvent]:
        query = select(events, quarantines.c.at.label("quarantined_at")).outerjoin(
            quarantines, quarantines.c.rollout_id == events.c.rollout_id
        )
        if wanted.quarantined is not None:
            marked = quarantines.c.rollout_id.is_not(None)
            query = query.where(marked if wanted.quarantined else ~marked)
        for name in ("store", "device", "camera", "zone", "kind", "rollout_id", "model_digest"):
            value = getattr(wanted, name)
            if value is not None:
                query = query.where(events.c[name] == value)
        if wanted.release is not None:
            rollouts = select(deployments.c.rollout_id).where(deployments.c.release == wanted.release)
            query = query.where(events.c.rollout_id.in_(rollouts))
        if wanted.since is not None:
            query = query.where(events.c.event_time >= wanted.since)
        if wanted.until is not None:
            query = query.where(events.c.event_time < wanted.until)
        if wanted.after_id is not None:
            query = query.where(events.c.id > wanted.after_id)
        order: Order = [(events.c.id, int)]
        return page(self._connection, query, request, order, _event, descending=wanted.newest_first)


def _row(event: EventBase, received_at: datetime) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "store": event.store,
        "device": event.device,
        "camera": event.camera,
        "zone": event.subject,
        "type": event.type,
        "kind": event.kind,
        "event_time": event.time,
        "record_time": event.recordtime,
        "received_at": received_at,
        "stream_id": event.streamid,
        "sequence": event.sequence,
        "historical": event.historical,
        "model_version": event.modelversion,
        "model_digest": event.modeldigest,
        "rollout_id": event.rolloutid,
        "camera_epoch": event.cameraepoch,
        "retracted_by": None,
        "data": event.data.model_dump(mode="json", exclude_none=True),  # type: ignore[attr-defined]
    }


def _event(row: Any) -> StoredEvent:
    return StoredEvent(**row._mapping)
