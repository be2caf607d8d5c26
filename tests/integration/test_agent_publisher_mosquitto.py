"""Publisher and outbox against a real Mosquitto that is stopped, killed and cut off meanwhile."""

import gc
import ipaddress
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.adapters.mqtt import MqttAddress, MqttBroker, Will, split_mqtt_url
from agent.adapters.outbox import SqliteOutbox
from agent.envelope import Origin
from agent.errors import PermanentError
from agent.ports import EventDraft, Incoming
from agent.publisher import Publisher
from contract.events import Event, FacingsChanged, ZoneData, decode_event
from contract.golden import GoldenReport
from contract.messages import (
    CameraStatusMessage,
    DeviceState,
    DeviceTelemetry,
    EventAck,
    ModelRef,
    OutboxTelemetry,
    Telemetry,
    decode_state,
)
from contract.names import StockLevel
from contract.topics import FLEET_SUBSCRIPTIONS, DeviceTopics

STORE, DEVICE = "berlin-01", "node-1"
TOPICS = DeviceTopics(STORE, DEVICE)
DIGEST = "sha256:" + "00" * 32


def wait_for(condition: Callable[[], object], timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "condition not reached in time"
        time.sleep(0.02)


class Device:
    def __init__(self) -> None:
        self.session = uuid4()

    def camera_ids(self) -> tuple[str, ...]:
        return ()

    def golden(self) -> GoldenReport | None:
        return None

    def birth(self) -> DeviceState:
        return DeviceState(status="online", session_id=self.session, at=datetime.now(UTC))

    def camera_statuses(self) -> list[CameraStatusMessage]:
        return []

    def telemetry(self) -> Telemetry:
        return Telemetry(
            session_id=self.session,
            at=datetime.now(UTC),
            interval_s=1,
            agent_version="1",
            model=ModelRef(digest=DIGEST, version="1"),
            config_digest=DIGEST,
            device=DeviceTelemetry(cpu_percent=1, memory_mb=1, memory_percent=1, disk_free_mb=1),
            outbox=OutboxTelemetry(stream_id=self.session, last_sequence=0, pending=0),
        )


def address(url: str, user: str, client_id: str, password: str | None = None) -> MqttAddress:
    return MqttAddress(
        url,
        client_id,
        username=user,
        password=password or f"{user}-secret",
        reconnect_max_s=1,
    )


def connect(mosquitto: Any, session: UUID) -> MqttBroker:
    death = DeviceState(
        status="offline",
        session_id=session,
        at=datetime.now(UTC),
        reason="connection lost",
    )
    return MqttBroker(
        address(mosquitto.url, STORE, f"{STORE}-{session.hex[:8]}"),
        will=Will(TOPICS.state, death.to_bytes()),
        subscriptions=[TOPICS.acks, TOPICS.state],
    )


class Centre:
    """Stands in for ingest: stores every event once, acknowledges the gap-free part, and answers each
    heartbeat with that again, asking for the rest when nothing came since the last one."""

    def __init__(self, url: str) -> None:
        self.stored: dict[UUID, Event] = {}
        self.deliveries = 0
        self._watermark = 0
        self._stream: UUID | None = None
        self._seen_at_heartbeat = 0
        self.states: queue.SimpleQueue[DeviceState] = queue.SimpleQueue()
        self._broker = MqttBroker(
            address(url, "centre", "centre"),
            will=Will("storefleet/v1/centre/centre/state", b""),
            subscriptions=FLEET_SUBSCRIPTIONS,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            incoming = self._broker.take(0.05)
            if incoming is None:
                continue
            if incoming.topic == TOPICS.events:
                self._store(decode_event(incoming.payload))
            elif incoming.topic == TOPICS.telemetry:
                self._acknowledge(resend=self.deliveries == self._seen_at_heartbeat)
                self._seen_at_heartbeat = self.deliveries
            elif incoming.topic == TOPICS.state:
                self.states.put(decode_state(incoming.payload))

    def _store(self, event: Event) -> None:
        self.deliveries += 1
        self.stored[event.id] = event
        have = {e.sequence for e in self.stored.values()}
        while self._watermark + 1 in have:
            self._watermark += 1
        self._stream = event.streamid
        self._acknowledge(resend=False)

    def _acknowledge(self, *, resend: bool) -> None:
        if self._stream is not None:
            ack = EventAck(stream_id=self._stream, committed_sequence=self._watermark, resend=resend)
            self._broker.publish(TOPICS.acks, ack.to_bytes(), qos=1)

    def wait_connected(self) -> None:
        wait_for(lambda: self._broker.connected)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._broker.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    made = SqliteOutbox(tmp_path / "data", Origin(STORE, DEVICE, "1", DIGEST), clock=time.time)
    yield made
    made.close()


@pytest.fixture
def centre(mosquitto: Any) -> Iterator[Centre]:
    made = Centre(mosquitto.url)
    made.wait_connected()
    yield made
    made.close()


@pytest.fixture
def publishing(mosquitto: Any, outbox: SqliteOutbox) -> Iterator[Device]:
    """A running publisher of ``outbox``."""
    device = Device()
    broker = connect(mosquitto, device.session)
    publisher = Publisher(
        broker,
        outbox,
        TOPICS,
        device,
        clock=time.time,
        monotonic=time.monotonic,
        telemetry_s=1,
    )
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,))
    thread.start()
    yield device
    stop.set()
    thread.join()
    broker.close()


def append(outbox: SqliteOutbox, count: int) -> None:
    data = ZoneData(sku="cola-can", capacity=10, facings=1, level=StockLevel.LOW)
    outbox.append(
        [EventDraft(uuid4(), FacingsChanged, "aisle-1", "zone-1", time.time(), data) for _ in range(count)],
        b"",
    )


def assert_all_arrived(centre: Centre, outbox: SqliteOutbox, count: int) -> None:
    wait_for(lambda: outbox.status().pending == 0 and len(centre.stored) == count, 30)
    assert sorted(e.sequence for e in centre.stored.values()) == list(range(1, count + 1))


@pytest.mark.usefixtures("publishing")
def test_events_arrive_promptly_once_and_in_order(centre: Centre, outbox: SqliteOutbox) -> None:
    for _ in range(10):
        append(outbox, 5)
    assert_all_arrived(centre, outbox, 50)
    assert centre.deliveries == 50
    assert not any(event.historical for event in centre.stored.values())


@pytest.mark.usefixtures("publishing")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_broker_restarts_lose_nothing(mosquitto: Any, centre: Centre, outbox: SqliteOutbox, how: str) -> None:
    for _ in range(3):
        append(outbox, 100)
        getattr(mosquitto, how)()
        append(outbox, 100)
        mosquitto.start()
        centre.wait_connected()
    assert_all_arrived(centre, outbox, 600)


def test_broker_that_is_down_at_the_start_is_waited_for(mosquitto: Any, outbox: SqliteOutbox) -> None:
    mosquitto.stop()
    append(outbox, 20)
    device = Device()
    broker = connect(mosquitto, device.session)
    incoming = broker.take(5)
    assert incoming is not None
    assert (incoming.kind, "cannot be reached" in incoming.detail) == (
        "disconnected",
        True,
    )
    assert broker.publish(TOPICS.events, b"x", qos=1) is False
    mosquitto.start()
    wait_for(lambda: broker.connected)
    broker.close()


def test_cut_connection_gives_the_will_and_a_goodbye_does_not(mosquitto: Any, centre: Centre) -> None:
    polite, session = uuid4(), uuid4()
    leaving = connect(mosquitto, polite)
    wait_for(lambda: leaving.connected)
    leaving.close()
    dying = connect(mosquitto, session)
    wait_for(lambda: dying.connected)
    sock: Any = dying._client.socket()
    dying._client.reconnect_delay_set(60, 60)
    sock.shutdown(2)
    state = centre.states.get(timeout=10)
    assert (state.status, state.session_id) == ("offline", session)
    dying.close()


@pytest.mark.parametrize(
    ("user", "password"),
    [(STORE, "wrong"), ("nobody", "guessed")],
    ids=["wrong password", "unknown user"],
)
def test_refused_credentials_are_told_in_words(mosquitto: Any, user: str, password: str) -> None:
    broker = MqttBroker(
        address(mosquitto.url, user, "x", password),
        will=Will(TOPICS.state, b"{}"),
        subscriptions=[],
    )
    incoming = broker.take(5)
    assert incoming == Incoming(
        "disconnected",
        detail=f"broker 127.0.0.1:{mosquitto.port} refused the connection: Not authorized",
    )
    assert password not in repr(address(mosquitto.url, user, "x", password))
    broker.close()


def test_closing_is_quick_on_a_link_that_came_back_and_then_died(mosquitto: Any) -> None:
    broker = connect(mosquitto, uuid4())
    wait_for(lambda: broker.connected)
    mosquitto.kill()
    wait_for(lambda: not broker.connected)
    mosquitto.start()
    wait_for(lambda: broker.connected)
    os.kill(mosquitto.pid, signal.SIGSTOP)
    try:
        for _ in range(200):  # more than the sockets buffer
            broker.publish(TOPICS.telemetry, b"x" * 100_000, qos=0)
        started = time.monotonic()
        broker.close()
        assert time.monotonic() - started < 3
    finally:
        os.kill(mosquitto.pid, signal.SIGCONT)


def test_store_cannot_read_another_store(mosquitto: Any, caplog: pytest.LogCaptureFixture) -> None:
    broker = MqttBroker(
        address(mosquitto.url, "paris-02", "spy"),
        will=Will("storefleet/v1/paris-02/node-1/state", b"{}"),
        subscriptions=[TOPICS.events],
    )
    wait_for(lambda: broker.connected)
    other = connect(mosquitto, uuid4())
    wait_for(lambda: other.connected)
    other.publish(TOPICS.events, b"secret", qos=1)
    time.sleep(0.3)
    seen = []
    while (incoming := broker.take(0)) is not None:
        seen.append(incoming.kind)
    assert seen == ["connected"]
    broker.close()
    other.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "mqtt://",
        "mqtt://user:pw@host",
        "mqtt://host:99999",
        "host:1883",
        "mqtt://[::1",
    ],
)
def test_unusable_addresses_are_refused(url: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        split_mqtt_url(url)
    assert "pw" not in str(refusal.value)


def certificate_files(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 (its own CA) and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves it unclosed
def test_tls_is_used_and_a_stranger_is_not_trusted(tmp_path: Path, mosquitto: Any) -> None:
    certificate, key = certificate_files(tmp_path)
    mosquitto.stop()
    config = mosquitto._config
    config.write_text(config.read_text() + f"cafile {certificate}\ncertfile {certificate}\nkeyfile {key}\n")
    mosquitto.start()
    url = mosquitto.url.replace("mqtt:", "mqtts:")
    (tmp_path / "other").mkdir()
    stranger, _ = certificate_files(tmp_path / "other")
    results = []
    for ca_file in (certificate, stranger):
        broker = MqttBroker(
            MqttAddress(url, "x", username=STORE, password=f"{STORE}-secret", ca_file=ca_file),
            will=Will(TOPICS.state, b"{}"),
            subscriptions=[],
        )
        incoming = broker.take(5)
        results.append(incoming.kind if incoming else "")
        broker.close()
    gc.collect()
    assert results == ["connected", "disconnected"]


def test_unusable_ca_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="CA file"):
        MqttBroker(
            MqttAddress("mqtts://127.0.0.1:1", "x", ca_file=tmp_path / "none.pem"),
            will=Will(TOPICS.state, b"{}"),
            subscriptions=[],
        )
