"""A lasting MQTT connection for retained state, through paho-mqtt: what a store's deployer and the centre
tell one another. Nothing is kept in a session: retained messages bring everything back after a
connection, so a clean one is enough. Callbacks only hand over.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from controller.errors import PermanentError, TransientError

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
HEADER_BYTES = 64
"""More than MQTT adds to topic and payload."""
PUBLISH_TIMEOUT_S = 10.0
SETTLE_S = 1.0
"""After a subscription the broker sends what it retains, without saying when it is done. It does so at
once; this is what it gets."""


@dataclass(frozen=True, slots=True)
class LinkAddress:
    url: str
    """``mqtt://host:port`` or ``mqtts://host:port``, without credentials."""
    client_id: str
    username: str = ""
    password_file: Path | None = None
    """Read again for every connection, so that a changed password needs no restart."""
    ca_file: Path | None = None


class MqttLink:
    """``start`` connects in the background and stays connected. ``receive`` gets every message of the
    subscriptions, in paho's thread: it must neither wait nor raise."""

    def __init__(
        self,
        address: LinkAddress,
        subscriptions: Sequence[str],
        receive: Callable[[str, bytes, bool], None],
        publish_timeout_s: float = PUBLISH_TIMEOUT_S,
    ) -> None:
        """``receive(topic, payload, retained)``. Raises ``PermanentError`` for an unusable address."""
        self._address = address
        self._subscriptions = tuple(subscriptions)
        self._receive = receive
        self._publish_timeout_s = publish_timeout_s
        self._lock = threading.Lock()
        self._synced_at: float | None = None
        self._packet_limit: int | None = None
        self._refused: dict[int, str] = {}
        """By message id; of messages that nobody waits for at most until the id is used again."""
        self._error = f"not yet connected to {address.url}"
        parts = urlsplit(address.url)
        try:
            port = parts.port
        except ValueError as error:
            raise PermanentError(f"MQTT URL {address.url!r}: {error}") from error
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or "@" in parts.netloc:
            raise PermanentError(
                f"MQTT URL with host {parts.hostname!r}: write mqtt://host:port or mqtts://host:port, "
                "without credentials"
            )
        self._host, self._port = parts.hostname, port or (8883 if parts.scheme == "mqtts" else 1883)
        self._client = self._build()

    def _build(self) -> mqtt.Client:
        """A client that is not yet connected."""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self._address.client_id, protocol=mqtt.MQTTv5
        )
        try:
            if urlsplit(self._address.url).scheme == "mqtts":
                client.tls_set(ca_certs=str(self._address.ca_file) if self._address.ca_file else None)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise PermanentError(f"MQTT certificate authority cannot be read: {error}") from error
        self._set_password(client)
        client.reconnect_delay_set(min_delay=1, max_delay=15)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def start(self) -> None:
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def _start_anew(self, broken: mqtt.Client) -> None:
        """Paho sends what was not acknowledged again after every connection. A message that the broker
        ends the connection for would never let another one through, so it goes with its client."""
        fresh = self._build()
        with self._lock:
            if self._client is not broken:
                return
            self._client, self._synced_at = fresh, None
        broken.disconnect()
        broken.loop_stop()
        self.start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def is_synced(self) -> bool:
        """Whether everything that the broker retains has come in. ``error`` says why not."""
        with self._lock:
            return self._synced_at is not None and time.monotonic() >= self._synced_at

    @property
    def error(self) -> str:
        with self._lock:
            return self._error or "waiting for what the broker retains"

    def publish(self, topic: str, payload: bytes) -> None:
        """Retained, quality of service 1; returns when the broker has it.

        Raises ``TransientError`` (when the answer did not come in time, the broker may still get it) and
        ``PermanentError`` when the broker refuses it.
        """
        if not self._client.is_connected():
            raise TransientError(self.error, retry_after=2.0)
        limit = self._packet_limit
        if limit is not None and len(payload) + len(topic) + HEADER_BYTES > limit:
            raise PermanentError(
                f"{topic}: {len(payload)} bytes, but the MQTT broker lets at most {limit} pass; raise that"
            )
        client = self._client
        sent = client.publish(topic, payload, qos=1, retain=True)
        try:
            sent.wait_for_publish(self._publish_timeout_s)
        except (ValueError, RuntimeError) as error:
            raise TransientError(f"cannot publish {topic}: {error}", retry_after=2.0) from error
        if not sent.is_published():
            self._start_anew(client)
            raise TransientError(
                f"the broker does not acknowledge {topic} ({len(payload)} bytes); does it allow that size?",
                retry_after=5.0,
            )
        with self._lock:
            reason = self._refused.pop(sent.mid or 0, None)
        if reason is not None:
            raise PermanentError(
                f"the MQTT broker refuses {topic}: {reason}; set its access list and size limit as "
                "k3s/README.md says"
            )

    def offer(self, topic: str, payload: bytes) -> bool:
        """``publish`` without waiting; says whether there is a connection to send it on."""
        if not self._client.is_connected():
            return False
        return self._client.publish(topic, payload, qos=1, retain=True).rc == mqtt.MQTT_ERR_SUCCESS

    def _set_password(self, client: mqtt.Client) -> None:
        file = self._address.password_file
        try:
            password = file.read_text().strip() if file else None
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"MQTT password cannot be read: {error}") from error
        if self._address.username:
            client.username_pw_set(self._address.username, password)

    def _note(self, error: str, synced_at: float | None = None) -> None:
        with self._lock:
            self._error, self._synced_at = error, synced_at

    def _on_pre_connect(self, client: mqtt.Client, _userdata: Any) -> None:
        try:
            self._set_password(client)
        except PermanentError as error:
            self._note(str(error))  # the old password may still do; else the broker's refusal tells

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: Any,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._note(f"the MQTT broker refused the connection: {reason}")
            return
        self._packet_limit = getattr(properties, "MaximumPacketSize", None)
        if not self._subscriptions:
            self._note("", time.monotonic())
            return
        options = SubscribeOptions(qos=1, noLocal=True)
        client.subscribe([(topic, options) for topic in self._subscriptions])

    def _on_subscribe(
        self,
        _client: mqtt.Client,
        _userdata: Any,
        _message_id: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        pairs = zip(self._subscriptions, reasons, strict=False)
        refused = [topic for topic, reason in pairs if reason.is_failure]
        if refused:
            self._note(f"the MQTT broker's access list refuses the subscription to {', '.join(refused)}")
        else:
            self._note("", time.monotonic() + SETTLE_S)

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: Any) -> None:
        self._note(f"no MQTT broker answers at {self._host}:{self._port}")

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: Any,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            was_connected, self._synced_at = self._synced_at is not None, None
            if was_connected:  # else the broker's refusal is the better reason
                self._error = f"disconnected from the MQTT broker: {reason}"

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        self._receive(message.topic, bytes(message.payload), message.retain)

    def _on_publish(
        self,
        _client: mqtt.Client,
        _userdata: Any,
        message_id: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        """Called before whoever waits for the message is woken."""
        with self._lock:
            self._refused.pop(message_id, None)
            if reason.is_failure:
                log.error("the MQTT broker refuses a message: %s", reason)
                self._refused[message_id] = str(reason)
