"""The whole controller as a process, killed while events come in from a real Mosquitto."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from contract.messages import decode_ack
from controller.adapters.database import migrate, open_database
from controller.domain.event_log import EventFilter
from controller.domain.fleet import Store
from controller.domain.page import MAX_LIMIT, PageRequest


def until(condition: Callable[[], object], what: str, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} within {timeout_s} s"
        time.sleep(0.05)


class Controller:
    """``python -m controller controller run``, restartable."""

    def __init__(self, directory: Path, mosquitto: Any, port: int, database_url: str) -> None:
        password = directory / "password"
        password.write_text(mosquitto.password("centre"))
        prefix = "STOREFLEET_CONTROLLER_"
        self._environment = os.environ | {
            f"{prefix}DATA_DIR": str(directory / "centre"),
            f"{prefix}DATABASE_URL": database_url,
            f"{prefix}MQTT_URL": mosquitto.url,
            f"{prefix}MQTT_USERNAME": "centre",
            f"{prefix}MQTT_PASSWORD_FILE": str(password),
            f"{prefix}API_PORT": str(port),
        }
        self._log = directory / "controller.log"
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "controller", "controller", "run"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def health(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=5).json()
        except (httpx.TransportError, json.JSONDecodeError):
            return {"ready": False, "problems": ["no answer"]}
        return answer

    def stored(self) -> int:
        """Events that this process has stored."""
        number: int = self.health().get("ingest", {}).get("stored", 0)
        return number


class Sender:
    """What an agent does, in short: keeps its events until the centre has committed them."""

    def __init__(self, mosquitto: Any, device: Any, count: int) -> None:
        self._device = device
        self._count = count
        self._lock = threading.Lock()
        self._held: dict[int, bytes] = {}
        self.committed = 0
        self.resends = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device.device, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(device.store, mosquitto.password(device.store))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(device.topics.acks, qos=1)
        self._client.on_message = self._on_ack
        self._client.connect_async("127.0.0.1", mosquitto.port)
        self._client.loop_start()

    def run(self) -> None:
        for number in range(1, self._count + 1):
            payload = self._device.event(number).to_bytes()
            with self._lock:
                self._held[number] = payload
            self._client.publish(self._device.topics.events, payload, qos=1)
            if number % 20 == 0:
                self._beat()
                time.sleep(0.05)
        while self.committed < self._count:
            self._beat()
            time.sleep(0.3)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _beat(self) -> None:
        with self._lock:
            last, pending = max(self._held, default=self.committed), len(self._held)
        self._client.publish(self._device.topics.telemetry, self._device.heartbeat(last, pending).to_bytes())

    def _on_ack(self, _client: Any, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        ack = decode_ack(bytes(message.payload))
        with self._lock:
            self.committed = max(self.committed, ack.committed_sequence)
            self._held = {number: p for number, p in self._held.items() if number > self.committed}
            again = list(self._held.values()) if ack.resend else []
        self.resends += ack.resend
        for payload in again:
            self._client.publish(self._device.topics.events, payload, qos=1)


@pytest.fixture
def controller(tmp_path: Path, mosquitto: Any, database_url: str, unused_port: int) -> Iterator[Controller]:
    controller = Controller(tmp_path, mosquitto, unused_port, database_url)
    yield controller
    controller.close()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def prepare(database_url: str, now: Any) -> Any:
    database = open_database(database_url)
    migrate(database)
    with database.writing() as repositories:
        for name in ("berlin-01", "paris-02"):
            repositories.stores.add(Store(name, created_at=now))
    return database


def all_events(database: Any) -> dict[UUID, list[int]]:
    found: dict[UUID, list[int]] = {}
    cursor = None
    while True:
        with database.reading() as repositories:
            page = repositories.events.page(EventFilter(), PageRequest(MAX_LIMIT, cursor))
        for event in page.items:
            found.setdefault(event.stream_id, []).append(event.sequence)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.timeout(120)
def test_killed_controllers_and_brokers_lose_nothing_and_store_nothing_twice(
    controller: Controller, mosquitto: Any, database_url: str, new_device: Callable[..., Any], now: Any
) -> None:
    count = 1500
    database = prepare(database_url, now)
    controller.start()
    until(lambda: controller.health()["ready"], f"ready; log: {controller.log}", 20)
    devices = [new_device("berlin-01", "node-1"), new_device("paris-02", "node-2")]
    senders = [Sender(mosquitto, device, count) for device in devices]
    threads = [threading.Thread(target=sender.run, daemon=True) for sender in senders]
    for thread in threads:
        thread.start()
    chance = random.Random(1)
    for _ in range(3):
        until(lambda: controller.stored() > 0, "events coming in", 20)
        time.sleep(chance.uniform(0.0, 0.3))
        controller.end(signal.SIGKILL)
        controller.start()
    mosquitto.kill()
    mosquitto.start()
    until(lambda: all(sender.committed == count for sender in senders), "everything committed", 60)
    for thread in threads:
        thread.join(5)
    for sender in senders:
        sender.close()
    until(lambda: controller.health()["ready"], "the last controller to be up", 20)
    assert controller.end(signal.SIGTERM) == 0, controller.log
    assert {k: sorted(v) for k, v in all_events(database).items()} == {
        device.stream: list(range(1, count + 1)) for device in devices
    }
    with database.reading() as repositories:
        assert repositories.streams.page_gaps(None, True, PageRequest()).items == ()
        assert repositories.dead_letters.page(None, PageRequest()).items == ()
    database.close()


def test_a_database_that_is_down_at_start_is_waited_for(
    postgres: Any, postgres_url: str, mosquitto: Any, tmp_path: Path, unused_port: int
) -> None:
    controller = Controller(tmp_path, mosquitto, unused_port, postgres_url)
    postgres.stop()
    try:
        controller.start()
        until(lambda: "waiting for the database" in controller.log, "a clear log", 20)
        until(lambda: controller.health().get("database") is False, "health that says so", 10)
        assert "is not available" in " ".join(controller.health()["problems"])
    finally:
        postgres.start()
    until(lambda: controller.health()["ready"], "ready once the database is there", 30)
    assert controller.end(signal.SIGTERM) == 0
    controller.close()


def test_a_broker_that_is_down_is_waited_for(controller: Controller, mosquitto: Any) -> None:
    mosquitto.stop()
    controller.start()
    until(lambda: controller.health().get("database"), "a working database", 20)
    until(
        lambda: "no MQTT broker answers" in " ".join(controller.health()["problems"]), "a clear problem", 10
    )
    mosquitto.start()
    until(lambda: controller.health()["ready"], "ready once the broker is there", 20)
