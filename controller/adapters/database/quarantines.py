"""Deployments whose events are not to be trusted.

The mark is on the deployment and not on its events: a store that was away may still deliver some, and those
have to be in quarantine as well.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import Connection, delete, func, select

from controller.adapters.database.rollout_tables import quarantines
from controller.adapters.database.rows import as_dict, chunks, upsert
from controller.adapters.database.tables import events
from controller.domain.rollout.records import Quarantine


class Quarantines:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, marks: Sequence[Quarantine]) -> None:
        upsert(self._connection, quarantines, [as_dict(mark) for mark in marks])

    def remove(self, rollout_ids: Iterable[UUID]) -> int:
        gone = 0
        for chunk in chunks(set(rollout_ids)):
            done = self._connection.execute(delete(quarantines).where(quarantines.c.rollout_id.in_(chunk)))
            gone += done.rowcount
        return gone

    def events_of(self, rollout_ids: Iterable[UUID]) -> int:
        count = 0
        for chunk in chunks(set(rollout_ids)):
            query = select(func.count()).select_from(events).where(events.c.rollout_id.in_(chunk))
            count += self._connection.scalar(query) or 0
        return count
