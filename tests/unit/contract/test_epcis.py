from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from contract.epcis import Vocabulary, declare_error, document, to_epcis
from contract.events import Event, Retracted

VOCABULARY = Vocabulary({"cola-can": "09520000010010"}, "https://example.com")
COLA = "https://id.gs1.org/01/09520000010010"


@pytest.mark.parametrize(
    ("kind", "data", "action", "step", "quantity"),
    [
        ("facings_changed", {}, "OBSERVE", "cycle_counting", 2),
        ("zone_known", {"unknown_s": 3}, "OBSERVE", "cycle_counting", 2),
        ("low_stock", {}, "OBSERVE", "cycle_counting", 2),
        ("out_of_stock", {"facings": 0}, "OBSERVE", "cycle_counting", 0),
        ("misplaced", {"found_sku": "cola-can", "found_count": 1}, "OBSERVE", "cycle_counting", 1),
        ("restocked", {"quantity": 4}, "ADD", "stocking", 4),
        ("put_back", {"quantity": 1}, "ADD", "stocking", 1),
        ("picked", {"quantity": 3}, "DELETE", "removing", 3),
    ],
)
def test_rendering(
    make_event: Callable[..., Event], kind: str, data: dict[str, Any], action: str, step: str, quantity: int
) -> None:
    rendered = to_epcis(make_event(kind, **data), VOCABULARY)
    assert rendered is not None
    assert (rendered["type"], rendered["action"], rendered["bizStep"]) == ("ObjectEvent", action, step)
    assert rendered["quantityList"] == [{"epcClass": COLA, "quantity": quantity}]
    assert rendered["eventID"] == f"urn:uuid:{UUID(int=7)}"
    assert rendered["eventTime"] == "2026-05-04T10:00:00.250Z"
    assert rendered["eventTimeZoneOffset"] == "+00:00"
    place = "https://example.com/stores/berlin-01"
    assert rendered["readPoint"] == {"id": f"{place}/devices/node-1/cameras/aisle-1"}
    assert rendered["bizLocation"] == {"id": f"{place}/zones/a1-cola"}


@pytest.mark.parametrize("kind", ["low_stock", "out_of_stock"])
def test_alerts_are_an_extension(make_event: Callable[..., Event], kind: str) -> None:
    rendered = to_epcis(make_event(kind), VOCABULARY)
    assert rendered is not None
    assert rendered["storefleet:alert"] == kind


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("zone_unknown", {"reason": "occluded"}),
        ("status_changed", {"status": "dark"}),
        ("picked", {"quantity": 1, "sku": "without-gtin"}),
        ("facings_changed", {"facings": None}),
    ],
)
def test_what_says_nothing_about_goods_has_no_rendering(
    make_event: Callable[..., Event], kind: str, data: dict[str, Any]
) -> None:
    assert to_epcis(make_event(kind, **data), VOCABULARY) is None


def test_retraction_repeats_the_event_as_declared_wrong(make_event: Callable[..., Event]) -> None:
    alert = make_event("low_stock")
    retraction = make_event("retracted", retracts=alert.id, retracted_type=alert.type, reason="seen again")
    assert isinstance(retraction, Retracted)
    assert to_epcis(retraction, VOCABULARY) is None
    declared = declare_error(alert, retraction, VOCABULARY, [UUID(int=8)])
    assert declared is not None
    assert declared.pop("errorDeclaration") == {
        "declarationTime": "2026-05-04T10:00:01.000Z",
        "reason": "incorrect_data",
        "correctiveEventIDs": [f"urn:uuid:{UUID(int=8)}"],
    }
    assert declared == to_epcis(alert, VOCABULARY)


def test_retraction_of_another_event_is_a_mistake(make_event: Callable[..., Event]) -> None:
    retraction = make_event("retracted", retracts=UUID(int=1), retracted_type="x", reason="y")
    assert isinstance(retraction, Retracted)
    with pytest.raises(ValueError, match="not"):
        declare_error(make_event("low_stock"), retraction, VOCABULARY)


def test_document(make_event: Callable[..., Event]) -> None:
    rendered = to_epcis(make_event("picked", quantity=1), VOCABULARY)
    assert rendered is not None
    made = document([rendered], datetime(2026, 5, 4, tzinfo=UTC))
    assert made["schemaVersion"] == "2.0"
    assert made["epcisBody"]["eventList"] == [rendered]
    prefixes = {key.split(":")[0] for key in rendered if ":" in key}
    assert prefixes <= set(made["@context"][1])
