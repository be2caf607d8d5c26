"""Dead letters that are no longer objected to, taken in after all."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from contract.events import EventBase
from controller.domain.journal import AuditEntry, DeadLetter, Replayed
from controller.domain.page import PageRequest
from controller.ingest_batch import SEQUENCE_REUSED, ingest_items
from controller.ports import Received, Transactions
from controller.reading import Decoded, read

BATCH_LETTERS = 500


def replay_dead_letters(
    transactions: Transactions, store: str | None, *, actor: str, now: datetime
) -> Replayed:
    """Take in the events in dead letters, of all stores or of one, that are no longer objected to: because
    the centre's clock is right again, or because this release knows their type. They are marked historical.

    Safe to repeat. Raises ``TransientError`` when the database is not available.
    """
    taken_in = refused = 0
    cursor: str | None = None
    while True:
        with transactions.reading() as repositories:
            page = repositories.dead_letters.page(store, PageRequest(BATCH_LETTERS, cursor))
        letters = [letter for letter in reversed(page.items) if letter.sequence is not None]
        done = _replay(transactions, letters, now)
        taken_in += len(done)
        refused += len(letters) - len(done)
        cursor = page.next_cursor
        with transactions.writing() as repositories:
            repositories.dead_letters.forget(done)
            if cursor is None:
                detail = {"taken_in": taken_in, "refused": refused}
                repositories.audit.add(AuditEntry(now, actor, "dead_letters.replay", store or "*", detail))
                return Replayed(taken_in, refused)


def _replay(transactions: Transactions, letters: Sequence[DeadLetter], now: datetime) -> list[int]:
    """Ids of those letters whose event is stored now."""
    items: dict[int, Decoded] = {}
    ids: dict[int, UUID] = {}
    for letter in letters:
        item = read(Received(letter.topic, letter.payload, now, retained=True), now)
        if isinstance(item, Decoded) and isinstance(item.body, EventBase):
            ids[letter.id] = item.body.id
            if letter.reason != SEQUENCE_REUSED:
                body = item.body.model_copy(update={"historical": True})
                items[letter.id] = replace(item, body=body)
    ingest_items(transactions, list(items.values()), now)
    with transactions.reading() as repositories:
        stored = repositories.events.get(ids.values())
    return [letter for letter, event in ids.items() if event in stored]
