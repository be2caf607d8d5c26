"""Whether a store may be changed now, by its own clock, and if not, when.

A window is open while the wall clock of the store shows a time in it, also where clocks jump: an hour that
does not exist is skipped (a window from 02:30 opens at 03:00 in the night when 02:00 to 03:00 is left out),
and what happens twice counts twice. On blackout days, from midnight to midnight, nothing is open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from controller.domain.rollout.spec import DAYS, Blackout, RolloutSpec, Window

_DAY = timedelta(days=1)
_WEEK = 8
"""Days to look at beyond the last blackout: each weekday, and a night into the next."""


@dataclass(frozen=True, slots=True)
class Open:
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    until: datetime | None
    """UTC; the moment when it opens next. None: never."""
    reason: str


def opens(spec: RolloutSpec, timezone: str, now: datetime) -> Open | Closed:
    """``now`` in UTC; ``timezone`` is an IANA name such as ``Europe/Berlin``."""
    if spec.emergency:
        return Open("emergency: windows and blackouts do not count")
    if not spec.windows and not spec.blackouts:
        return Open("no window is asked for")
    zone = _zone(timezone)
    if zone is None:
        return Closed(None, f"its time zone {timezone!r} is not known; correct it with an IANA name")
    wall = now.astimezone(zone)
    if _is_open(spec, wall):
        return Open("its window is open")
    until = _next_opening(spec, zone, now)
    blackout = _blackout(spec, wall.date())
    why = "waits for its window"
    if blackout is not None:
        why = f"blackout until {blackout.last}" + (f" ({blackout.reason})" if blackout.reason else "")
    if until is None:
        return Closed(None, f"{why}: it never opens")
    return Closed(until, f"{why}: opens {local(until, timezone)}")


def local(at: datetime, timezone: str) -> str:
    """For an operator: ``Tue 2026-03-03 22:00 Europe/Berlin``."""
    zone = _zone(timezone) or UTC
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M} {timezone if zone is not UTC else 'UTC'}"


def minutes_of(window: Window) -> int:
    """How long it is open on a day without a jump of the clock; 0: start and end are the same."""
    start, end = (t.hour * 60 + t.minute for t in (window.start, window.end))
    return (end - start) % 1440


def _zone(timezone: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # no such file, or a name that is none
        return None


def _is_open(spec: RolloutSpec, wall: datetime) -> bool:
    if _blackout(spec, wall.date()) is not None:
        return False
    if not spec.windows:
        return True
    today, yesterday, at = DAYS[wall.weekday()], DAYS[wall.weekday() - 1], wall.time()
    for window in spec.windows:
        if window.start < window.end:
            if today in window.days and window.start <= at < window.end:
                return True
        elif (today in window.days and at >= window.start) or (yesterday in window.days and at < window.end):
            return True
    return False


def _blackout(spec: RolloutSpec, day: date) -> Blackout | None:
    return next((blackout for blackout in spec.blackouts if blackout.first <= day <= blackout.last), None)


def _next_opening(spec: RolloutSpec, zone: ZoneInfo, now: datetime) -> datetime | None:
    """It opens when the clock shows a start or midnight, or when the clock jumps; nowhere else."""
    starts = {time(0), *(window.start for window in spec.windows)}
    for day in _days(spec, now.astimezone(zone).date()):
        moments = {
            datetime.combine(day, start, zone).replace(fold=fold).astimezone(UTC)
            for start in starts
            for fold in (0, 1)
        }
        moments.update(_jumps(day, zone))
        found = [at for at in moments if at > now and _is_open(spec, at.astimezone(zone))]
        if found:
            return min(found)
    return None


def _days(spec: RolloutSpec, day: date) -> Iterator[date]:
    """Days on which it may open: a week after ``day`` and after each blackout, without the blackouts."""
    ends = sorted(blackout.last for blackout in spec.blackouts if blackout.last >= day)
    for begin in (day - _DAY, *ends):
        for offset in range(1 + _WEEK):
            if begin >= date.max - _DAY * (2 + _WEEK):
                return
            candidate = begin + _DAY * offset
            if candidate >= day and _blackout(spec, candidate) is None:
                yield candidate


def _jumps(day: date, zone: ZoneInfo) -> Iterator[datetime]:
    """Where the offset of the zone changes on this day; at most once."""
    low = datetime.combine(day, time(0), zone).astimezone(UTC) - timedelta(hours=3)
    high = low + timedelta(hours=30)
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=1) // 2)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    if high.astimezone(zone).date() == day:  # else it is the next day's
        yield high
