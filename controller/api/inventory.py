"""What stands on the shelves, and the events that said so."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime

from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.api.views import ChangeView, EventView, ZoneView
from controller.domain.event_log import EventFilter, kind_of
from controller.epcis import render
from controller.errors import NotFoundError
from controller.ports import Repositories, Transactions


def build_router(
    transactions: Transactions, guard: Guard, clock: Callable[[], datetime], epcis_authority: str
) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["inventory"], dependencies=[Depends(guard.admin)])

    @router.get("/stock")
    def stock(paging: Paging, store: str | None = None) -> Listing[ZoneView]:
        """Current stock per zone, by store and zone. ``unknown`` is never empty."""
        with transactions.reading() as repositories:
            _refuse_unknown(repositories, store)
            page = repositories.stock.page(store, paging)
        return Listing[ZoneView].model_validate(page, from_attributes=True)

    @router.get("/stock/{store}/{zone}/history")
    def history(store: str, zone: str, paging: Paging) -> Listing[ChangeView]:
        """What events said of one zone, newest first."""
        with transactions.reading() as repositories:
            if not repositories.stock.zones([(store, zone)]):
                raise NotFoundError(f"no event has told of zone {zone} in store {store} yet")
            page = repositories.stock.history(store, zone, paging)
        return Listing[ChangeView].model_validate(page, from_attributes=True)

    @router.get("/events")
    def events(
        paging: Paging,
        store: str | None = None,
        device: str | None = None,
        camera: str | None = None,
        zone: str | None = None,
        type: Annotated[str | None, Query(description="such as out_of_stock")] = None,
        release: str | None = None,
        rollout_id: UUID | None = None,
        model_digest: str | None = None,
        since: Annotated[AwareDatetime | None, Query(description="event time at or after")] = None,
        until: Annotated[AwareDatetime | None, Query(description="event time before")] = None,
        after: Annotated[int | None, Query(ge=0, description="only events with a higher id")] = None,
        quarantined: Annotated[bool | None, Query(description="only those, or none of those")] = None,
        newest_first: bool = False,
    ) -> Listing[EventView]:
        """Events in order of arrival. To follow them, pass the last ``id`` as ``after``."""
        wanted = EventFilter(
            store=store,
            device=device,
            camera=camera,
            zone=zone,
            kind=kind_of(type) if type else None,
            release=release,
            rollout_id=rollout_id,
            model_digest=model_digest,
            since=since,
            until=until,
            quarantined=quarantined,
            after_id=after,
            newest_first=newest_first,
        )
        with transactions.reading() as repositories:
            _refuse_unknown(repositories, store)
            page = repositories.events.page(wanted, paging)
        return Listing[EventView].model_validate(page, from_attributes=True)

    @router.get("/epcis/events")
    def epcis_events(
        response: Response,
        paging: Paging,
        store: str | None = None,
        since: Annotated[AwareDatetime | None, Query(description="event time at or after")] = None,
        until: Annotated[AwareDatetime | None, Query(description="event time before")] = None,
    ) -> dict[str, Any]:
        """Events as an EPCIS 2.0 document. Those without goods or GTIN, and those in quarantine, are left
        out, so that a page may hold fewer than ``limit``, even none; the following page is in the ``Link``
        header."""
        with transactions.reading() as repositories:
            _refuse_unknown(repositories, store)
        wanted = EventFilter(store=store, since=since, until=until, quarantined=False)
        rendered = render(transactions, wanted, paging, epcis_authority, clock())
        if rendered.next_cursor is not None:
            given: dict[str, object] = {"store": store, "since": since, "until": until}
            given |= {"limit": paging.limit, "cursor": rendered.next_cursor}
            query = urlencode({name: value for name, value in given.items() if value is not None})
            response.headers["Link"] = f'</v1/epcis/events?{query}>; rel="next"'
        return rendered.document

    return router


def _refuse_unknown(repositories: Repositories, store: str | None) -> None:
    """A misspelt store is no store without goods. Raises ``NotFoundError``."""
    if store is not None and repositories.stores.get(store) is None:
        raise NotFoundError(f"store {store[:80]!r} does not exist; GET /v1/stores lists those that do")
