"""Which rollout owns a store that several want: the one of higher priority, then the newer one.

A rollout owns a store from its start until it ends, whether or not the store's turn has come, so that an
older one does not change the store shortly before. One that has yet to wait for others (``after``) owns
nothing: it would take the stores from the very rollouts that it waits for.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from controller.domain.rollout.state import Rollout, Status, StoreRecord

_ACTIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.ROLLING_BACK})


def outranks(one: Rollout, other: Rollout) -> bool:
    return _rank(one) > _rank(other)


def claims(rollouts: Iterable[tuple[Rollout, Mapping[str, StoreRecord]]]) -> dict[str, str]:
    """Store → the rollout that owns it. ``StoreNow.claimed_by`` of a rollout is the owner, if that is
    another.

    Stores that a rollout leaves out (skipped by hand) are not its own.
    """
    owner: dict[str, str] = {}
    active = [pair for pair in rollouts if pair[0].status in _ACTIVE and _has_begun(pair[0])]
    for rollout, records in sorted(active, key=lambda pair: _rank(pair[0]), reverse=True):
        for wave in rollout.waves:
            for store in wave.stores:
                record = records.get(store)
                if record is None or not record.skipped:
                    owner.setdefault(store, rollout.name)
    return owner


def held_by_others(
    rollout: Rollout, owners: Mapping[str, str], rollouts: Mapping[str, Rollout]
) -> dict[str, str]:
    """Store → the rollout that has it and outranks ``rollout``: its ``StoreNow.claimed_by``. One that ranks
    lower has a store only until ``rollout`` begins. ``rollouts`` by name."""
    others = set(owners.values()) - {rollout.name}
    above = {name for name in others if outranks(rollouts[name], rollout)}
    return {store: owner for store, owner in owners.items() if owner in above}


def _rank(rollout: Rollout) -> tuple[int, datetime, str]:
    return rollout.spec.priority, rollout.created_at, rollout.name


def _has_begun(rollout: Rollout) -> bool:
    return not rollout.spec.after or any(wave.opened_at is not None for wave in rollout.waves)
