"""Rows to records and back, and the few statements that both databases need in the same shape."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from controller.domain.page import MAX_LIMIT, Page, PageRequest
from controller.errors import InvalidError

T = TypeVar("T")
Order = Sequence[tuple[ColumnElement[Any], Callable[[Any], Any]]]
"""Columns that order rows uniquely, each with the parser that reads its value back from a cursor."""
R = TypeVar("R")

KEYS_PER_QUERY = 500


def insert_for(connection: Connection, table: Table) -> Any:
    """``INSERT`` of this database's dialect, for its ON CONFLICT clause."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], keep: Sequence[str] = ()
) -> None:
    """Insert rows; where the primary key exists, replace everything but the key and ``keep``."""
    if not rows:
        return
    statement = insert_for(connection, table)
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *keep)}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows))


def chunks(items: Iterable[T], size: int = KEYS_PER_QUERY) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def key_in(columns: Sequence[ColumnElement[Any]], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    return tuple_(*columns).in_(keys)


def as_dict(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, without copying what they hold."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def encode_cursor(values: Sequence[Any]) -> str:
    """An opaque text for the place after a row."""
    text = json.dumps([str(v) if not isinstance(v, int) else v for v in values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, parsers: Sequence[Callable[[Any], Any]]) -> tuple[Any, ...]:
    """Raises ``InvalidError`` for a text that ``encode_cursor`` did not write."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(parsers):
            raise ValueError("wrong number of parts")
        return tuple(parse(value) for parse, value in zip(parsers, values, strict=True))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidError(
            "cursor: not one that this listing gave out; start again without a cursor"
        ) from error


def page(
    connection: Connection,
    query: Select[Any],
    request: PageRequest,
    order: Order,
    build: Callable[[Any], R],
    *,
    descending: bool = False,
) -> Page[R]:
    """One page by keyset. Raises ``InvalidError`` for a bad limit or cursor."""
    if not 1 <= request.limit <= MAX_LIMIT:
        raise InvalidError(f"limit: {request.limit} is not between 1 and {MAX_LIMIT}")
    columns = [column for column, _ in order]
    if request.cursor is not None:
        place = decode_cursor(request.cursor, [parse for _, parse in order])
        here = tuple_(*columns)
        query = query.where(here < place if descending else here > place)
    query = query.order_by(*(c.desc() if descending else c.asc() for c in columns)).limit(request.limit + 1)
    rows = connection.execute(query).all()
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    end = encode_cursor([rows[-1]._mapping[column] for column in columns]) if rows else None
    return Page(tuple(build(row) for row in rows), end if more else None, end)
