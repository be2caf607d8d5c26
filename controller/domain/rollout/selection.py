"""Which stores a rollout is for, and in which wave each of them is.

The same fleet and the same file always give the same waves: where stores are chosen, a hash of the rollout's
and the store's name decides, so that each rollout has other canaries and nobody picks them. The first wave
has at least one store of every value of each label in ``strata``; a first wave that cannot have them is
refused, with what is missing, instead of being made larger than its owner wanted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil

from controller.domain.rollout.spec import RolloutSpec, Wave

_SHOWN = 5
_TRIES = 8
"""Orders in which a small cover is looked for. The smallest one is a hard problem (set cover); of these, the
best is taken."""

Pair = tuple[str, str]
"""A label and one of its values."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Selected:
    waves: tuple[tuple[str, ...], ...]
    """As many as the spec has; each sorted by name."""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(store for wave in self.waves for store in wave)


@dataclass(frozen=True, slots=True)
class Refusal:
    problems: tuple[str, ...]


def select(spec: RolloutSpec, fleet: Sequence[StoreFacts]) -> Selected | Refusal:
    """Linear in the size of the fleet, but for the sorting. The spec has no ``problems`` of its own."""
    known = {store.name for store in fleet}
    problems = tuple(_unknown_names(spec, known))
    if problems:
        return Refusal(problems)
    targets = sorted(_matching(spec, fleet), key=lambda store: _draw(spec.name, store.name))
    if spec.select.percent is not None:
        targets = targets[: ceil(len(targets) * spec.select.percent / 100 - 1e-9)]
    if not targets:
        return Refusal((f"select: none of {len(fleet)} stores matches; nothing would be rolled out",))
    return _into_waves(spec, targets)


def _unknown_names(spec: RolloutSpec, known: frozenset[str] | set[str]) -> Iterable[str]:
    places = [("select.names", spec.select.names), ("select.exclude.names", spec.select.exclude.names)]
    places += [(f"waves[{i}].names", wave.names) for i, wave in enumerate(spec.waves)]
    for place, names in places:
        unknown = [name for name in names if name not in known]
        if unknown:
            yield f"{place}: there is no store {_named(unknown)}"


def _matching(spec: RolloutSpec, fleet: Sequence[StoreFacts]) -> list[StoreFacts]:
    selector, exclude = spec.select, spec.select.exclude
    wanted, unwanted = frozenset(selector.names), frozenset(exclude.names)
    return [
        store
        for store in fleet
        if (not wanted or store.name in wanted)
        and _has(store, selector.labels)
        and store.name not in unwanted
        and not (exclude.labels and _has(store, exclude.labels))
    ]


def _has(store: StoreFacts, labels: Mapping[str, Sequence[str]]) -> bool:
    return all(store.labels.get(label) in values for label, values in labels.items())


def _draw(*words: str) -> bytes:
    return blake2b("/".join(words).encode(), digest_size=8).digest()


def _into_waves(spec: RolloutSpec, targets: list[StoreFacts]) -> Selected | Refusal:
    """``targets`` in the order in which they are drawn."""
    problems: list[str] = []
    left = {store.name: store for store in targets}
    reserved = {name for wave in spec.waves for name in wave.names}
    waves: list[tuple[str, ...]] = []
    for number, wave in enumerate(spec.waves):
        absent = [name for name in wave.names if name not in left]
        if absent:
            problems.append(f"wave {wave.name}: {_named(absent)} is no target; the selector leaves it out")
        fixed = [left[name] for name in wave.names if name in left]
        pool = [s for s in left.values() if s.name not in reserved and _has(s, wave.labels)]
        takes_more = bool(wave.labels) or wave.size is not None or not wave.names
        size = wave.size.at_least(len(targets)) if wave.size is not None else len(left)
        room = max(0, size - len(fixed)) if takes_more else 0
        if number == 0 and spec.strata:
            chosen, found = _stratified(spec, targets, fixed, pool, room)
            problems += found
        else:
            chosen = pool[:room]
        if wave.labels and not chosen and not fixed:
            problems.append(f"wave {wave.name}: no store that is left has {_labels(wave)}")
        members = sorted(store.name for store in (*fixed, *chosen))
        waves.append(tuple(members))
        for name in members:
            del left[name]
    if left:
        problems.append(f"no wave takes {_named(sorted(left))}; end with a wave that has only a name")
    return Refusal(tuple(problems)) if problems else Selected(tuple(waves))


def _stratified(
    spec: RolloutSpec, targets: list[StoreFacts], fixed: list[StoreFacts], pool: list[StoreFacts], room: int
) -> tuple[list[StoreFacts], list[str]]:
    """The first wave beyond its ``fixed`` stores: at most ``room`` of ``pool``; and what is wrong with it."""
    name, problems = spec.waves[0].name, []
    for label in spec.strata:
        without = sorted(store.name for store in targets if label not in store.labels)
        if without:
            problems.append(f"strata: {_named(without)} has no label {label}; label it or exclude it")
    if problems:
        return pool[:room], problems
    needed = set().union(*(_pairs(spec, store) for store in targets))
    needed -= set().union(*(_pairs(spec, store) for store in fixed))
    nowhere = needed - set().union(*(_pairs(spec, store) for store in pool))
    if nowhere or (needed and not room):
        missing = nowhere or needed
        return pool[:room], [f"wave {name}: none of its stores can have {_pairs_named(missing)}"]
    cover = _cover(spec, pool, needed)
    if len(cover) > room:
        kept = set().union(*(_pairs(spec, store) for store in cover[:room]))
        words = (
            f"wave {name}: with {room + len(fixed)} of {len(targets)} stores it lacks "
            f"{_pairs_named(needed - kept)}; {len(cover) + len(fixed)} stores have every value of "
            f"{', '.join(spec.strata)}"
        )
        return pool[:room], [words]
    taken = {store.name for store in cover}
    return (cover + [store for store in pool if store.name not in taken])[:room], []


def _cover(spec: RolloutSpec, pool: list[StoreFacts], needed: set[Pair]) -> list[StoreFacts]:
    """Few stores that have all of ``needed`` between them, those that add most first."""
    kinds: dict[frozenset[Pair], StoreFacts] = {}
    for store in pool:  # stores of the same kind are worth the same; the first one drawn stands for them
        kinds.setdefault(_pairs(spec, store) & frozenset(needed), store)
    tries = (_greedy(spec, kinds, set(needed), salt) for salt in range(_TRIES))
    return min(tries, key=len)


def _greedy(
    spec: RolloutSpec, kinds: Mapping[frozenset[Pair], StoreFacts], needed: set[Pair], salt: int
) -> list[StoreFacts]:
    order = sorted(kinds.items(), key=lambda kind: _draw(spec.name, str(salt), kind[1].name))
    chosen: list[StoreFacts] = []
    while needed:
        pairs, store = max(order, key=lambda kind: len(kind[0] & needed))
        chosen.append(store)
        needed -= pairs
    return chosen


def _pairs(spec: RolloutSpec, store: StoreFacts) -> frozenset[Pair]:
    return frozenset((label, store.labels[label]) for label in spec.strata if label in store.labels)


def _pairs_named(pairs: Iterable[Pair]) -> str:
    return _named([f"{label}={value}" for label, value in sorted(pairs)])


def _labels(wave: Wave) -> str:
    return " and ".join(f"{label}={'|'.join(values)}" for label, values in sorted(wave.labels.items()))


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
