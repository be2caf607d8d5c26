from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.rollout.spec import DAYS, Blackout, RolloutSpec, Window
from controller.domain.rollout.windows import Closed, Open, local, opens

NIGHT = Window(days=("mon", "tue", "wed", "thu"), start=time(22), end=time(5))


def spec(*windows: Window, blackouts: tuple[Blackout, ...] = (), emergency: bool = False) -> RolloutSpec:
    return RolloutSpec(name="r", release="v2", windows=windows, blackouts=blackouts, emergency=emergency)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("zone", "now", "opening"),
    [
        ("UTC", utc(2026, 3, 3, 22), None),  # Tuesday
        ("UTC", utc(2026, 3, 3, 21, 59), utc(2026, 3, 3, 22)),
        ("UTC", utc(2026, 3, 4, 4, 59), None),
        ("UTC", utc(2026, 3, 4, 5), utc(2026, 3, 4, 22)),
        ("UTC", utc(2026, 3, 6, 4), None),  # Friday morning belongs to Thursday's window
        ("UTC", utc(2026, 3, 6, 23), utc(2026, 3, 9, 22)),
        ("Asia/Tokyo", utc(2026, 3, 3, 12), utc(2026, 3, 3, 13)),
        ("America/Los_Angeles", utc(2026, 3, 3, 12), None),
        ("Asia/Kathmandu", utc(2026, 3, 3, 12), utc(2026, 3, 3, 16, 15)),
    ],
)
def test_a_night_by_each_stores_own_clock(zone: str, now: datetime, opening: datetime | None) -> None:
    state = opens(spec(NIGHT), zone, now)
    assert (state.until if isinstance(state, Closed) else None) == opening


BERLIN = "Europe/Berlin"
SMALL_HOURS = Window(start=time(2, 30), end=time(4))


@pytest.mark.parametrize(
    ("window", "now", "opening"),
    [  # clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 back to 02:00 on 2026-10-25
        (SMALL_HOURS, utc(2026, 3, 29, 0, 59), utc(2026, 3, 29, 1)),
        (SMALL_HOURS, utc(2026, 3, 29, 1, 59), None),
        (SMALL_HOURS, utc(2026, 3, 29, 2), utc(2026, 3, 30, 0, 30)),
        (Window(start=time(2, 10), end=time(2, 50)), utc(2026, 3, 28, 12), utc(2026, 3, 30, 0, 10)),
        (SMALL_HOURS, utc(2026, 10, 25, 0), utc(2026, 10, 25, 0, 30)),
        (SMALL_HOURS, utc(2026, 10, 25, 0, 45), None),
        (SMALL_HOURS, utc(2026, 10, 25, 1, 15), utc(2026, 10, 25, 1, 30)),
        (Window(start=time(22), end=time(2, 30)), utc(2026, 10, 25, 0, 45), utc(2026, 10, 25, 1)),
    ],
)
def test_hours_that_do_not_exist_or_come_twice(
    window: Window, now: datetime, opening: datetime | None
) -> None:
    state = opens(spec(window), BERLIN, now)
    assert (state.until if isinstance(state, Closed) else None) == opening


def test_blackouts_close_whole_days_of_the_store_and_say_why() -> None:
    freeze = Blackout(first=date(2026, 12, 24), last=date(2026, 12, 26), reason="Christmas")
    state = opens(spec(NIGHT, blackouts=(freeze,)), BERLIN, utc(2026, 12, 24, 0))  # Thursday 01:00
    assert state == Closed(
        utc(2026, 12, 28, 21),
        "blackout until 2026-12-26 (Christmas): opens Mon 2026-12-28 22:00 Europe/Berlin",
    )
    state = opens(spec(blackouts=(freeze,)), BERLIN, utc(2026, 12, 25, 12))
    assert isinstance(state, Closed)
    assert state.until == utc(2026, 12, 26, 23)


def test_an_emergency_opens_everything() -> None:
    freeze = Blackout(first=date(2026, 1, 1), last=date(2026, 12, 31))
    assert isinstance(opens(spec(NIGHT, blackouts=(freeze,), emergency=True), "UTC", utc(2026, 3, 3)), Open)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "x\0y", "a" * 500])
def test_an_unknown_time_zone_is_a_reason_not_an_error(zone: str) -> None:
    state = opens(spec(NIGHT), zone, utc(2026, 3, 3))
    assert isinstance(state, Closed)
    assert state.until is None
    assert "not known" in state.reason
    assert "UTC" in local(utc(2026, 3, 3), zone)


def test_a_window_that_never_opens_says_so() -> None:
    forever = Blackout(first=date(2026, 1, 1), last=date(9999, 12, 31))
    state = opens(spec(NIGHT, blackouts=(forever,)), "UTC", utc(2026, 3, 3))
    assert isinstance(state, Closed)
    assert state.until is None


def test_an_hour_that_comes_twice_the_next_morning_does_not_hide_the_midnight_before() -> None:
    early = Window(days=("sun",), start=time(0, 0), end=time(1, 15))
    state = opens(spec(early), "America/New_York", utc(2026, 10, 26))
    assert isinstance(state, Closed)
    assert state.until == utc(2026, 11, 1, 4)


quarters = st.integers(0, 95).map(lambda n: time(n // 4, n % 4 * 15))
windows = st.builds(
    Window, days=st.sets(st.sampled_from(DAYS), min_size=1).map(tuple), start=quarters, end=quarters
).filter(lambda w: w.start != w.end)
days = st.dates(date(2026, 3, 20), date(2026, 4, 5)) | st.dates(date(2026, 10, 18), date(2026, 11, 3))
blackouts = st.builds(
    lambda first, n: Blackout(first=first, last=first + timedelta(n)), days, st.integers(0, 9)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(windows, max_size=2).map(tuple),
    st.lists(blackouts, max_size=3).map(tuple),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago"]),
    days,
    st.integers(0, 95),
)
def test_the_next_opening_is_what_walking_there_finds(
    some: tuple[Window, ...], freezes: tuple[Blackout, ...], zone: str, day: date, quarter: int
) -> None:
    asked = spec(*some, blackouts=freezes)
    now = datetime.combine(day, time(0), UTC) + timedelta(minutes=15 * quarter)
    state = opens(asked, zone, now)
    at = now
    while at < now + timedelta(days=40) and not _literally_open(asked, at.astimezone(ZoneInfo(zone))):
        at += timedelta(minutes=15)
    if isinstance(state, Open):
        assert at == now
    else:
        assert state.until == at


def _literally_open(asked: RolloutSpec, wall: datetime) -> bool:
    if any(b.first <= wall.date() <= b.last for b in asked.blackouts):
        return False
    minute = wall.hour * 60 + wall.minute
    for window in asked.windows:
        start = window.start.hour * 60 + window.start.minute
        length = (window.end.hour * 60 + window.end.minute - start) % 1440
        for begin in window.days:
            since = ((wall.weekday() - DAYS.index(begin)) % 7) * 1440 + minute - start
            if 0 <= since < length:
                return True
    return not asked.windows
