from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.eviction import CacheEntry, bytes_to_free, choose_evictions


def entry(name: str, used_at: float, *, size: int = 100, in_use: bool = False) -> CacheEntry:
    return CacheEntry(name, size, used_at, in_use)


OLD, MIDDLE, NEW = entry("old", 1), entry("middle", 2), entry("new", 3)
RUNNING = entry("running", 0, in_use=True)


@pytest.mark.parametrize(
    ("entries", "keep", "wanted", "evicted", "short_by"),
    [
        ([NEW, OLD, MIDDLE], [], 0, [], 0),
        ([NEW, OLD, MIDDLE], [], 1, ["old"], 0),
        ([NEW, OLD, MIDDLE], [], 101, ["old", "middle"], 0),
        ([NEW, OLD, MIDDLE], ["old"], 1, ["middle"], 0),
        ([RUNNING, OLD], [], 1, ["old"], 0),
        ([RUNNING], [], 1, [], 1),
        ([OLD, MIDDLE], ["middle"], 150, [], 50),
        ([], [], 7, [], 7),
    ],
    ids=["room", "oldest", "two", "kept", "in-use", "only-in-use", "not-in-vain", "empty"],
)
def test_what_goes(
    entries: list[CacheEntry], keep: list[str], wanted: int, evicted: list[str], short_by: int
) -> None:
    choice = choose_evictions(entries, keep, wanted)
    assert ([e.name for e in choice.evict], choice.short_by) == (evicted, short_by)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"used": 50, "incoming": 10, "max_bytes": 100}, 0),
        ({"used": 95, "incoming": 10, "max_bytes": 100}, 5),
        ({"used": 950, "incoming": 10, "max_bytes": 0}, 0),
        ({"used": 50, "incoming": 10, "max_bytes": 100, "disk_free": 12, "reserve": 5}, 3),
        ({"used": 0, "incoming": 10, "max_bytes": 1000, "disk_free": 0, "reserve": 5}, 15),
    ],
    ids=["fits", "over-limit", "no-limit", "over-disk", "limit-never-pays-for-disk"],
)
def test_how_much_must_go(case: dict[str, Any], expected: int) -> None:
    assert bytes_to_free(**{"disk_free": 10**9, "reserve": 0, **case}) == expected


ENTRIES = st.lists(
    st.builds(CacheEntry, st.uuids().map(str), st.integers(0, 1000), st.floats(0, 10), st.booleans()),
    max_size=12,
    unique_by=lambda e: e.name,
)


@given(entries=ENTRIES, wanted=st.integers(0, 5000), data=st.data())
def test_needed_models_survive_whatever_is_wanted(
    entries: list[CacheEntry], wanted: int, data: st.DataObject
) -> None:
    keep = {e.name for e in entries if data.draw(st.booleans())}
    choice = choose_evictions(entries, keep, wanted)
    assert not any(e.in_use or e.name in keep for e in choice.evict)
    freed = sum(e.size_bytes for e in choice.evict)
    spared = [e for e in entries if e not in choice.evict and not e.in_use and e.name not in keep]
    if choice.evict:
        assert freed >= wanted
        assert freed - choice.evict[-1].size_bytes < wanted, "nothing more than needed"
        assert all(e.used_at >= choice.evict[-1].used_at for e in spared)
    elif wanted:
        assert choice.short_by > 0
