"""The MQTT 5 connection of one agent process, through paho-mqtt.

paho's own thread connects, reconnects (for ever, also when the broker was down at the start) and
calls back; the callbacks only enqueue, and the publisher takes what happened from the queue. Nothing
is queued here for later: while disconnected ``publish`` says False, because the outbox on disk is the
only queue that survives a power cut.

The client id ends in the session id, so that the agents of two releases on one node never throw each
other off the broker during a handover.
"""

import logging
import queue
import ssl
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import PermanentError
from agent.ports import Incoming

MAX_IN_FLIGHT = 20
"""QoS 1 messages the broker has not acknowledged; Mosquitto's own default limit."""
MAX_QUEUED = 500
"""Messages paho holds in memory; beyond it ``publish`` says False and the caller tries again."""
MAX_INCOMING = 1000
"""Messages waiting to be taken; acknowledgements are cumulative, so dropping one is harmless."""
MAX_PACKET_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this connection dies without a goodbye."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """Where the broker is and who we are there. ``url`` is ``mqtt://host:port`` or ``mqtts://host:port``."""

    url: str
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """CA that signed the broker's certificate; None: the system's CAs (mqtts only)."""
    keepalive_s: int = 15
    session_expiry_s: int = 60
    """How long the broker keeps acknowledgements for us when the link flaps."""
    reconnect_min_s: int = 1
    reconnect_max_s: int = 15


class MqttBroker:
    """Implements ``agent.ports.Broker``; starts connecting at once and never gives up.

    Raises ``PermanentError`` for an unusable address or CA file, nothing for a broker that is down.
    """

    def __init__(
        self,
        address: MqttAddress,
        *,
        will: Will | None,
        subscriptions: Sequence[str],
        retained: Collection[str] = (),
    ) -> None:
        """``will`` None: a process that only tells something. ``retained``: the subscriptions of which the
        broker shall also send what it keeps."""
        host, port, tls = split_mqtt_url(address.url)
        self._where = f"{host}:{port}"
        # Nothing retained of our own (we know our past better) and no echo of what we publish ourselves.
        news = SubscribeOptions(qos=1, noLocal=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        kept = SubscribeOptions(qos=1, noLocal=True)
        self._subscriptions = [(topic, kept if topic in retained else news) for topic in subscriptions]
        self._incoming: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        self._connected = threading.Event()
        self._gone = threading.Event()
        self._last_failure = ""
        self._last_published: MQTTMessageInfo | None = None
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        if address.username:
            client.username_pw_set(address.username, address.password)
        if tls:
            try:
                client.tls_set(
                    str(address.ca_file) if address.ca_file else None,
                    tls_version=ssl.PROTOCOL_TLS_CLIENT,
                )
            except (OSError, ValueError) as error:
                raise PermanentError(f"cannot use the MQTT CA file {address.ca_file}: {error}") from error
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        client.reconnect_delay_set(address.reconnect_min_s, address.reconnect_max_s)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.connect_async(
            host,
            port,
            keepalive=address.keepalive_s,
            properties=_connect_properties(address.session_expiry_s),
        )
        client.loop_start()

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> bool:
        if not self.connected:
            return False
        self._last_published = info = self._client.publish(topic, payload, qos=qos, retain=retain)
        return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def flush(self, timeout: float) -> bool:
        """Wait until the broker has acknowledged what was published last (QoS 1); whether it has."""
        last = self._last_published
        if last is None:
            return True
        try:
            last.wait_for_publish(timeout)
        except (ValueError, RuntimeError):  # paho's words for "not sent": the queue is full, or disconnected
            return False
        return last.is_published()

    def take(self, timeout: float) -> Incoming | None:
        try:
            return self._incoming.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Say goodbye (the will is then not sent) after what is queued; at most a second or so."""
        self._client.disconnect()
        if not self._connected.is_set() or self._gone.wait(1.0):
            self._client.loop_stop()

    def _on_connect(
        self,
        client: Client,
        _: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        props: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._failed(f"broker {self._where} refused the connection: {reason}")
            return
        self._last_failure = ""
        if self._subscriptions:
            client.subscribe(self._subscriptions)
        self._gone.clear()
        self._connected.set()
        self._incoming.put(Incoming("connected", detail=self._where))

    def _on_connect_fail(self, client: Client, _: Any) -> None:
        self._failed(f"broker {self._where} cannot be reached")

    def _failed(self, text: str) -> None:
        if text != self._last_failure:
            self._last_failure = text
            self._incoming.put(Incoming("disconnected", detail=text))

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        props: Properties | None,
    ) -> None:
        was_connected = self._connected.is_set()
        self._connected.clear()
        self._gone.set()
        if was_connected:
            self._failed(f"connection to broker {self._where} lost: {reason}")

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        if self._incoming.qsize() < MAX_INCOMING:
            self._incoming.put(Incoming("message", topic=message.topic, payload=bytes(message.payload)))

    def _on_subscribe(
        self,
        client: Client,
        _: Any,
        mid: int,
        reasons: list[ReasonCode],
        props: Properties | None,
    ) -> None:
        for (topic, _), reason in zip(self._subscriptions, reasons, strict=False):
            if reason.is_failure:
                _log.error(
                    "broker refused a subscription; let this store's credential read under its own prefix",
                    extra={"topic": topic, "reason": str(reason)},
                )


def split_mqtt_url(url: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is wanted. Raises ``PermanentError``.

    >>> split_mqtt_url("mqtts://broker.example")
    ('broker.example', 8883, True)
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise PermanentError(f"the MQTT URL is not a URL: {error}") from error
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
        raise PermanentError("the MQTT URL must look like mqtt://host:port or mqtts://host:port")
    if parts.username or parts.password:
        raise PermanentError("the MQTT URL holds credentials: give a user name and a password file instead")
    tls = parts.scheme == "mqtts"
    return parts.hostname, port or (8883 if tls else 1883), tls


def _connect_properties(session_expiry_s: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = 100
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties
