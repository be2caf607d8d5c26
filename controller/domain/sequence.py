"""The sequence check: which events of a stream are in, and which are missing.

A device numbers its events from 1 without gaps. They may arrive out of order, twice, or not at all.
The state is small whatever happens: the highest number seen and the ranges missing below it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

MAX_SEQUENCE = 2**53 - 1
"""Larger numbers are no honest count, and do not survive every JSON parser (RFC 8259, section 6)."""

MAX_GAPS = 500
"""Open gaps of one stream. A number that would open another is not counted as arrived: its device keeps
the event and sends it again once the gaps before it are closed."""


class StreamKey(NamedTuple):
    store: str
    device: str
    stream_id: UUID


@dataclass(frozen=True, slots=True)
class Gap:
    """Events ``first`` to ``last`` (inclusive) are missing since ``opened_at``."""

    first: int
    last: int
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of one stream. ``gaps`` are ascending, disjoint and below ``highest``."""

    highest: int = 0
    gaps: tuple[Gap, ...] = ()
    advanced_at: datetime | None = None
    """When ``committed`` last rose."""

    @property
    def committed(self) -> int:
        """Every event up to this number is accounted for."""
        return self.gaps[0].first - 1 if self.gaps else self.highest


def advance(stream: Stream, arrived: Iterable[int], now: datetime) -> Stream:
    """The stream after the events numbered ``arrived`` came in, in any order, repeats included.

    What is left of a partly filled gap keeps the time the gap was opened. See ``MAX_GAPS`` for numbers
    that are left out.
    """
    highest, gaps = stream.highest, list(stream.gaps)
    for number in sorted(set(arrived)):
        if number > highest:
            if number > highest + 1:
                if len(gaps) >= MAX_GAPS:
                    break
                gaps.append(Gap(highest + 1, number - 1, now))
            highest = number
            continue
        for index, gap in enumerate(gaps):
            if gap.first <= number <= gap.last:
                left = [Gap(gap.first, number - 1, gap.opened_at)] if number > gap.first else []
                right = [Gap(number + 1, gap.last, gap.opened_at)] if number < gap.last else []
                if left and right and len(gaps) >= MAX_GAPS:
                    break
                gaps[index : index + 1] = left + right
                break
    result = Stream(highest, tuple(gaps), stream.advanced_at)
    return Stream(highest, result.gaps, now) if result.committed > stream.committed else result


def give_up(
    stream: Stream, oldest_held: int, now: datetime, after_s: float
) -> tuple[Stream, tuple[Gap, ...]]:
    """Give up gaps that can no longer close, and say which.

    ``oldest_held`` is the lowest number that the device still has. It forgets only what was
    acknowledged, so a gap below it means that the centre lost data after acknowledging (a database
    restored from a backup) or that the device's disk did. Such a gap must be reported as lost, but
    must not hold up everything after it. Only gaps open for more than ``after_s`` count.
    """
    lost = tuple(
        gap
        for gap in stream.gaps
        if gap.last < oldest_held and (now - gap.opened_at).total_seconds() > after_s
    )
    if not lost:
        return stream, ()
    kept = tuple(gap for gap in stream.gaps if gap not in lost)
    return Stream(stream.highest, kept, now), lost
