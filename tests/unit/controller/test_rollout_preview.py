from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.domain.rollout.preview import Preview, preview
from controller.domain.rollout.selection import Selected
from controller.domain.rollout.state import Status, StoreNow
from controller.rollout_file import read_rollout

T = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WAVES = [{"name": "canary", "size": 1, "soak": "1h"}, {"name": "rest"}]


def shown(
    stores: dict[str, StoreNow] | None = None, others: dict[str, Status] | None = None, **spec: Any
) -> Preview:
    names = ["a", "b", "c", "d"]
    now_of = {name: StoreNow(name, True, release="v1", state="ready") for name in names} | (stores or {})
    spec = {"waves": WAVES, "limits": {"concurrency": 2, "offline": 0}, **spec}
    return preview(
        read_rollout({"name": "r", "release": "v2", **spec}),
        Selected((("a",), ("b", "c", "d"))),
        now_of,
        now=T,
        model_bytes=10,
        others=others or {},
    )


def test_stores_bytes_and_time_by_wave() -> None:
    staged = StoreNow("b", True, release="v1", state="ready", staged=True)
    seen = shown({"b": staged, "c": replace(staged, store="c", release="v2", staged=None)})
    assert [wave.stores for wave in seen.waves] == [("a",), ("b", "c", "d")]
    assert [wave.wan_bytes for wave in seen.waves] == [10, 10]
    assert seen.wan_bytes == 20
    assert seen.waves[0].ends_at == T + 62 * MINUTE
    assert seen.ends_at == T + 64 * MINUTE
    assert shown().ends_at == T + 66 * MINUTE  # three stores, two at a time


def test_windows_are_waited_for_in_each_stores_own_zone() -> None:
    night = [{"start": "22:00", "end": "05:00"}]
    tokyo = {"d": StoreNow("d", True, timezone="Asia/Tokyo", release="v1")}
    seen = shown(tokyo, windows=night, waves=[{"name": "canary", "size": 1}, {"name": "rest"}])
    assert seen.waves[0].ends_at == datetime(2026, 3, 3, 22, 2, tzinfo=UTC)
    assert seen.ends_at == datetime(2026, 3, 4, 13, 2, tzinfo=UTC)
    nowhere = {"d": replace(tokyo["d"], timezone="Nowhere")}
    seen = shown(nowhere, windows=night)
    assert seen.ends_at is None
    assert "1 with no window that opens, or an unknown time zone (d)" in seen.waves[1].obstacles


@pytest.mark.parametrize(
    ("store", "spec", "words"),
    [
        ({"reachable": False}, {}, "1 out of reach (b), at most 0 may be: waits for them"),
        ({"reachable": False}, {"limits": {"offline": 1}}, "at most 1 may be: goes on without them"),
        ({"deferred_until": T + MINUTE}, {}, "1 deferred (b)"),
        ({"claimed_by": "r9"}, {}, "1 claimed by r9"),
        ({}, {"waves": [WAVES[0], {"name": "rest", "approval": True}]}, "asks for somebody's approval"),
        ({}, {"gates": [{"kind": "staged"}]}, "0 of 3 staged, 98% are asked for"),
        ({}, {"deadline": T + MINUTE}, "would end after the deadline, 2026-03-03 12:01 UTC"),
    ],
)
def test_what_would_be_in_the_way_is_said(store: dict[str, Any], spec: dict[str, Any], words: str) -> None:
    seen = shown({"b": StoreNow("b", **{"reachable": True, **store})}, **spec)
    assert any(words in obstacle for obstacle in seen.waves[1].obstacles), seen.waves[1].obstacles


def test_what_keeps_it_from_starting_is_said_of_the_first_wave() -> None:
    now_of = {name: StoreNow(name, True, release="v1", state="ready") for name in "ab"}
    spec = read_rollout({"name": "r", "release": "v2", "waves": WAVES, "gates": [{"kind": "shadow"}]})
    seen = preview(
        spec, Selected((("a",), ("b",))), now_of, now=T, model_bytes=1, missing=["there is no golden set"]
    )
    tries = "its stores try the model beside their own, for 200 frames together"
    assert [wave.obstacles for wave in seen.waves] == [("there is no golden set", tries), (tries,)]


def test_what_it_begins_after_is_said() -> None:
    seen = shown(after=["first"], others={"first": Status.RUNNING})
    assert seen.waves[0].obstacles == ("begins after rollout first, which is running",)
    assert shown(after=["first"], others={"first": Status.SUCCEEDED}).waves[0].obstacles == ()
