"""Orders that the broker keeps for stores, one retained message each and kind.

A store that is away gets its order when it comes back, and one that never answers holds up nobody. The
sender is level-triggered: it compares what the broker retains with what the database says, and publishes the
difference.
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from contract.errors import TopicError
from controller.errors import ControllerError
from controller.ports import Repositories, Transactions

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""Less than it takes to connect again, so that no reconnection goes unnoticed."""


class RetainedLink(Protocol):
    """The connection over which retained messages go to stores."""

    def is_synced(self) -> bool:
        """Whether all that the broker retains has come in since the last connection."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Retained; returns when the broker has it. Raises ``TransientError``."""


@dataclass(frozen=True, slots=True)
class OrderKind:
    what: str
    """As logs say it: ``staging order``."""
    topic: Callable[[str], str]
    """Of a store."""
    store_of: Callable[[str], str]
    """Of a topic. Raises ``TopicError`` for one of another kind."""
    revision: Callable[[Repositories], object]
    """Equal to an earlier one only when no order has changed meanwhile."""
    orders: Callable[[Repositories], dict[str, bytes]]
    """Payload by store."""


class RetainedSender:
    """``run`` is the thread; ``receive`` is called with what the broker retains, from any other."""

    def __init__(self, kind: OrderKind, transactions: Transactions, link: Callable[[], RetainedLink]) -> None:
        self._kind = kind
        self._transactions = transactions
        self._link = link
        self._lock = threading.Lock()
        self._at_broker: dict[str, bytes] = {}
        """Digests, not payloads: thousands of stores are often told the same kilobytes."""
        self._sent: object = None
        """Revision of the database that the broker has."""
        self._complaint = ""

    def receive(self, topic: str, payload: bytes, retained: bool) -> bool:
        """Whether the message was an order of this kind, our own, as the broker has it now."""
        try:
            store = self._kind.store_of(topic)
        except TopicError:
            return False
        self._note(store, payload)
        return True

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_EVERY_S):
            try:
                self._look()
                self._complaint = ""
            except ControllerError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.warning("%ss not sent, trying again: %s", self._kind.what, error)

    def _look(self) -> None:
        link = self._link()
        if not link.is_synced():
            with self._lock:
                self._at_broker.clear()  # The broker may have forgotten, and tells again when it is there.
            self._sent = None
            return
        with self._transactions.reading() as repositories:
            revision = self._kind.revision(repositories)
            if revision == self._sent:
                return
            orders = self._kind.orders(repositories)
        with self._lock:
            before = dict(self._at_broker)
        for store in sorted(orders.keys() | before.keys()):
            payload = orders.get(store, b"")
            if not payload or _digest(payload) != before.get(store):
                link.publish(self._kind.topic(store), payload)
                self._note(store, payload)
                log.info("store %s: %s sent", store, self._kind.what)
        self._sent = revision

    def _note(self, store: str, payload: bytes) -> None:
        """What the broker has for the store; nothing when that is empty."""
        with self._lock:
            if payload:
                self._at_broker[store] = _digest(payload)
            else:
                self._at_broker.pop(store, None)


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()
