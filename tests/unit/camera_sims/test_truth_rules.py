"""The perfect observer, told short stories about one zone."""

from dataclasses import dataclass, field

import pytest

from camera_sims.truth import TICK_S, TruthRecord, ZoneObserver
from contract.names import StockLevel
from contract.store_config import Policy, Zone

ZONE = Zone(
    id="z1",
    camera="cam-1",
    sku="cola-can",
    capacity=6,
    low_at=2,
    polygon=((0, 0), (100, 0), (100, 50), (0, 50)),
)
POLICY = Policy(dwell_s=3, settle_s=0.7, occlusion_unknown_s=20)


@dataclass(frozen=True)
class Span:
    """For ``seconds``, this stands on the shelf."""

    seconds: float
    count: int
    covered: bool = False
    others: dict[str, int] = field(default_factory=dict)


def tell(*story: Span, policy: Policy = POLICY) -> list[TruthRecord]:
    observer, records = ZoneObserver(ZONE, policy), []
    tick, before, changed_at = 0, None, 0.0
    for span in story:
        for _ in range(round(span.seconds / TICK_S)):
            now = tick * TICK_S
            if span.count != before:
                before, changed_at = span.count, now
            records += observer.look(now, TICK_S, span.count, span.others, span.covered, changed_at)
            tick += 1
    return records


STORIES = {
    "a full shelf is known after the dwell time": ((Span(4, 6),), ["zone_known"]),
    "nothing is known before the dwell time": ((Span(2.9, 6),), []),
    "a low shelf is known and reported": ((Span(4, 2),), ["zone_known", "low_stock"]),
    "an empty shelf is known and reported": ((Span(4, 0),), ["zone_known", "out_of_stock"]),
    "a pick behind somebody shows when they have gone": (
        (Span(4, 6), Span(2, 5, covered=True), Span(5, 5)),
        ["zone_known", "facings_changed", "picked"],
    ),
    "what is put back before the dwell time never happened": (
        (Span(4, 6), Span(2, 5), Span(6, 6)),
        ["zone_known"],
    ),
    "down to the threshold is low stock": (
        (Span(4, 6), Span(2, 2, covered=True), Span(5, 2)),
        ["zone_known", "facings_changed", "picked", "low_stock"],
    ),
    "down to nothing at once is only out of stock": (
        (Span(4, 6), Span(5, 0)),
        ["zone_known", "facings_changed", "picked", "out_of_stock"],
    ),
    "from nothing up to low gives no alert": (
        (Span(4, 0), Span(5, 2)),
        ["zone_known", "out_of_stock", "facings_changed"],
    ),
    "from nothing up to stocked is restocked": (
        (Span(4, 0), Span(5, 6)),
        ["zone_known", "out_of_stock", "facings_changed", "restocked"],
    ),
    "a return that ends low stock is both": (
        (Span(4, 3), Span(5, 2), Span(5, 3)),
        ["zone_known", "facings_changed", "picked", "low_stock", "facings_changed", "put_back", "restocked"],
    ),
    "more than was picked is no return": (
        (Span(4, 4), Span(5, 3), Span(5, 6)),
        ["zone_known", "facings_changed", "picked", "facings_changed"],
    ),
    "a short occlusion keeps the belief": (
        (Span(4, 6), Span(19, 6, covered=True), Span(5, 6)),
        ["zone_known"],
    ),
    "a long occlusion makes it unknown, then known, then changed": (
        (Span(4, 6), Span(22, 0, covered=True), Span(5, 0)),
        ["zone_known", "zone_unknown", "zone_known", "facings_changed", "picked", "out_of_stock"],
    ),
    "a zone that was never seen does not become unknown": ((Span(30, 6, covered=True),), []),
    "glimpses add up to the dwell time": (
        (
            Span(4, 6),
            Span(1, 5, covered=True),
            *(Span(2.3, 5), Span(1, 5, covered=True)) * 2,
            Span(1, 5),
        ),
        ["zone_known", "facings_changed", "picked"],
    ),
    "a stranger is reported once": (
        (Span(4, 5), Span(9, 5, others={"jam-jar": 1})),
        ["zone_known", "misplaced"],
    ),
    "a stranger that comes again is reported again": (
        (Span(4, 5), Span(4, 5, others={"jam-jar": 1}), Span(4, 5), Span(4, 5, others={"jam-jar": 1})),
        ["zone_known", "misplaced", "misplaced"],
    ),
    "a stranger behind somebody is not seen": (
        (Span(4, 5), Span(9, 5, covered=True, others={"jam-jar": 1})),
        ["zone_known"],
    ),
}


@pytest.mark.parametrize(("story", "kinds"), STORIES.values(), ids=STORIES.keys())
def test_perfect_observer_reports(story: tuple[Span, ...], kinds: list[str]) -> None:
    assert [record.type for record in tell(*story)] == kinds


def test_event_says_when_it_happened_was_visible_and_is_reported() -> None:
    records = tell(Span(4, 6), Span(2, 2, covered=True), Span(5, 2))
    low = records[-1]
    assert low.type == "low_stock"
    assert low.changed_at == pytest.approx(4.0)
    assert low.observable_at == pytest.approx(6.0)
    # The last covered look is at 5.9 s: settled 0.7 s after it, believed 3 s later.
    assert low.time == pytest.approx(5.9 + 0.7 + 3.0, abs=TICK_S)
    assert (low.facings, low.previous_facings, low.level) == (2, 6, StockLevel.LOW)


def test_quantities_are_what_was_moved() -> None:
    records = {record.type: record for record in tell(Span(4, 3), Span(5, 0), Span(5, 6))}
    assert records["picked"].quantity == 3
    assert records["restocked"].quantity == 6


def test_hysteresis_keeps_low_until_the_margin_is_reached() -> None:
    policy = Policy(dwell_s=3, restock_margin=2)
    kinds = [record.type for record in tell(Span(4, 2), Span(5, 3), Span(5, 4), policy=policy)]
    assert kinds == ["zone_known", "low_stock", "facings_changed", "facings_changed", "restocked"]


def test_record_leaves_out_what_it_does_not_know() -> None:
    (known,) = tell(Span(4, 6))
    assert '"type": "zone_known"' in known.to_json()
    assert "null" not in known.to_json()
    assert "found_sku" not in known.to_json()
