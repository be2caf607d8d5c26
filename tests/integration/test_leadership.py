"""Of several controllers on one database one leads: the same suite for SQLite and PostgreSQL."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from controller.adapters.database.leadership import GRACE_S, HOLD_S, open_leadership
from controller.errors import TransientError
from controller.ports import Leadership

CHILD = """
import sys, time
from controller.adapters.database.leadership import open_leadership
one = open_leadership(sys.argv[1])
one.renew()
print("leads" if one._leads else "stands by", flush=True)
while True:
    time.sleep(0.2)
    one.renew()
"""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contender(database_url: str, clock: Clock) -> Iterator[Callable[[], Leadership]]:
    made: list[Leadership] = []

    def make() -> Leadership:
        made.append(open_leadership(database_url, clock))
        return made[-1]

    yield make
    for one in made:
        one.release()


def lead(one: Leadership, clock: Clock) -> None:
    one.renew()
    clock.now += GRACE_S
    one.renew()
    assert one.held()


def test_one_of_two_leads_until_it_lets_go(contender: Callable[[], Leadership], clock: Clock) -> None:
    first, second = contender(), contender()
    lead(first, clock)
    second.renew()
    clock.now += GRACE_S
    first.renew()
    second.renew()
    assert (first.held(), second.held()) == (True, False)
    first.release()
    assert not first.held()
    lead(second, clock)
    first.renew()
    assert not first.held()


def test_nobody_leads_before_it_asked(contender: Callable[[], Leadership]) -> None:
    assert not contender().held()


def test_leadership_may_be_taken_up_again(contender: Callable[[], Leadership], clock: Clock) -> None:
    one = contender()
    lead(one, clock)
    one.release()
    lead(one, clock)


def test_a_killed_leader_is_followed_at_once(
    contender: Callable[[], Leadership], clock: Clock, database_url: str
) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, database_url], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "leads"
        second = contender()
        second.renew()
        clock.now += GRACE_S
        second.renew()
        assert not second.held()
        child.send_signal(signal.SIGKILL)
        end = time.monotonic() + 10
        while not second.held():
            assert time.monotonic() < end
            second.renew()
            clock.now += GRACE_S / 4
            time.sleep(0.05)
    finally:
        child.kill()
        child.communicate(timeout=10)


class TestPostgres:
    """What only a network can do to it."""

    @pytest.fixture
    def one(self, postgres_url: str, clock: Clock) -> Iterator[Leadership]:
        leadership = open_leadership(postgres_url, clock)
        yield leadership
        leadership.release()

    def test_a_leader_that_is_not_answered_stops_before_another_may_begin(
        self, one: Leadership, clock: Clock
    ) -> None:
        assert HOLD_S < GRACE_S
        lead(one, clock)
        clock.now += HOLD_S
        assert not one.held()

    def test_a_new_leader_waits_until_the_former_has_stopped(self, one: Leadership, clock: Clock) -> None:
        one.renew()
        assert not one.held()
        clock.now += GRACE_S - 0.1
        one.renew()
        assert not one.held()

    def test_a_session_that_the_server_ended_leads_no_more(
        self, one: Leadership, clock: Clock, postgres_url: str
    ) -> None:
        import psycopg

        lead(one, clock)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(end, ["storefleet-leader"])
        with pytest.raises(TransientError):
            one.renew()
        assert not one.held()
        lead(one, clock)

    def test_an_unreachable_server_is_a_transient_error_without_its_password(self) -> None:
        one = open_leadership("postgresql://user:hunter2@127.0.0.1:9/nothing")
        with pytest.raises(TransientError) as caught:
            one.renew()
        assert "hunter2" not in str(caught.value)
        assert not one.held()
