"""What a rollout's fields say only together: waves that overlap or do not add up, windows that never open.

Places are given as paths (``("waves", 1, "size")``), so that a file's problems get their lines and those of
an API request their fields. What depends on the fleet is ``selection``'s business.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from controller.domain.rollout.spec import RolloutSpec, Wave
from controller.domain.rollout.windows import Open, minutes_of, opens

Loc = tuple[int | str, ...]

_ZONES = ("Pacific/Kiritimati", "Etc/UTC", "Etc/GMT+12")
"""The first, a middle and the last clock of the world."""


def problems(spec: RolloutSpec, now: datetime | None = None) -> Iterator[tuple[Loc, str]]:
    """``now`` tells whether the deadline has passed; None: that is not looked at."""
    yield from _waves(spec.waves)
    yield from _times(spec, now)
    yield from _repeated(("select", "names"), spec.select.names)
    yield from _repeated(("strata",), spec.strata)
    excluded = set(spec.select.exclude.names)
    for i, name in enumerate(spec.select.names):
        if name in excluded:
            yield ("select", "names", i), f"store {name} is selected and excluded"
    for i, name in enumerate(spec.after):
        if name == spec.name:
            yield ("after", i), "a rollout cannot come after itself"
    kinds: set[str] = set()
    for i, gate in enumerate(spec.gates):
        if gate.kind in kinds and gate.kind not in ("webhook", "prometheus"):
            yield ("gates", i, "kind"), f"there are two {gate.kind} gates"
        kinds.add(gate.kind)


def _waves(waves: Sequence[Wave]) -> Iterator[tuple[Loc, str]]:
    names: set[str] = set()
    stores: dict[str, str] = {}
    rest: str | None = None
    percent, counted, labelled = 0.0, False, False
    taken: dict[tuple[str, str], str] = {}
    for i, wave in enumerate(waves):
        where: Loc = ("waves", i)
        if wave.name in names:
            yield (*where, "name"), f"there are two waves {wave.name}"
        names.add(wave.name)
        if rest is not None and not wave.names:
            yield where, f"wave {wave.name} is empty: wave {rest} before it takes all stores that are left"
        for j, store in enumerate(wave.names):
            if store in stores:
                yield (*where, "names", j), f"store {store} is also in wave {stores[store]}"
            stores[store] = wave.name
        yield from _overlap(where, wave, taken)
        if wave.size is None and not wave.labels and not wave.names:
            rest = wave.name
        elif wave.size is not None and wave.size.percent is not None:
            percent += wave.size.percent
        counted |= wave.size is not None and wave.size.count is not None
        labelled |= bool(wave.labels or wave.names)
        if wave.size is not None and 0 in (wave.size.count, wave.size.percent):
            yield (*where, "size"), f"wave {wave.name} has no store; leave it out"
        if percent > 100 + 1e-9 and wave.size is not None and wave.size.percent:
            yield (*where, "size"), f"the waves add up to {percent:g}%, more than all stores"
    if rest is None and not counted and not labelled and percent < 100 - 1e-9:
        words = f"the waves add up to {percent:g}%: {100 - percent:g}% of the stores are in none; "
        yield ("waves",), words + "end with a wave that has only a name"


def _overlap(where: Loc, wave: Wave, taken: dict[tuple[str, str], str]) -> Iterator[tuple[Loc, str]]:
    """Waves by one label alone, the same value twice: the second one would find nobody."""
    if len(wave.labels) != 1 or wave.size is not None:
        return
    for label, values in wave.labels.items():
        for value in values:
            if (label, value) in taken:
                words = f"stores with {label}={value} are all in wave {taken[label, value]} already"
                yield (*where, "labels", label), words
            taken[label, value] = wave.name


def _times(spec: RolloutSpec, now: datetime | None) -> Iterator[tuple[Loc, str]]:
    empty = False
    for i, window in enumerate(spec.windows):
        if minutes_of(window) == 0 and window.start == window.end:
            empty = True
            yield ("windows", i), "never opens: it ends when it starts; leave windows out for any time"
        if window.start.tzinfo or window.end.tzinfo:
            yield ("windows", i), "is by each store's own clock; leave the time zone out"
            empty = True
    for i, blackout in enumerate(spec.blackouts):
        if blackout.last < blackout.first:
            yield ("blackouts", i, "last"), f"{blackout.last} is before the first day, {blackout.first}"
    if now is None or spec.deadline is None:
        return
    if spec.deadline <= now:
        yield ("deadline",), f"{spec.deadline:%Y-%m-%d %H:%M} UTC is past"
    elif not empty and not spec.emergency and not any(_opens_by(spec, zone, now) for zone in _ZONES):
        part = "windows" if spec.windows else "blackouts"
        yield (part,), f"no window opens anywhere before the deadline, {spec.deadline:%Y-%m-%d %H:%M} UTC"


def _opens_by(spec: RolloutSpec, timezone: str, now: datetime) -> bool:
    state = opens(spec, timezone, now)
    if isinstance(state, Open):
        return True
    return state.until is not None and spec.deadline is not None and state.until < spec.deadline


def _repeated(where: Loc, values: Sequence[str]) -> Iterator[tuple[Loc, str]]:
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            yield (*where, i), f"{value} is given twice"
        seen.add(value)
