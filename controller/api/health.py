"""``GET /health``: whether the process lives, and whether it does its work."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel

from controller.domain.page import PageRequest
from controller.errors import ControllerError
from controller.ingest import IngestStatus
from controller.ports import Transactions

MAX_LAG_S = 30.0
"""Messages that wait longer than this for the database make the controller not ready."""


class IngestView(BaseModel):
    queued: int
    messages: int
    stored: int
    duplicates: int
    refused: int
    lost: int
    dropped: int
    sessions_lost: int
    last_commit_at: datetime | None
    lag_s: float


class Health(BaseModel):
    """``ready`` is false, and the answer 503, when any part of it is broken; ``problems`` says which."""

    ready: bool
    problems: list[str]
    database: bool
    broker: bool
    ingest: IngestView


def build_router(
    transactions: Transactions, ingest: Callable[[], IngestStatus], clock: Callable[[], datetime]
) -> APIRouter:
    """Without a token, for probes: it tells counts and what is broken, with addresses but without
    passwords; no contents."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live")
    def live() -> dict[str, bool]:
        """Whether the process answers at all."""
        return {"live": True}

    @router.get("/health", responses={503: {"model": Health}})
    def health(response: Response) -> Health:
        """Database, broker and ingest."""
        problems: list[str] = []
        try:
            with transactions.reading() as repositories:
                repositories.stores.page(PageRequest(1))
        except ControllerError as error:
            problems.append(str(error))
        database = not problems
        status = ingest()
        if status.bus.error or not status.bus.connected:
            problems.append(status.bus.error or "not connected to the MQTT broker yet")
        lag = (clock() - status.waiting_since).total_seconds() if status.waiting_since else 0.0
        if lag > MAX_LAG_S:
            problems.append(f"messages wait {lag:.0f} s for the database")
        if status.error and status.error not in problems:
            problems.append(status.error)
        response.status_code = 503 if problems else 200
        view = IngestView(
            queued=status.bus.queued,
            messages=status.messages,
            stored=status.stored,
            duplicates=status.duplicates,
            refused=status.refused,
            lost=status.lost,
            dropped=status.bus.dropped,
            sessions_lost=status.bus.sessions_lost,
            last_commit_at=status.last_commit_at,
            lag_s=max(0.0, lag),
        )
        return Health(
            ready=not problems,
            problems=problems,
            database=database,
            broker=status.bus.connected,
            ingest=view,
        )

    return router
