"""The connection for retained state against a real broker with the demo's access list."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.topics import DEPLOYER_SUBSCRIPTIONS, DeployerTopics
from controller.adapters.mqtt_link import LinkAddress, MqttLink
from controller.errors import PermanentError, TransientError
from storefleet.demo.broker import CENTRE_USER, BrokerFiles, write_broker_files
from storefleet.demo.processes import free_port, listens

STORE = "berlin-01"
OTHER = "paris-02"
TOPICS = DeployerTopics(STORE)
Connect = Callable[..., tuple[MqttLink, list[tuple[str, bytes, bool]]]]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Broker:
    def __init__(self, directory: Path) -> None:
        self.files: BrokerFiles = write_broker_files(directory, [STORE, OTHER], free_port())
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.files.command, stderr=subprocess.DEVNULL)
        until(lambda: listens(self.files.port), "the broker listens")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def connect(broker: Broker, tmp_path: Path) -> Iterator[Connect]:
    links: list[MqttLink] = []

    def connect(
        user: str, *topics: str, password: str = ""
    ) -> tuple[MqttLink, list[tuple[str, bytes, bool]]]:
        file = tmp_path / f"{user}.password"
        file.write_text(password or broker.files.passwords[user])
        got: list[tuple[str, bytes, bool]] = []
        address = LinkAddress(broker.files.url, f"{user}-{len(links)}", user, file)
        link = MqttLink(address, topics, lambda topic, payload, kept: got.append((topic, payload, kept)))
        link.start()
        links.append(link)
        return link, got

    yield connect
    for link in links:
        link.close()


def test_what_is_published_is_there_for_whoever_comes_later(connect: Connect) -> None:
    centre, heard = connect(CENTRE_USER, *DEPLOYER_SUBSCRIPTIONS)
    until(centre.is_synced, "synced")
    centre.publish(TOPICS.desired, b"state")
    store, got = connect(STORE, TOPICS.desired)
    until(lambda: got, "the store gets what was retained")
    assert got == [(TOPICS.desired, b"state", True)]
    store.publish(TOPICS.reported, b"report")
    until(lambda: heard, "the centre gets the report")
    assert heard == [(TOPICS.reported, b"report", False)]  # and not its own words


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        (STORE, TOPICS.desired),
        (OTHER, TOPICS.desired),
        (OTHER, TOPICS.reported),
        (CENTRE_USER, TOPICS.reported),
    ],
)
def test_writing_without_the_right_is_an_error_and_not_a_success(
    connect: Connect, user: str, topic: str
) -> None:
    link, _ = connect(user)
    until(link.is_synced, "synced")
    with pytest.raises(PermanentError, match=r"refuses .*Not authorized.*k3s/README"):
        link.publish(topic, b"x")


def test_another_store_does_not_even_see_it(connect: Connect) -> None:
    centre, _ = connect(CENTRE_USER)
    until(centre.is_synced, "synced")
    centre.publish(TOPICS.desired, b"state")
    other, got = connect(OTHER, *DEPLOYER_SUBSCRIPTIONS)
    until(other.is_synced, "synced")
    assert got == []


def test_message_larger_than_the_broker_allows_is_refused_and_the_next_one_goes_through(
    connect: Connect,
) -> None:
    centre, _ = connect(CENTRE_USER)
    until(centre.is_synced, "synced")
    with pytest.raises(PermanentError, match="at most 524288 pass"):
        centre.publish(TOPICS.desired, b"x" * 600_000)
    centre.publish(TOPICS.desired, b"x" * 500_000)


def test_broker_that_hangs_up_on_a_message_gets_the_next_one(broker: Broker, tmp_path: Path) -> None:
    broker.stop()
    config = broker.files.config
    config.write_text(config.read_text().replace("max_packet_size", "message_size_limit"))
    broker.start()
    password = tmp_path / "password"
    password.write_text(broker.files.passwords[CENTRE_USER])
    address = LinkAddress(broker.files.url, "centre", CENTRE_USER, password)
    link = MqttLink(address, (TOPICS.reported,), lambda *_: None, publish_timeout_s=1)
    link.start()
    try:
        until(link.is_synced, "synced")
        with pytest.raises(TransientError, match="does it allow that size"):
            link.publish(TOPICS.desired, b"x" * 600_000)
        until(link.is_synced, "synced again")
        link.publish(TOPICS.desired, b"small")
    finally:
        link.close()


def test_broker_that_is_away_is_transient_and_comes_back(broker: Broker, connect: Connect) -> None:
    centre, _ = connect(CENTRE_USER)
    until(centre.is_synced, "synced")
    broker.stop()
    until(lambda: not centre.is_synced(), "the loss is noticed")
    with pytest.raises(TransientError, match="broker"):
        centre.publish(TOPICS.desired, b"x")
    assert centre.offer(TOPICS.desired, b"x") is False
    broker.start()
    until(centre.is_synced, "synced again")
    centre.publish(TOPICS.desired, b"x")


def test_wrong_password_is_named_and_a_changed_file_is_enough(
    broker: Broker, connect: Connect, tmp_path: Path
) -> None:
    link, _ = connect(STORE, TOPICS.desired, password="wrong")
    until(lambda: "refused the connection: Not authorized" in link.error, "the reason is known")
    (tmp_path / f"{STORE}.password").write_text(broker.files.passwords[STORE])
    until(link.is_synced, "synced with the new password")


@pytest.mark.parametrize(
    "url", ["http://host", "mqtt://", "host:1883", "mqtt://a:b@host", "mqtt://host:port"]
)
def test_unusable_address_is_refused_without_showing_credentials(url: str) -> None:
    with pytest.raises(PermanentError) as caught:
        MqttLink(LinkAddress(url, "id"), (), lambda *_: None)
    assert "a:b" not in str(caught.value)
