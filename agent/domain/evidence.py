"""How many looks make a belief.

A detector overlooks each item now and then, a box flickers, a pack stands half in the shadow. So a
count is believed only from a window of looks that spans the dwell time, and moves only when the window
is clear about it:

* *down* to ``c`` when at least ``FEWER_SHARE`` of the looks see at most ``c`` (counting even unsure
  detections): a missed item is the usual mistake, so "gone" needs the stronger evidence;
* *up* to ``c`` when at least ``MORE_SHARE`` of them surely see ``c`` or more;
* otherwise the belief is held. The gap between the two shares is a hysteresis: an item seen in a third
  of the frames neither comes nor goes.

The window's oldest look must agree with the change, so that a clean change is believed exactly one
dwell after it was first seen, not when it fills most of the window; its newer half must agree on the
count, so that several changes in a row are believed when they are over. One flicker neither changes
the belief nor restarts the clock.

Time here is *observable time*: a clock that stands still while a zone cannot be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FEWER_SHARE = 0.8
"""With items overlooked independently at 3 % a frame, six of them are all seen in 83 % of frames: the
share of too-low counts in 16 looks practically never reaches 80 % (binomial, below 1e-8)."""
MORE_SHARE = 0.5
"""A majority: things do not appear by mistake in half of the frames, but an item at the back that is
seen in half of them is there."""
MIN_LOOKS = 3
"""Fewer looks are no evidence, however far apart."""
MAX_LOOKS = 120
"""A window holds about this many looks; faster cameras are thinned out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look in the window. ``clock`` is observable time in seconds."""

    clock: float
    count: int
    count_at_most: int
    others: tuple[tuple[str, int], ...] = ()
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The looks of the last ``span`` seconds of observable time, oldest first."""

    clock: float = 0.0
    looks: tuple[Seen, ...] = ()


def add(evidence: Evidence, elapsed: float, look: Seen, span: float) -> Evidence:
    """``look`` (its ``clock`` is ignored) after ``elapsed`` more seconds of observable time.

    The first look after an interruption (``elapsed`` 0) takes the place of the last one before it.
    """
    clock = evidence.clock + elapsed
    looks = evidence.looks
    if elapsed == 0:
        looks = looks[:-1]
    if looks and clock - looks[-1].clock < span / MAX_LOOKS:
        return Evidence(clock, looks)
    looks = (
        *looks,
        Seen(clock, look.count, look.count_at_most, look.others, look.confidence),
    )
    return Evidence(clock, looks[_start(looks, clock, span) :])


def window(evidence: Evidence, span: float) -> tuple[Seen, ...]:
    """The latest looks that reach back ``span`` seconds; empty when there is not that much yet."""
    looks = evidence.looks
    if len(looks) < MIN_LOOKS or evidence.clock - looks[0].clock < span - _TICK:
        return ()
    return looks[_start(looks, evidence.clock, span) :]


_TICK = 1e-6
"""Rounding of frame times."""


def _start(looks: Sequence[Seen], clock: float, span: float) -> int:
    """Index of the newest look that still reaches back ``span`` seconds (0 if none does)."""
    start = 0
    while len(looks) - start > MIN_LOOKS and clock - looks[start + 1].clock >= span - _TICK:
        start += 1
    return start


def believed(looks: Sequence[Seen], belief: int | None) -> int | None:
    """The facings to believe after a full window of ``looks``; None while they are of two minds."""
    if belief is None:
        return at_most([look.count for look in looks], FEWER_SHARE)
    unsure = [look.count_at_most for look in looks]
    fewer = at_most(unsure, FEWER_SHARE)
    if fewer < belief:
        steady = fewer == at_most(unsure[len(unsure) // 2 :], FEWER_SHARE)
        return fewer if steady and unsure[0] <= fewer else None
    sure = [look.count for look in looks]
    more = at_least(sure, MORE_SHARE)
    if more > belief:
        steady = more == at_least(sure[len(sure) // 2 :], MORE_SHARE)
        return more if steady and sure[0] >= more else None
    return belief


def at_most(counts: Sequence[int], share: float) -> int:
    """The smallest ``c`` such that at least ``share`` of ``counts`` are ``c`` or fewer."""
    return sorted(counts)[_rank(len(counts), share) - 1]


def at_least(counts: Sequence[int], share: float) -> int:
    """The largest ``c`` such that at least ``share`` of ``counts`` are ``c`` or more."""
    return sorted(counts, reverse=True)[_rank(len(counts), share) - 1]


def _rank(n: int, share: float) -> int:
    return max(1, -(-round(n * share * 1000) // 1000))


def agrees(looks: Sequence[Seen], belief: int) -> bool:
    """Whether most of ``looks`` see exactly ``belief``."""
    return 2 * sum(look.count <= belief <= look.count_at_most for look in looks) > len(looks)


def strangers(looks: Sequence[Seen]) -> tuple[dict[str, int], set[str]]:
    """Other SKUs in a full window: those that stood there all along with their count, and those that
    were in a few frames or more (whoever is in neither is gone)."""
    everyone = {sku for look in looks for sku, _ in look.others}
    standing: dict[str, int] = {}
    about: set[str] = set()
    for sku in sorted(everyone):
        counts = [dict(look.others).get(sku, 0) for look in looks]
        share = sum(count > 0 for count in counts) / len(counts)
        if share >= FEWER_SHARE and counts[0]:
            standing[sku] = at_least(counts, MORE_SHARE)
        if share > 1 - FEWER_SHARE:
            about.add(sku)
    return standing, about


def mean_confidence(looks: Sequence[Seen]) -> float | None:
    known = [look.confidence for look in looks if look.confidence is not None]
    return round(sum(known) / len(known), 4) if known else None
