"""The deployer's end of its connection to the centre: only the newest desired state matters."""

import threading
from typing import Protocol

from contract.topics import DeployerTopics


class Link(Protocol):
    """The connection: ``mqtt_link.MqttLink``."""

    def offer(self, topic: str, payload: bytes) -> bool: ...


class DeployerChannel:
    """Implements ``controller.deployer.Channel``. ``receive`` is called by the link's thread."""

    def __init__(self, store: str) -> None:
        self._topics = DeployerTopics(store)
        self._arrived = threading.Condition()
        self._newest: bytes | None = None
        self._link: Link | None = None

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return (self._topics.desired,)

    def connect(self, link: Link) -> None:
        self._link = link

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """A state replaces an earlier one that was not taken yet. An empty message, which deletes the
        retained one, orders nothing."""
        if topic == self._topics.desired and payload:
            with self._arrived:
                self._newest = payload
                self._arrived.notify()

    def take(self, wait_s: float) -> bytes | None:
        with self._arrived:
            if self._newest is None:
                self._arrived.wait(wait_s)
            newest, self._newest = self._newest, None
            return newest

    def report(self, payload: bytes) -> bool:
        return self._link is not None and self._link.offer(self._topics.reported, payload)
