"""Stored events as an EPCIS 2.0 document, for consumers that speak GS1.

A retraction becomes the retracted event with its error declaration, and an event that was retracted
is still listed as it was: EPCIS never takes an event back silently.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from contract.epcis import Vocabulary, declare_error, document, to_epcis
from contract.events import EVENT_ADAPTER, Event, Retracted, event_source
from contract.store_config import load_store_config
from controller.domain.event_log import EventFilter, StoredEvent
from controller.domain.page import PageRequest
from controller.ports import Repositories, Transactions


@dataclass(frozen=True, slots=True)
class Rendered:
    document: dict[str, Any]
    next_cursor: str | None


def render(
    transactions: Transactions, wanted: EventFilter, request: PageRequest, authority: str, now: datetime
) -> Rendered:
    """One page of events. Those that say nothing about goods, or whose SKU has no GTIN in the store's
    current planogram, have no rendering and are left out."""
    with transactions.reading() as repositories:
        page = repositories.events.page(wanted, request)
        vocabularies = _vocabularies(repositories, {event.store for event in page.items}, authority)
        events = [_restore(stored) for stored in page.items]
        wrong = repositories.events.get(e.data.retracts for e in events if isinstance(e, Retracted))
    rendered: list[dict[str, Any]] = []
    for event in events:
        vocabulary = vocabularies[event.store]
        if isinstance(event, Retracted):
            retracted = wrong.get(event.data.retracts)
            shown = declare_error(_restore(retracted), event, vocabulary) if retracted else None
        else:
            shown = to_epcis(event, vocabulary)
        if shown is not None:
            rendered.append(shown)
    return Rendered(document(rendered, now), page.next_cursor)


def _vocabularies(repositories: Repositories, stores: Iterable[str], authority: str) -> dict[str, Vocabulary]:
    found: dict[str, Vocabulary] = {}
    for store in stores:
        config = repositories.configs.current(store)
        found[store] = Vocabulary(_gtins(config.yaml) if config else {}, authority)
    return found


@lru_cache(maxsize=256)
def _gtins(config_yaml: str) -> dict[str, str]:
    """GTIN-14 by SKU. Cached: a page of events must not parse the same planogram again."""
    return {product.sku: product.gtin for product in load_store_config(config_yaml).planogram}


def _restore(stored: StoredEvent) -> Event:
    """The event as it crossed the wire."""
    return EVENT_ADAPTER.validate_python(
        {
            "id": stored.event_id,
            "type": stored.type,
            "source": event_source(stored.store, stored.device, stored.camera),
            "subject": stored.zone,
            "time": stored.event_time,
            "recordtime": stored.record_time,
            "streamid": stored.stream_id,
            "sequence": stored.sequence,
            "historical": stored.historical,
            "modelversion": stored.model_version,
            "modeldigest": stored.model_digest,
            "rolloutid": stored.rollout_id,
            "data": stored.data,
        }
    )
