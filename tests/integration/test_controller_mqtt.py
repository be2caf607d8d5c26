"""The controller's connection to a real Mosquitto."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract.messages import EventAck
from controller.adapters.mqtt import MqttFleetBus
from controller.ports import Received


def until(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture
def open_bus(mosquitto: Any, tmp_path: Path) -> Iterator[Callable[..., MqttFleetBus]]:
    buses: list[MqttFleetBus] = []

    def open_bus(user: str = "centre", password: str | None = None, wait: bool = True) -> MqttFleetBus:
        file = tmp_path / f"password-{len(buses)}"
        file.write_text(password or mosquitto.password(user))
        bus = MqttFleetBus(
            mosquitto.url, client_id="storefleet-controller", clock=lambda: datetime.now(UTC),
            username=user, password_file=file,
        )  # fmt: skip
        buses.append(bus)
        bus.start()
        if wait:
            until(lambda: bus.status().connected, "connected")
            time.sleep(0.2)  # the subscription follows the connection
        return bus

    yield open_bus
    for bus in buses:
        bus.close()


@pytest.fixture
def store(mosquitto: Any) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="node-1", protocol=mqtt.MQTTv5)
    client.username_pw_set("berlin-01", mosquitto.password("berlin-01"))
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def take(bus: MqttFleetBus, count: int) -> list[Received]:
    taken: list[Received] = []

    def enough() -> bool:
        taken.extend(bus.take(100, 0.05))
        return len(taken) >= count

    until(enough, f"{count} messages")
    return taken


def numbers(messages: list[Received]) -> list[bytes]:
    return [message.payload for message in messages]


def test_what_was_not_acknowledged_comes_again_and_what_was_does_not(
    open_bus: Callable[..., MqttFleetBus], store: mqtt.Client, device: Any
) -> None:
    first = open_bus()
    for n in (1, 2, 3):
        store.publish(device.topics.events, b"%d" % n, qos=1).wait_for_publish(5)
    taken = take(first, 3)
    first.acknowledge(taken[:2])
    time.sleep(0.3)
    first.close()
    store.publish(device.topics.events, b"4", qos=1).wait_for_publish(5)
    second = open_bus()
    assert sorted(numbers(take(second, 2))) == [b"3", b"4"]
    assert second.status().sessions_lost == 0


def test_a_receipt_of_an_earlier_connection_acknowledges_nothing(
    open_bus: Callable[..., MqttFleetBus], store: mqtt.Client, device: Any, mosquitto: Any
) -> None:
    bus = open_bus()
    store.publish(device.topics.events, b"old", qos=1).wait_for_publish(5)
    old = take(bus, 1)
    mosquitto.stop()
    until(lambda: not bus.status().connected, "disconnected")
    mosquitto.start()
    until(lambda: bus.status().connected, "connected again")
    bus.acknowledge(old)
    assert numbers(take(bus, 1)) == [b"old"]


def test_a_broker_that_forgot_the_session_is_noticed(
    open_bus: Callable[..., MqttFleetBus], mosquitto: Any, tmp_path: Path
) -> None:
    bus = open_bus()
    assert bus.status().sessions_lost == 1, "the first session is new, too"
    mosquitto.kill()
    for file in (tmp_path / "mosquitto").glob("mosquitto.db*"):
        file.unlink()
    mosquitto.start()
    until(lambda: bus.status().sessions_lost == 2, "the loss noticed")


def test_retained_messages_of_before_are_marked(
    open_bus: Callable[..., MqttFleetBus], store: mqtt.Client, device: Any
) -> None:
    store.publish(device.topics.state, b"before", qos=1, retain=True).wait_for_publish(5)
    bus = open_bus()
    store.publish(device.topics.state, b"now", qos=1, retain=True).wait_for_publish(5)
    marked = {message.payload: message.retained for message in take(bus, 2)}
    assert marked == {b"before": True, b"now": False}


def test_an_acknowledgement_reaches_its_device(
    open_bus: Callable[..., MqttFleetBus], store: mqtt.Client, device: Any
) -> None:
    got: list[bytes] = []
    store.on_message = lambda _client, _userdata, message: got.append(bytes(message.payload))
    store.subscribe(device.topics.acks, qos=1)
    bus = open_bus()
    ack = EventAck(stream_id=device.stream, committed_sequence=7)
    bus.send_ack("berlin-01", "node-1", ack)
    until(lambda: got == [ack.to_bytes()], "the acknowledgement")


def test_wrong_credentials_are_named_without_the_password(open_bus: Callable[..., MqttFleetBus]) -> None:
    bus = open_bus(password="hunter2", wait=False)
    until(lambda: bus.status().error, "an error")
    assert "refused the connection: Not authorized" in bus.status().error
    assert not bus.status().connected
    assert "hunter2" not in bus.status().error


def test_stopping_the_broker_is_named(open_bus: Callable[..., MqttFleetBus], mosquitto: Any) -> None:
    bus = open_bus()
    mosquitto.stop()
    until(lambda: "broker" in bus.status().error, "an error")
    assert not bus.status().connected


def test_messages_flow_on_after_many_reconnections_with_nothing_stored(
    open_bus: Callable[..., MqttFleetBus],
    store: mqtt.Client,
    device: Any,
    mosquitto: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every connection brings the unacknowledged messages again; the queue must keep those that can
    still be acknowledged, or the broker's window stays full for ever."""
    monkeypatch.setattr("controller.adapters.mqtt.RECEIVE_MAXIMUM", 5)
    bus = open_bus()

    def came(wanted: int) -> bool:
        return bus.status().queued + bus.status().dropped >= wanted

    for n in range(5):
        store.publish(device.topics.events, b"%d" % n, qos=1).wait_for_publish(5)
    for count in range(2, 7):
        mosquitto.stop()
        until(lambda: not bus.status().connected, "disconnected")
        mosquitto.start()
        until(lambda: bus.status().connected, "connected again")
        until(partial(came, 5 * count), "sent again")
    until(store.is_connected, "the store connected again")
    store.publish(device.topics.events, b"new", qos=1).wait_for_publish(5)
    seen: list[bytes] = []

    def arrived() -> bool:
        batch = bus.take(100, 0.05)
        bus.acknowledge(batch)
        seen.extend(numbers(batch))
        return b"new" in seen

    until(arrived, "the new message", 10.0)
    assert {b"0", b"1", b"2", b"3", b"4"} < set(seen)


def test_a_huge_message_never_reaches_the_controllers_memory(
    open_bus: Callable[..., MqttFleetBus], store: mqtt.Client, device: Any
) -> None:
    bus = open_bus()
    store.publish(device.topics.events, b"x" * 200_000, qos=1).wait_for_publish(5)
    store.publish(device.topics.events, b"small", qos=1).wait_for_publish(5)
    assert numbers(take(bus, 1)) == [b"small"]
