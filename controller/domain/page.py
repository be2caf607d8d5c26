"""One page of a listing. Every listing of the centre is paged: a fleet has no small tables."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None = None
    """Pass it as ``cursor`` for the following page; None when this is the last one."""
    end_cursor: str | None = None
    """The place after the last item, also on the last page: where to look for newer ones later.
    None only when there are no items."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    limit: int = DEFAULT_LIMIT
    """1 to ``MAX_LIMIT``."""
    cursor: str | None = None
    """``next_cursor`` or ``end_cursor`` of the page before."""
