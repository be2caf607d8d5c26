"""Watermarks of event streams and their gaps."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from controller.adapters.database.rows import chunks, key_in, page, upsert
from controller.adapters.database.tables import devices, gaps, streams
from controller.domain.journal import GapRecord
from controller.domain.page import Page, PageRequest
from controller.domain.sequence import Gap, Stream, StreamKey
from controller.ports import StalledStream


class Streams:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def load(self, keys: Iterable[StreamKey]) -> dict[StreamKey, Stream]:
        found: dict[StreamKey, Stream] = {}
        for chunk in chunks(set(keys)):
            here = key_in([streams.c.store, streams.c.device, streams.c.stream_id], chunk)
            # Locked, in case two controllers take in the same stream; SQLite has one writer anyway.
            rows = self._connection.execute(select(streams).where(here).with_for_update()).all()
            missing: dict[StreamKey, list[Gap]] = defaultdict(list)
            if any(row.committed < row.highest for row in rows):
                gap_query = (
                    select(gaps)
                    .where(
                        key_in([gaps.c.store, gaps.c.device, gaps.c.stream_id], chunk),
                        gaps.c.closed_at.is_(None),
                    )
                    .order_by(gaps.c.first)
                )
                for row in self._connection.execute(gap_query):
                    missing[_key(row)].append(Gap(row.first, row.last, row.opened_at))
            for row in rows:
                found[_key(row)] = Stream(row.highest, tuple(missing[_key(row)]), row.advanced_at)
        return found

    def save(
        self,
        changes: Mapping[StreamKey, tuple[Stream, Stream]],
        lost: Iterable[tuple[StreamKey, Gap]],
        now: datetime,
    ) -> None:
        self._save_watermarks({key: after for key, (_, after) in changes.items()}, now)
        given_up = set(lost)
        opened: list[dict[str, Any]] = []
        for key, (before, after) in changes.items():
            for gap in set(before.gaps) - set(after.gaps):
                self._connection.execute(
                    update(gaps)
                    .where(*_is(key), gaps.c.first == gap.first, gaps.c.closed_at.is_(None))
                    .values(closed_at=now, lost=(key, gap) in given_up)
                )
            new = set(after.gaps) - set(before.gaps)
            opened.extend(key._asdict() | _gap_values(gap) for gap in new)
        if opened:
            self._connection.execute(insert(gaps), opened)

    def _save_watermarks(self, after: Mapping[StreamKey, Stream], now: datetime) -> None:
        rows = [
            key._asdict()
            | {"highest": stream.highest, "committed": stream.committed, "advanced_at": stream.advanced_at}
            | {"first_seen": now}
            for key, stream in after.items()
        ]
        upsert(self._connection, streams, rows, keep=["first_seen"])

    def stalled(self, before: datetime, seen_since: datetime, limit: int) -> list[StalledStream]:
        same = (
            (streams.c.store == devices.c.store)
            & (streams.c.device == devices.c.device)
            & (streams.c.stream_id == devices.c.stream_id)
        )
        committed = func.coalesce(streams.c.committed, 0)
        behind = (
            select(devices.c.store, devices.c.device, devices.c.stream_id, committed.label("committed"))
            .select_from(devices.outerjoin(streams, same))
            .where(
                devices.c.outbox_ahead_since <= before,
                devices.c.last_seen >= seen_since,
                devices.c.stream_id.is_not(None),
                devices.c.outbox_last_sequence > committed,
                (streams.c.advanced_at.is_(None)) | (streams.c.advanced_at <= before),
            )
            .limit(limit)
        )
        gap_query = (
            select(streams.c.store, streams.c.device, streams.c.stream_id, streams.c.committed)
            .join(
                gaps,
                (gaps.c.store == streams.c.store)
                & (gaps.c.device == streams.c.device)
                & (gaps.c.stream_id == streams.c.stream_id),
            )
            .join(devices, (devices.c.store == streams.c.store) & (devices.c.device == streams.c.device))
            .where(
                gaps.c.closed_at.is_(None),
                gaps.c.opened_at <= before,
                devices.c.last_seen >= seen_since,
            )
            .distinct()
            .limit(limit)
        )
        found: dict[StreamKey, int] = {}
        for query in (behind, gap_query):
            for row in self._connection.execute(query):
                found[_key(row)] = row.committed
        return [StalledStream(key, number) for key, number in found.items()][:limit]

    def page_gaps(self, store: str | None, open_only: bool, request: PageRequest) -> Page[GapRecord]:
        query = select(gaps)
        if store is not None:
            query = query.where(gaps.c.store == store)
        if open_only:
            query = query.where(gaps.c.closed_at.is_(None))
        return page(self._connection, query, request, [(gaps.c.id, int)], _gap, descending=True)


def _key(row: Any) -> StreamKey:
    return StreamKey(row.store, row.device, row.stream_id)


def _is(key: StreamKey) -> tuple[Any, ...]:
    return (gaps.c.store == key.store, gaps.c.device == key.device, gaps.c.stream_id == key.stream_id)


def _gap_values(gap: Gap) -> dict[str, Any]:
    return {
        "first": gap.first,
        "last": gap.last,
        "opened_at": gap.opened_at,
        "closed_at": None,
        "lost": False,
    }


def _gap(row: Any) -> GapRecord:
    return GapRecord(_key(row), row.first, row.last, row.opened_at, row.closed_at, row.lost, row.id)
