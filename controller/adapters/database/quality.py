"""What cameras saw, in quarters of an hour, and how far each device's telemetry has been taken in."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, or_, select

from controller.adapters.database.rollout_tables import memory_buckets, quality_buckets, quality_marks
from controller.adapters.database.rows import as_dict, chunks, key_in, upsert
from controller.domain.keys import DeviceKey
from controller.domain.quality import (
    BucketKey,
    CameraCount,
    Mark,
    MemoryBucket,
    MemoryKey,
    QualityBucket,
)
from controller.rollout_ports import Span


class Quality:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def marks(self, keys: Iterable[DeviceKey]) -> dict[DeviceKey, Mark]:
        columns = [quality_marks.c.store, quality_marks.c.device]
        return {(row.store, row.device): _mark(row) for row in self._by_key(quality_marks, columns, keys)}

    def buckets(self, keys: Iterable[BucketKey]) -> dict[BucketKey, QualityBucket]:
        columns = list(quality_buckets.primary_key.columns)
        found = (_bucket(row) for row in self._by_key(quality_buckets, columns, keys))
        return {bucket.key: bucket for bucket in found}

    def memory(self, keys: Iterable[MemoryKey]) -> dict[MemoryKey, MemoryBucket]:
        columns = list(memory_buckets.primary_key.columns)
        found = (MemoryBucket(**row._mapping) for row in self._by_key(memory_buckets, columns, keys))
        return {bucket.key: bucket for bucket in found}

    def save(
        self, marks: Iterable[Mark], buckets: Iterable[QualityBucket], memory: Iterable[MemoryBucket]
    ) -> None:
        upsert(self._connection, quality_marks, [_mark_row(mark) for mark in marks])
        upsert(self._connection, quality_buckets, [as_dict(bucket) for bucket in buckets])
        upsert(self._connection, memory_buckets, [as_dict(bucket) for bucket in memory])

    def of_stores(self, stores: Iterable[str], spans: Sequence[Span]) -> list[QualityBucket]:
        columns = quality_buckets.c
        times = or_(*((columns.start >= first) & (columns.start < end) for first, end in spans))
        found: list[QualityBucket] = []
        for chunk in chunks(sorted(set(stores))) if spans else ():
            query = select(quality_buckets).where(columns.store.in_(chunk), times)
            found += map(_bucket, self._connection.execute(query))
        return sorted(found, key=lambda bucket: (bucket.store, bucket.start, bucket.camera))

    def memory_of_stores(self, stores: Iterable[str], since: datetime) -> list[MemoryBucket]:
        columns = memory_buckets.c
        found: list[MemoryBucket] = []
        for chunk in chunks(sorted(set(stores))):
            query = select(memory_buckets).where(columns.store.in_(chunk), columns.start >= since)
            found += (MemoryBucket(**row._mapping) for row in self._connection.execute(query))
        return sorted(found, key=lambda bucket: (bucket.store, bucket.device, bucket.start))

    def trim(self, quality_before: datetime, memory_before: datetime) -> None:
        self._connection.execute(delete(quality_buckets).where(quality_buckets.c.start < quality_before))
        self._connection.execute(delete(memory_buckets).where(memory_buckets.c.start < memory_before))

    def _by_key(self, table: Table, columns: Sequence[Any], keys: Iterable[tuple[Any, ...]]) -> Iterable[Any]:
        for chunk in chunks(set(keys)):
            yield from self._connection.execute(select(table).where(key_in(columns, chunk)))


def _bucket(row: Any) -> QualityBucket:
    values = dict(row._mapping)
    return QualityBucket(**values | {"histogram": tuple(values["histogram"])})


def _mark(row: Any) -> Mark:
    values = dict(row._mapping)
    counts: Mapping[str, Any] = values["cameras"]
    cameras = {
        name: CameraCount(frames, detections, tuple(histogram), online)
        for name, (frames, detections, histogram, online) in counts.items()
    }
    return Mark(**values | {"cameras": cameras})


def _mark_row(mark: Mark) -> dict[str, Any]:
    cameras = {
        name: [count.frames, dict(count.detections), list(count.histogram), count.online]
        for name, count in mark.cameras.items()
    }
    return as_dict(mark) | {"cameras": cameras}
