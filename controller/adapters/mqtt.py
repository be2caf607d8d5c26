"""The broker that all stores report to, through paho-mqtt.

The session outlives the controller: what is published meanwhile waits at the broker. Messages are
acknowledged by hand once they are in the database; until then the broker holds at most
``RECEIVE_MAXIMUM`` of them on the way and keeps the rest, which is the back-pressure. Callbacks only
enqueue.
"""

import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from contract.base import MAX_MESSAGE_BYTES
from contract.messages import EventAck
from contract.topics import FLEET_SUBSCRIPTIONS, DeviceTopics
from controller.errors import PermanentError
from controller.ports import BusStatus, Received

RECEIVE_MAXIMUM = 2000
MAXIMUM_PACKET_BYTES = 2 * MAX_MESSAGE_BYTES
"""The broker keeps anything larger from us. What is only somewhat too large becomes a dead letter."""
SESSION_EXPIRY_S = 7 * 24 * 3600
KEEPALIVE_S = 30
IDLE_S = 0.5
"""How long ``take`` waits for a first message."""


@dataclass(frozen=True, slots=True)
class _Receipt:
    connection: int
    message_id: int
    qos: int


def _address(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises ``PermanentError``."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("mqtt", "mqtts") and parts.hostname:
            return parts.scheme, parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883)
    except ValueError as error:
        raise PermanentError(
            f"MQTT URL {url!r}: {error}; write mqtt://host:port or mqtts://host:port"
        ) from error
    raise PermanentError(f"MQTT URL {url!r}: write mqtt://host:port or mqtts://host:port")


class MqttFleetBus:
    """Implements ``ports.FleetBus``. ``start`` connects in the background and stays connected."""

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        clock: Callable[[], datetime],
        username: str = "",
        password_file: Path | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """Raises ``PermanentError`` for a URL, password file or certificate that cannot be used."""
        self._clock = clock
        self._queue: queue.Queue[Received] = queue.Queue(maxsize=4 * RECEIVE_MAXIMUM)
        self._lock = threading.Lock()
        self._status = BusStatus(connected=False, queued=0, sessions_lost=0)
        self._connection = 0
        scheme, self._host, self._port = _address(url)
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True
        )
        try:
            if scheme == "mqtts":
                self._client.tls_set(ca_certs=str(ca_file) if ca_file else None)
            if username:
                password = password_file.read_text().strip() if password_file else None
                self._client.username_pw_set(username, password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise PermanentError(f"MQTT credentials cannot be read: {error}") from error
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    def start(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAXIMUM_PACKET_BYTES
        self._client.connect_async(
            self._host, self._port, keepalive=KEEPALIVE_S, clean_start=False, properties=properties
        )
        self._client.loop_start()

    def close(self) -> None:
        """Leave; the session stays at the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def take(self, limit: int, wait_s: float) -> list[Received]:
        try:
            taken = [self._queue.get(timeout=IDLE_S)]
        except queue.Empty:
            return []
        deadline = time.monotonic() + wait_s
        while len(taken) < limit:
            try:
                taken.append(self._queue.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
        return taken

    def acknowledge(self, messages: Iterable[Received]) -> None:
        for message in messages:
            receipt = message.receipt
            # A message id means another message once the connection is a new one.
            if isinstance(receipt, _Receipt) and receipt.connection == self._connection and receipt.qos:
                self._client.ack(receipt.message_id, receipt.qos)

    def send_ack(self, store: str, device: str, ack: EventAck) -> None:
        """Best effort: when it does not arrive, the device's next heartbeat asks for another."""
        if self._client.is_connected():
            self._client.publish(DeviceTopics(store, device).acks, ack.to_bytes(), qos=1)

    def status(self) -> BusStatus:
        with self._lock:
            return replace(self._status, queued=self._queue.qsize())

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._note(connected=False, error=f"the broker refused the connection: {reason}")
            return
        self._connection += 1
        lost = self._status.sessions_lost + (0 if flags.session_present else 1)
        self._note(connected=True, error="", sessions_lost=lost)
        kept = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(topic, kept) for topic in FLEET_SUBSCRIPTIONS])

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: Any,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [
            topic for topic, reason in zip(FLEET_SUBSCRIPTIONS, reasons, strict=False) if reason.is_failure
        ]
        if refused:
            self._note(error=f"the broker's access list refuses the subscription to {', '.join(refused)}")

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: Any) -> None:
        self._note(connected=False, error=f"no MQTT broker answers at {self._host}:{self._port}")

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: Any,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connection += 1  # so that nothing is acknowledged on the next connection by mistake
        if self._status.connected:  # else the broker's refusal is the better reason
            detail = f"disconnected from the broker: {reason}" if reason.is_failure else ""
            self._note(connected=False, error=detail)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        receipt = _Receipt(self._connection, message.mid, message.qos)
        received = Received(message.topic, bytes(message.payload), self._clock(), message.retain, receipt)
        if message.qos == 0 and self._queue.qsize() > RECEIVE_MAXIMUM:
            self._note(dropped=self._status.dropped + 1)
            return
        while True:
            try:
                self._queue.put_nowait(received)
                return
            except queue.Full:  # only after several reconnects with a stopped database
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        """It came over an earlier connection, and the broker has sent it again over this one. The newest
        must stay: only its acknowledgement makes room for more at the broker."""
        with suppress(queue.Empty):
            self._queue.get_nowait()
            self._note(dropped=self._status.dropped + 1)
