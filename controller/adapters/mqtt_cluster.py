"""The ``Cluster`` port for stores that nobody can reach: they are told over MQTT and tell how it goes.

``Deployers`` serves all such stores on one connection, and remembers of each what was published last and
what its deployer reported. It keeps nothing on disk: the broker retains both, and a deployer that knows
better than a broker which lost them says so in its report. An idle store costs two dictionary entries
of about 2 KB.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contract.deployment import (
    MAX_DESIRED_BYTES,
    DesiredState,
    decode_envelope,
    decode_reported,
    open_desired,
    pack,
)
from contract.errors import ContractError, TopicError
from contract.signing import Signed, digest_bytes
from contract.topics import Channel, DeployerTopics, parse
from controller.cluster import Applied
from controller.domain.deployment import Observed
from controller.domain.pull import Heard, Published, is_lost, next_generation, observed_of
from controller.domain.workload import Workload
from controller.errors import PermanentError, TransientError

log = logging.getLogger(__name__)

MAX_STORES = 50_000
"""Reports of more stores than this are not remembered: memory stays bounded whatever the broker lets in."""


class Link(Protocol):
    """The connection: ``mqtt_link.MqttLink``."""

    def is_synced(self) -> bool: ...

    @property
    def error(self) -> str: ...

    def publish(self, topic: str, payload: bytes) -> None: ...


@dataclass
class _Known:
    published: Published | None = None
    heard: Heard | None = None
    publishing: threading.Lock = field(default_factory=threading.Lock)


class Deployers:
    """What is known of every store with a deployer. ``receive`` is called by the link's thread."""

    def __init__(
        self,
        sign: Callable[[str], Signed],
        trusted: Callable[[], list[Ed25519PublicKey]],
        clock: Callable[[], datetime],
        on_report: Callable[[str], None] = lambda store: None,
    ) -> None:
        """``on_report`` is called with every store whose deployer said something just now; it must not
        wait."""
        self._on_report = on_report
        self._sign = sign
        self._trusted = trusted
        self._clock = clock
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._stores: dict[str, _Known] = {}

    def connect(self, link: Link) -> None:
        """Use this connection, whose messages go to ``receive``."""
        self._link = link

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take in what the broker sends on one of ``DEPLOYER_SUBSCRIPTIONS``. Never raises."""
        try:
            parsed = parse(topic)
        except TopicError as error:
            log.warning("a message came in on a topic that is none of ours: %s", error)
            return
        try:
            if parsed.channel is Channel.REPORTED:
                self._hear(parsed.store, self._heard(parsed.store, payload, retained) if payload else None)
                if payload and not retained:
                    self._on_report(parsed.store)
            elif parsed.channel is Channel.DESIRED:
                self._find(parsed.store, self._published(payload) if payload else None)
        except ContractError as error:
            log.warning("a message on %s cannot be used: %s", topic[:120], error)
            if parsed.channel is Channel.DESIRED:
                self._find(parsed.store, None)

    def observe(self, store: str) -> Observed:
        """Raises ``TransientError`` while the broker cannot be reached."""
        self._synced()
        with self._lock:
            known = self._stores.get(store, _Known())
            published, heard = known.published, known.heard
        return observed_of(published, heard, self._clock())

    def publish(self, store: str, namespace: str, workload: Workload | None) -> int:
        """Tell the store to run ``workload``, or nothing. Its generation, which stays as it is when that
        is what the store was told last. Raises ``TransientError``, ``PermanentError``."""
        link = self._synced()
        known = self._entry(store)
        if known is None:
            raise PermanentError(f"more than {MAX_STORES} stores have a deployer; run a second controller")
        with known.publishing:
            before, report = known.published, known.heard.report if known.heard else None
            content = _content(namespace, workload)
            if before is not None and before.content == content and not is_lost(before, report):
                return before.generation
            generation = next_generation(before, report)
            signed = self._sign(pack(_desired(store, namespace, workload, generation, self._clock())))
            payload = signed.to_bytes()
            if len(payload) > MAX_DESIRED_BYTES:
                raise PermanentError(
                    f"what store {store} shall run takes {len(payload)} bytes; a deployer is sent at most "
                    f"{MAX_DESIRED_BYTES}: make its configuration smaller"
                )
            link.publish(DeployerTopics(store).desired, payload)
            digest = digest_bytes(signed.payload.encode())
            known.published = Published(
                generation, digest, content, workload.rollout_id if workload else None
            )
            return generation

    def _synced(self) -> Link:
        if self._link is None or not self._link.is_synced():
            raise TransientError(self._link.error if self._link else "not connected yet", retry_after=1.0)
        return self._link

    def _entry(self, store: str) -> _Known | None:
        with self._lock:
            if store not in self._stores and len(self._stores) >= MAX_STORES:
                return None
            return self._stores.setdefault(store, _Known())

    def _hear(self, store: str, heard: Heard | None) -> None:
        """None: the report was deleted at the broker."""
        known = self._entry(store)
        if known is not None:
            known.heard = heard

    def _find(self, store: str, found: Published | None) -> None:
        """Someone else wrote what the store shall run, or deleted it. A newer state is another centre's;
        anything else has taken the place of ours, which then has to be written again."""
        known = self._entry(store)
        if known is None:
            return
        ours = known.published
        if found is not None and (ours is None or found.generation >= ours.generation):
            known.published = found
        elif ours is not None:
            log.warning("store %s: what the centre published was overwritten at the broker", store)
            known.published = replace(ours, digest="", content="", rollout_id=None)

    def _heard(self, store: str, payload: bytes, retained: bool) -> Heard:
        """A retained report says what was, so its deployer was alive when it wrote it, by its own clock;
        any other was written now, whatever its clock says."""
        report, now = decode_reported(payload), self._clock()
        if report.store != store:
            raise ReportOfAnotherStoreError(f"it is of store {report.store!r}")
        return Heard(report, min(report.at, now) if retained else now)

    def _published(self, payload: bytes) -> Published:
        """What a centre with our key published: before this one started, or beside it."""
        signed = decode_envelope(payload)
        state = open_desired(signed, self._trusted())
        digest = digest_bytes(signed.payload.encode())
        rollout_id = str(state.rollout_id) if state.rollout_id else None
        content = _digest_of(state.namespace, rollout_id, state.daemon_set, state.config_map)
        return Published(state.generation, digest, content, rollout_id)


class ReportOfAnotherStoreError(ContractError):
    """A report on one store's topic that says it is another's."""


@dataclass(frozen=True, slots=True)
class MqttCluster:
    """One store of ``Deployers``. Implements ``controller.cluster.Cluster``."""

    deployers: Deployers
    namespace: str = "storefleet"

    def apply(self, workload: Workload) -> Applied:
        if workload.namespace != self.namespace:
            raise PermanentError(f"made for namespace {workload.namespace}, not {self.namespace}")
        return Applied(self.deployers.publish(workload.store, self.namespace, workload))

    def observe(self, store: str) -> Observed:
        return self.deployers.observe(store)

    def remove(self, store: str) -> None:
        self.deployers.publish(store, self.namespace, None)


def _desired(
    store: str, namespace: str, workload: Workload | None, generation: int, now: datetime
) -> DesiredState:
    found: dict[str, Any] = {}
    if workload is not None:
        found = {
            "rollout_id": workload.rollout_id,
            "daemon_set": workload.daemon_set,
            "config_map": workload.config_map,
        }
    fields = {"store": store, "namespace": namespace, "generation": generation, "issued_at": now}
    return DesiredState.model_validate({**fields, **found})


def _content(namespace: str, workload: Workload | None) -> str:
    if workload is None:
        return _digest_of(namespace, None, None, None)
    return _digest_of(namespace, workload.rollout_id, workload.daemon_set, workload.config_map)


def _digest_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
