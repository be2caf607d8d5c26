"""An event is marked late by how long it took, not by what the device's clock says."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import HISTORICAL_AFTER_S, EventBase
from controller.device_clocks import REMEMBERED, DeviceClocks
from controller.reading import Decoded, read


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


class Link:
    """A device whose clock shows ``skew_s`` more than the centre's, and its way to the centre."""

    def __init__(self, device: Any, skew_s: float = 0.0) -> None:
        self.device = device
        self.skew_s = skew_s
        self.clocks = DeviceClocks()

    def heartbeat(self, sent: datetime, delay_s: float = 0.0, *, retained: bool = False) -> None:
        message = self.device.heartbeat(at=sent + after(self.skew_s))
        received = sent + after(delay_s)
        self.clocks.mark(read(self.device.sent(message, at=received, retained=retained), received))

    def is_late(self, recorded: datetime, delay_s: float, **changes: Any) -> bool:
        event = self.device.event(1, recordtime=recorded + after(self.skew_s), time=recorded, **changes)
        received = recorded + after(delay_s)
        marked = self.clocks.mark(read(self.device.sent(event, at=received), received))
        assert isinstance(marked, Decoded)
        assert isinstance(marked.body, EventBase)
        assert marked.body.model_copy(update={"historical": event.historical}) == event
        return marked.body.historical


@pytest.mark.parametrize("skew_s", [0.0, 3600.0, -3600.0, 0.4])
def test_a_wrong_clock_makes_nothing_late_and_hides_no_delay(
    device: Any, now: datetime, skew_s: float
) -> None:
    link = Link(device, skew_s)
    link.heartbeat(now, 0.1)
    assert not link.is_late(now, 0.1)
    assert not link.is_late(now, HISTORICAL_AFTER_S)
    assert link.is_late(now, HISTORICAL_AFTER_S + 1)


def test_before_the_first_heartbeat_the_clock_is_believed(device: Any, now: datetime) -> None:
    assert not Link(device).is_late(now, 1)
    assert Link(device).is_late(now, 60)
    assert Link(device, skew_s=-3600).is_late(now, 1)


def test_heartbeats_that_were_stuck_as_well_do_not_excuse_events(device: Any, now: datetime) -> None:
    link = Link(device)
    link.heartbeat(now, 0.1)
    for second in range(1, 30):
        link.heartbeat(now + after(second), 60 - second)
    assert link.is_late(now + after(20), 40)


def test_a_heartbeat_that_the_broker_kept_says_nothing(device: Any, now: datetime) -> None:
    link = Link(device)
    link.heartbeat(now, 500, retained=True)
    assert link.is_late(now, 400)


def test_what_its_device_marked_stays_marked(device: Any, now: datetime) -> None:
    assert Link(device).is_late(now, 0, historical=True)


def test_a_clock_that_was_set_back_is_believed_after_a_while(device: Any, now: datetime) -> None:
    link = Link(device)
    link.heartbeat(now)
    link.skew_s = -3600
    minutes = int(2 * REMEMBERED.total_seconds() / 60) + 1
    for minute in range(minutes):
        link.heartbeat(now + after(60 * minute))
    assert not link.is_late(now + after(60 * minutes), 1)


def test_silent_devices_are_forgotten(device: Any, now: datetime) -> None:
    link = Link(device, skew_s=-3600)
    link.heartbeat(now)
    link.clocks.forget_silent(now + REMEMBERED)
    assert not link.is_late(now, 1)
    link.clocks.forget_silent(now + 4 * REMEMBERED)
    assert link.is_late(now, 1)


@given(
    skew_s=st.floats(-1e6, 1e6),
    delays=st.lists(st.floats(0, 3600), min_size=1, max_size=20),
    delay_s=st.floats(0, 3600),
)
def test_the_least_delayed_heartbeat_decides(
    new_device: Any, now: datetime, skew_s: float, delays: list[float], delay_s: float
) -> None:
    link = Link(new_device(), skew_s)
    for delay in delays:
        link.heartbeat(now, delay)
    least = min(delays)
    if abs(delay_s - least - HISTORICAL_AFTER_S) > 0.01 and max(delays) < REMEMBERED.total_seconds():
        assert link.is_late(now, delay_s) == (delay_s - least > HISTORICAL_AFTER_S)
