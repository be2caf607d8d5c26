"""The one connection to the broker over which all simulated agents speak, and a broker that lets them."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from contract.topics import PREFIX
from storefleet.demo.broker import BrokerFiles, write_broker_files

FLEET_USER = "simulated-fleet"
KEEPALIVE_S = 30


@dataclass(frozen=True, slots=True)
class FleetBroker:
    files: BrokerFiles
    password: str = field(repr=False)
    """Of ``FLEET_USER``, who may speak for every store."""


def write_fleet_broker(directory: Path, port: int) -> FleetBroker:
    """Like the demo's broker, but with one user for all agents: a thousand connections would measure the
    machine."""
    files = write_broker_files(directory, (FLEET_USER,), port)
    access = directory / "acl"
    access.write_text(f"{access.read_text()}\ntopic readwrite {PREFIX}/#\n")
    return FleetBroker(files, files.passwords[FLEET_USER])


class FleetLink:
    """``start`` connects in the background and stays connected."""

    def __init__(self, broker: FleetBroker) -> None:
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"fleet-{secrets.token_hex(4)}",
            protocol=mqtt.MQTTv5,
        )
        self._client.username_pw_set(FLEET_USER, broker.password)
        self._port = broker.files.port

    def start(self) -> None:
        self._client.connect_async("127.0.0.1", self._port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, retained: bool) -> None:
        """What is retained at quality of service 1, everything else at 0; sent as soon as there is a
        connection."""
        self._client.publish(topic, payload, qos=1 if retained else 0, retain=retained)
