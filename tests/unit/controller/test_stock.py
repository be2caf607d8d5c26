"""The stock projection: newer evidence wins, whatever the order of arrival."""

import random
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.names import StockLevel
from controller.domain.stock import ZoneStock, apply, history_of, retraction_of


def fold(events: list[Any]) -> ZoneStock | None:
    stock = None
    for event in events:
        stock = apply(stock, event)
    return stock


def test_an_event_says_what_is_in_the_zone(device: Any) -> None:
    event = device.event(3, "low_stock", data={"facings": 2, "level": "low"})
    stock = apply(None, event)
    assert stock is not None
    assert (stock.store, stock.zone, stock.sku, stock.level, stock.facings, stock.capacity) == (
        "berlin-01", "zone-1", "cola", StockLevel.LOW, 2, 6,
    )  # fmt: skip
    assert (stock.event_id, stock.sequence, stock.model_digest) == (event.id, 3, event.modeldigest)


def test_unknown_has_no_facings_and_a_reason(device: Any) -> None:
    known = device.event(1, data={"facings": 5})
    lost = device.event(2, "zone_unknown", data={"facings": 5})
    stock = fold([known, lost])
    assert stock is not None
    assert (stock.level, stock.facings, stock.reason) == (StockLevel.UNKNOWN, None, "camera_unhealthy")


def test_a_camera_event_changes_no_stock(device: Any) -> None:
    before = apply(None, device.event(1))
    assert apply(before, device.event(2, "status_changed")) is before
    assert history_of(device.event(2, "status_changed")) is None


def test_level_since_changes_only_with_the_level(device: Any) -> None:
    first, second = device.event(1), device.event(2)
    third = device.event(3, "low_stock", data={"level": "low"})
    stocked, low = fold([first, second]), fold([first, second, third])
    assert stocked is not None
    assert low is not None
    assert (stocked.level_since, low.level_since) == (first.time, third.time)


def test_in_one_stream_the_sequence_decides_even_when_the_clock_jumps_back(device: Any) -> None:
    before = device.event(5)
    after_jump = device.event(6, time=before.time - timedelta(hours=1))
    stock = fold([before, after_jump])
    assert stock is not None
    assert stock.sequence == 6


@pytest.mark.parametrize(("later_s", "wins"), [(1, "new"), (-1, "old"), (0, "old")])
def test_between_streams_the_event_time_decides(device: Any, later_s: int, wins: str) -> None:
    old = device.event(900)
    new = device.event(1, streamid=uuid4(), time=old.time + timedelta(seconds=later_s))
    stock = fold([old, new])
    assert stock is not None
    assert stock.event_id == {"new": new.id, "old": old.id}[wins]


@given(order=st.permutations(range(1, 13)), repeats=st.lists(st.integers(1, 12), max_size=6))
def test_reordered_and_repeated_events_end_in_the_same_stock(order: list[int], repeats: list[int]) -> None:
    events = EVENTS[:12]
    straight = fold(events)
    shuffled = fold([events[n - 1] for n in [*order, *repeats]])
    assert straight is not None
    assert shuffled is not None
    assert (shuffled.event_id, shuffled.level, shuffled.facings) == (
        straight.event_id, straight.level, straight.facings,
    )  # fmt: skip


def test_only_a_retraction_retracts(device: Any) -> None:
    wrong = uuid4()
    event = device.event(2, "retracted", data={"retracts": str(wrong)})
    assert retraction_of(event) == (wrong, event.id)
    assert retraction_of(device.event(3)) is None


EVENTS: list[Any] = []


@pytest.fixture(autouse=True)
def _some_events(new_device: Any) -> None:
    if not EVENTS:
        chance, device = random.Random(7), new_device()
        levels = ["stocked", "low", "out_of_stock"]
        EVENTS.extend(device.event(n, data={"level": chance.choice(levels)}) for n in range(1, 13))


@pytest.mark.parametrize(
    ("epochs", "later_s", "wins"),
    [
        pytest.param((7, 8), -60, "second", id="the newer owner of the camera, though its clock is behind"),
        pytest.param((8, 7), 60, "first", id="what the former owner delivers late"),
        pytest.param((7, 7), 1, "second", id="same owner: time, as before"),
        pytest.param((None, 7), -1, "first", id="from before cameras were shared: time"),
        pytest.param((7, None), 1, "second", id="from after they were shared: time"),
    ],
)
def test_of_two_devices_that_watched_a_camera_the_higher_epoch_is_right(
    device: Any, epochs: tuple[int | None, int | None], later_s: int, wins: str
) -> None:
    first = device.event(5, cameraepoch=epochs[0])
    later = first.time + timedelta(seconds=later_s)
    second = device.event(1, streamid=uuid4(), time=later, cameraepoch=epochs[1])
    stock = fold([first, second])
    assert stock is not None
    assert stock.event_id == {"first": first.id, "second": second.id}[wins]
    assert stock.camera_epoch == {"first": epochs[0], "second": epochs[1]}[wins]
