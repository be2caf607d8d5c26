"""Audit log and dead letters."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from controller.adapters.database.rows import Order, as_dict, chunks, insert_for, page
from controller.adapters.database.tables import audit_log, dead_letters
from controller.domain.journal import AuditEntry, DeadLetter
from controller.domain.page import Page, PageRequest


class Audit:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, entry: AuditEntry) -> None:
        row = as_dict(entry)
        del row["id"]
        self._connection.execute(insert(audit_log), row)

    def add_all(self, entries: Sequence[AuditEntry]) -> None:
        rows = [as_dict(entry) for entry in entries]
        for row in rows:
            del row["id"]
        if rows:
            self._connection.execute(insert(audit_log), rows)

    def page(
        self, request: PageRequest, *, target: str | None = None, action: str | None = None
    ) -> Page[AuditEntry]:
        query = select(audit_log)
        if target is not None:
            query = query.where(audit_log.c.target == target)
        if action is not None:
            query = query.where(audit_log.c.action.startswith(action, autoescape=True))
        order: Order = [(audit_log.c.id, int)]
        return page(self._connection, query, request, order, _entry, descending=True)


class DeadLetters:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            row = as_dict(letter) | {
                "first_received_at": letter.received_at,
                "fingerprint": _fingerprint(letter),
            }
            row["topic"] = letter.topic.replace("\0", "\ufffd")[:512]
            row["reason"] = letter.reason.replace("\0", "\ufffd")
            del row["id"]
            statement = insert_for(self._connection, dead_letters)
            self._connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["fingerprint"],
                    set_={
                        "times": dead_letters.c.times + statement.excluded.times,
                        "received_at": statement.excluded.received_at,
                        "reason": statement.excluded.reason,
                    },
                ),
                row,
            )

    def page(self, store: str | None, request: PageRequest) -> Page[DeadLetter]:
        query = select(dead_letters)
        if store is not None:
            query = query.where(dead_letters.c.store == store)
        return page(self._connection, query, request, [(dead_letters.c.id, int)], _letter, descending=True)

    def forget(self, ids: Iterable[int]) -> None:
        for chunk in chunks(set(ids)):
            self._connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(chunk)))

    def trim(self, keep: int) -> int:
        evictable = dead_letters.c.sequence.is_(None)
        count = self._connection.scalar(select(func.count()).select_from(dead_letters).where(evictable)) or 0
        if count <= keep:
            return 0
        oldest = (
            select(dead_letters.c.id)
            .where(evictable)
            .order_by(dead_letters.c.received_at)
            .limit(count - keep)
        )
        return self._connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(oldest))).rowcount


def _fingerprint(letter: DeadLetter) -> str:
    """Equal for the same message on the same topic, whenever it comes."""
    digest = hashlib.sha256(letter.topic.encode(errors="replace") + b"\0")
    digest.update(str(letter.size).encode() + b"\0" + letter.payload)
    return digest.hexdigest()


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(**row._mapping)


def _letter(row: Any) -> DeadLetter:
    values = dict(row._mapping)
    del values["fingerprint"], values["first_received_at"]
    return DeadLetter(**values)
