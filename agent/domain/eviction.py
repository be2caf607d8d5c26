"""Which models leave the node's cache when room is needed: those used least recently, never one that is
still needed. A decision, not a deed: the cache carries it out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file of the cache: a model, or a part of one."""

    name: str
    size_bytes: int
    used_at: float
    """When it was last fetched, loaded or given to a neighbour."""
    in_use: bool = False
    """A process runs it or writes it just now."""


@dataclass(frozen=True, slots=True)
class Eviction:
    evict: tuple[CacheEntry, ...]
    """In the order in which to remove them."""
    short_by: int
    """Bytes that are still missing afterwards; 0: there is room."""


def bytes_to_free(*, used: int, incoming: int, max_bytes: int, disk_free: int, reserve: int) -> int:
    """How many bytes must go before ``incoming`` more may come, 0 when none.

    ``max_bytes`` limits the cache as a whole (0: no limit), ``reserve`` is what the disk must keep free for
    others. Negative results of one limit never pay for the other.
    """
    over_limit = used + incoming - max_bytes if max_bytes else 0
    over_disk = incoming + reserve - disk_free
    return max(0, over_limit, over_disk)


def choose_evictions(entries: Iterable[CacheEntry], keep: Collection[str], wanted_bytes: int) -> Eviction:
    """Free ``wanted_bytes`` by removing the entries used longest ago; none in use and none of ``keep``.

    When even all of them would not do, none is removed in vain: ``evict`` is then empty.
    """
    chosen: list[CacheEntry] = []
    missing = wanted_bytes
    spare = [entry for entry in entries if not entry.in_use and entry.name not in keep]
    for entry in sorted(spare, key=lambda entry: (entry.used_at, entry.name)):
        if missing <= 0:
            break
        chosen.append(entry)
        missing -= entry.size_bytes
    if missing > 0:
        return Eviction((), missing)
    return Eviction(tuple(chosen), 0)
