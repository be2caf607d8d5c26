"""What a rollout would do, before anybody starts it: stores by wave, bytes, time, and what is in the way."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.domain.deployment import State
from controller.domain.rollout.selection import Selected
from controller.domain.rollout.spec import RolloutSpec, format_duration
from controller.domain.rollout.state import Status, StoreNow
from controller.domain.rollout.windows import Closed, Open, opens

PER_STORE = timedelta(minutes=2)
"""From the apply until a store is ready, if nothing better is known."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class WavePreview:
    name: str
    stores: tuple[str, ...]
    to_fetch: int
    """Stores whose nodes do not have the model yet."""
    wan_bytes: int
    """Model bytes over the stores' lines: once a store, since its nodes fetch from one another."""
    begins_at: datetime | None
    ends_at: datetime | None
    """Soak included. None: a store of it has no time at which it may be changed."""
    obstacles: tuple[str, ...]
    """What would hold it up as things are now, in words."""


@dataclass(frozen=True, slots=True)
class Preview:
    waves: tuple[WavePreview, ...]
    wan_bytes: int
    ends_at: datetime | None
    assumptions: tuple[str, ...]
    """What the estimate takes for granted."""


def preview(
    spec: RolloutSpec,
    selected: Selected,
    now_of: Mapping[str, StoreNow],
    *,
    now: datetime,
    model_bytes: int,
    others: Mapping[str, Status] = {},
    per_store: timedelta = PER_STORE,
    missing: Sequence[str] = (),
) -> Preview:
    """``now_of``: of each target. ``model_bytes``: size of the release's artifact. ``others``: how the
    rollouts named in ``after`` stand. ``missing``: what keeps it from being started at all, in words."""
    total = len(selected.targets)
    slots = max(1, spec.limits.concurrency.at_most(total))
    windows = _Windows(spec)
    waves: list[WavePreview] = []
    begins: datetime | None = now
    for number, names in enumerate(selected.waves):
        stores = [now_of[name] for name in names]
        fetch = sum(not _runs(spec, store) and store.staged is not True for store in stores)
        due = [s for s in stores if _takes_part(spec, s, now)]
        ends = None if begins is None else _ends(due, begins, slots, windows, per_store)
        ends = None if ends is None else ends + spec.waves[number].soak
        obstacles = tuple(_obstacles(spec, number, stores, now, others, windows))
        obstacles = (*missing, *obstacles) if number == 0 else obstacles
        wan = fetch * model_bytes
        waves.append(WavePreview(spec.waves[number].name, names, fetch, wan, begins, ends, obstacles))
        begins = ends
    if begins is not None and spec.deadline is not None and begins > spec.deadline:
        late = f"would end after the deadline, {spec.deadline:%Y-%m-%d %H:%M} UTC"
        waves[-1] = replace(waves[-1], obstacles=(*waves[-1].obstacles, late))
    assumed = (
        f"a store needs {format_duration(per_store)} from the apply until it is ready",
        f"{slots} stores at a time",
        "gates pass and approvals come as soon as they are asked for",
        "stores that are out of reach, deferred or claimed by other rollouts are left behind by their wave",
    )
    return Preview(tuple(waves), sum(wave.wan_bytes for wave in waves), begins, assumed)


class _Windows:
    """Remembers what was asked: stores of one time zone share the answer."""

    def __init__(self, spec: RolloutSpec) -> None:
        self._spec = spec
        self._known: dict[tuple[str, datetime], Open | Closed] = {}

    def at(self, timezone: str, now: datetime) -> Open | Closed:
        key = (timezone, now)
        if key not in self._known:
            self._known[key] = opens(self._spec, timezone, now)
        return self._known[key]

    def next(self, timezone: str, now: datetime) -> datetime | None:
        """The first moment from ``now`` on at which a store of this zone may be changed; None: never."""
        state = self.at(timezone, now)
        return now if isinstance(state, Open) else state.until


def _runs(spec: RolloutSpec, store: StoreNow) -> bool:
    return store.release == spec.release and store.state == State.READY


def _takes_part(spec: RolloutSpec, store: StoreNow, now: datetime) -> bool:
    deferred = not spec.emergency and store.deferred_until is not None and store.deferred_until > now
    return store.reachable and not deferred and not store.claimed_by and not _runs(spec, store)


def _ends(
    due: Sequence[StoreNow], begins: datetime, slots: int, windows: _Windows, per_store: timedelta
) -> datetime | None:
    """When the last store is ready, if each of ``slots`` places goes to whose window opens first."""
    openings = [(windows.next(store.timezone, begins), store) for store in due]
    known = [(at, store) for at, store in openings if at is not None]
    if len(known) < len(due):
        return None
    known.sort(key=lambda pair: (pair[0], pair[1].store))
    free = [begins] * slots
    last = begins
    for opening, store in known:
        start = windows.next(store.timezone, max(opening, free[0]))
        if start is None:
            return None
        heapq.heapreplace(free, start + per_store)
        last = max(last, start + per_store)
    return last


def _obstacles(
    spec: RolloutSpec,
    number: int,
    stores: Sequence[StoreNow],
    now: datetime,
    others: Mapping[str, Status],
    windows: _Windows,
) -> list[str]:
    found = []
    if number == 0:
        for name in spec.after:
            status = others.get(name)
            if status != Status.SUCCEEDED:
                how = status.value if status else "not known"
                found.append(f"begins after rollout {name}, which is {how}")
    if spec.waves[number].approval:
        found.append("asks for somebody's approval")
    away = [s.store for s in stores if not s.reachable]
    if away:
        budget = spec.limits.offline.at_most(len(stores))
        what = "waits for them" if len(away) > budget else "goes on without them"
        found.append(f"{len(away)} out of reach ({_named(away)}), at most {budget} may be: {what}")
    deferred = [s.store for s in stores if s.deferred_until is not None and s.deferred_until > now]
    if deferred and not spec.emergency:
        found.append(f"{len(deferred)} deferred ({_named(deferred)})")
    never = [s.store for s in stores if windows.next(s.timezone, now) is None]
    if never:
        found.append(f"{len(never)} with no window that opens, or an unknown time zone ({_named(never)})")
    claimed = [s.store for s in stores if s.claimed_by]
    if claimed:
        owners = sorted({s.claimed_by for s in stores if s.claimed_by})
        found.append(f"{len(claimed)} claimed by {_named(owners)}")
    for gate in spec.gates:
        if gate.kind == "staged":
            staged = sum(s.staged is True for s in stores)
            if stores and 100 * staged < gate.percent * len(stores):
                found.append(f"{staged} of {len(stores)} staged, {gate.percent:g}% are asked for")
        if gate.kind == "shadow" and stores:
            found.append(f"its stores try the model beside their own, for {gate.min_frames} frames together")
    return found


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
