"""Pages on the wire, and the query parameters that ask for them."""

from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from controller.domain.page import DEFAULT_LIMIT, MAX_LIMIT, PageRequest

T = TypeVar("T")


class Listing(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None = None
    """Pass it as ``cursor`` for the following page; null on the last one."""
    end_cursor: str | None = None
    """The place after the last item, to ask for newer ones later."""


def _page_request(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> PageRequest:
    return PageRequest(limit, cursor)


Paging = Annotated[PageRequest, Depends(_page_request)]
"""Parameter type of an endpoint that lists: ``limit`` and ``cursor``."""
