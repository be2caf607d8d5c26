"""Who gets which failure, and what it does to a pod."""

import itertools
from datetime import UTC, datetime

import pytest

from contract.errors import ConfigError
from storefleet.fleet_sim.failures import (
    DEFAULT,
    DEFAULT_SHARES,
    LINK_KINDS,
    NONE,
    Character,
    Failures,
    Kind,
    draw_characters,
    read_failures,
)
from storefleet.fleet_sim.pods import Container, Status, course, rfc3339, status_body
from storefleet.fleet_sim.shops import draw_shops

STORES = [f"store-{number:04}" for number in range(1, 1001)]
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def test_the_same_seed_gives_the_same_fleet() -> None:
    assert draw_characters(STORES, 7, DEFAULT) == draw_characters(STORES, 7, DEFAULT)
    assert draw_characters(STORES, 7, DEFAULT) != draw_characters(STORES, 8, DEFAULT)


def test_each_kind_gets_its_share() -> None:
    drawn = [character.kind for character in draw_characters(STORES, 7, DEFAULT).values()]
    assert {kind: drawn.count(kind) / len(STORES) for kind in Kind} == DEFAULT_SHARES


def test_without_failures_stores_differ_only_a_little() -> None:
    drawn = draw_characters(STORES, 7, NONE, start_s=10, stop_s=1).values()
    assert all(c.kind is None and 7 <= c.start_s <= 13 and 0.7 <= c.stop_s <= 1.3 for c in drawn)


def test_a_single_store_may_be_named() -> None:
    failures = read_failures("shares: {slow: 100%}\nstores: {store-0002: dead, store-0003: null}\n")
    drawn = draw_characters(STORES[:3], 7, failures)
    assert [drawn[store].kind for store in STORES[:3]] == [Kind.SLOW, Kind.DEAD, None]


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_only_what_breaks_lines_has_a_line_that_breaks(kind: Kind) -> None:
    drawn = draw_characters(STORES[:20], 7, Failures(shares={kind: 1.0}))
    assert all((character.away_s > 0) == (kind in LINK_KINDS) for character in drawn.values())
    assert all((character.skew_s != 0) == (kind is Kind.CLOCK_SKEWED) for character in drawn.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shares: {slow: 60%, dead: 50%}", "100%"),
        ("shares: {sleepy: 1%}", "sleepy"),
        ("shares: {slow: -1%}", "between 0 and 100%"),
        ("shares: {slow: much}", "shares"),
        ("stores: {store-0001: sleepy}", "store-0001"),
        ("share: {}", "share"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_failures(text)
    assert "line 1" in str(caught.value)


def test_a_larger_fleet_begins_with_the_smaller_one() -> None:
    assert draw_shops(30, 7)[:10] == draw_shops(10, 7)
    assert len({shop.labels["region"] for shop in draw_shops(30, 7)}) > 3


@pytest.mark.parametrize(
    ("kind", "armed", "ready", "last"),
    [
        (None, True, True, Status(1.0, True, "Running")),
        (Kind.IMAGE_PULL, False, True, Status(1.0, True, "Running")),
        (Kind.IMAGE_PULL, True, False, None),
        (Kind.LYING, True, True, Status(1.0, True, "Running")),
        (Kind.CRASH_LOOP, False, True, Status(1.0, True, "Running")),
        (Kind.CRASH_LOOP, True, False, None),
    ],
)
def test_what_becomes_of_a_pod(kind: Kind | None, armed: bool, ready: bool, last: Status | None) -> None:
    found = course(Character(1.0, 1.0, kind), armed)
    assert found[-1].ready is ready
    assert [status.after_s for status in found] == sorted(status.after_s for status in found)
    if last is not None:
        assert found == (last,)


def test_a_slow_pod_is_seen_to_be_on_its_way() -> None:
    assert [status.waiting for status in course(Character(30.0, 1.0), armed=True)] == [
        "ContainerCreating",
        "",
    ]


def test_a_crash_loop_counts_its_restarts_and_pauses_longer_each_time() -> None:
    loop = [s for s in course(Character(1.0, 1.0, Kind.CRASH_LOOP), armed=True) if s.waiting]
    assert [status.restarts for status in loop] == list(range(1, len(loop) + 1))
    pauses = [after.after_s - before.after_s for before, after in itertools.pairwise(loop)]
    assert pauses == sorted(pauses)
    assert {status.waiting for status in loop} == {"CrashLoopBackOff"}


def test_a_status_as_kubernetes_wants_it() -> None:
    status = Status(1.0, False, "Running", "CrashLoopBackOff", "back-off", restarts=2, crashed=True)
    body = status_body(status, (Container("agent", "agent:v2"),), NOW)["status"]
    (container,) = body["containerStatuses"]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert (container["restartCount"], container["ready"]) == (2, False)
    assert {c["type"]: c["status"] for c in body["conditions"]}["Ready"] == "False"
    assert body["startTime"] == rfc3339(NOW) == "2026-03-02T09:30:00Z"
