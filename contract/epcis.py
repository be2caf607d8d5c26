"""EPCIS 2.0 (JSON-LD) rendering of inventory events, for consumers that speak GS1.

=====================================  ==================  ========================
event                                  action              business step
=====================================  ==================  ========================
``facings_changed``, ``zone_known``    OBSERVE             ``cycle_counting``
``low_stock``, ``out_of_stock``        OBSERVE             ``cycle_counting``, with ``storefleet:alert``
``misplaced``                          OBSERVE             ``cycle_counting``, with ``storefleet:misplacedIn``
``restocked``, ``put_back``            ADD                 ``stocking``
``picked``                             DELETE              ``removing``
``retracted``                          the retracted event again, with an ``errorDeclaration``
=====================================  ==================  ========================

``zone_unknown`` and camera events say nothing about goods and have no rendering. Quantities are visible
front faces, not stock on hand; an empty zone has quantity 0. Fields that EPCIS does not have are under
the prefix ``storefleet:``. Vocabulary: GS1 CBV 2.0, section 7.1 (business steps).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contract.events import (
    Event,
    EventBase,
    FacingsChanged,
    LowStock,
    Misplaced,
    OutOfStock,
    Picked,
    PutBack,
    Restocked,
    Retracted,
    ZoneKnown,
)

CONTEXT: list[Any] = [
    "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld",
    {"storefleet": "urn:storefleet:v1:"},
]
"""``@context`` of a document."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What an event does not carry: which GTIN-14 a SKU has, and the URI under which places are named.

    ``authority`` is an absolute URI of the retailer without a trailing slash; places become
    ``{authority}/stores/{store}/…``.
    """

    gtins: Mapping[str, str]
    authority: str

    def epc_class(self, sku: str) -> str | None:
        """GS1 Digital Link URI of the SKU's GTIN (GS1 Digital Link 1.3, class level), None if unknown."""
        gtin = self.gtins.get(sku)
        return None if gtin is None else f"https://id.gs1.org/01/{gtin}"


def to_epcis(event: Event, vocabulary: Vocabulary) -> dict[str, Any] | None:
    """One EPCIS ObjectEvent, or None when the event says nothing about goods, its SKU has no GTIN, or it is
    a retraction (see ``declare_error``)."""
    match event:
        case FacingsChanged() | ZoneKnown():
            count = event.data.facings
            return _object_event(event, vocabulary, "OBSERVE", "cycle_counting", event.data.sku, count)
        case LowStock() | OutOfStock():
            count, alert = event.data.facings, {"storefleet:alert": event.kind}
            return _object_event(event, vocabulary, "OBSERVE", "cycle_counting", event.data.sku, count, alert)
        case Misplaced():
            where = {"storefleet:misplacedIn": event.subject}
            found, count = event.data.found_sku, event.data.found_count
            return _object_event(event, vocabulary, "OBSERVE", "cycle_counting", found, count, where)
        case Restocked() | PutBack():
            added = event.data.quantity
            return _object_event(event, vocabulary, "ADD", "stocking", event.data.sku, added)
        case Picked():
            taken = event.data.quantity
            return _object_event(event, vocabulary, "DELETE", "removing", event.data.sku, taken)
    return None


def declare_error(
    retracted: Event, retraction: Retracted, vocabulary: Vocabulary, corrective: Iterable[UUID] = ()
) -> dict[str, Any] | None:
    """The event that ``retraction`` takes back, declared erroneous (EPCIS 2.0, section 7.4.1.4): the same
    event again with ``errorDeclaration``. None when the event has no rendering.

    Raises ``ValueError`` when ``retraction`` is about another event.
    """
    if retraction.data.retracts != retracted.id:
        raise ValueError(f"{retraction.id} retracts {retraction.data.retracts}, not {retracted.id}")
    rendered = to_epcis(retracted, vocabulary)
    if rendered is None:
        return None
    declaration: dict[str, Any] = {
        "declarationTime": _time(retraction.recordtime),
        "reason": "incorrect_data",
        "correctiveEventIDs": [_urn(event_id) for event_id in corrective],
    }
    if not declaration["correctiveEventIDs"]:
        del declaration["correctiveEventIDs"]
    return rendered | {"errorDeclaration": declaration}


def document(events: Iterable[Mapping[str, Any]], created: datetime) -> dict[str, Any]:
    """An ``EPCISDocument`` with these events. ``created`` has a time zone."""
    return {
        "@context": CONTEXT,
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": _time(created),
        "epcisBody": {"eventList": [dict(event) for event in events]},
    }


def _object_event(
    event: EventBase,
    vocabulary: Vocabulary,
    action: str,
    step: str,
    sku: str,
    quantity: int | None,
    extension: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    epc_class = vocabulary.epc_class(sku)
    if epc_class is None or quantity is None:
        return None
    shop = f"{vocabulary.authority}/stores/{event.store}"
    return {
        "type": "ObjectEvent",
        "eventID": _urn(event.id),
        "eventTime": _time(event.time),
        "eventTimeZoneOffset": "+00:00",
        "recordTime": _time(event.recordtime),
        "action": action,
        "bizStep": step,
        "readPoint": {"id": vocabulary.authority + event.source},
        "bizLocation": {"id": f"{shop}/zones/{event.subject}"},
        "quantityList": [{"epcClass": epc_class, "quantity": quantity}],
        "storefleet:type": event.type,
        "storefleet:streamId": str(event.streamid),
        "storefleet:sequence": event.sequence,
        "storefleet:modelDigest": event.modeldigest,
        **(extension or {}),
    }


def _urn(event_id: UUID) -> str:
    return f"urn:uuid:{event_id}"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
