"""Bringing models to stores ahead of a release: what shall be staged, and telling the stores.

Each store has one retained message with the models it shall hold ready, so a store that is away gets it when
it comes back, and one that never answers holds up nobody. The sender is level-triggered: it compares what
the broker retains with what the database says, and publishes the difference.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from contract.base import MAX_MESSAGE_BYTES
from contract.errors import TopicError
from contract.messages import MAX_STAGED_MODELS, StagingOrder
from contract.topics import parse_staging_topic, staging_topic
from controller.deploying import load_release
from controller.domain.journal import AuditEntry
from controller.domain.page import MAX_LIMIT, Page, PageRequest
from controller.domain.staging import Progress, Staging, progress_of
from controller.errors import ControllerError, InvalidError, PermanentError, TransientError
from controller.ports import Repositories, Transactions

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""Less than it takes to connect again, so that no reconnection goes unnoticed."""


def stage(
    transactions: Transactions, release: str, stores: Sequence[str] | None, *, actor: str, now: datetime
) -> list[Staging]:
    """Have these stores, or all (None), hold the release's model ready. Staging again renews the request;
    of a store's requests the newest ``MAX_STAGED_MODELS`` stay.

    Raises ``NotFoundError`` for an unknown release, ``InvalidError`` for unknown stores; then nothing is
    staged.
    """
    with transactions.writing() as repositories:
        wanted = load_release(repositories, release)
        names = _all_stores(repositories) if stores is None else list(dict.fromkeys(stores))
        if not names:
            raise InvalidError("there is no store to stage to; register one with storefleet stores add")
        known = repositories.stores.known(names)
        problems = [
            f"store {name[:80]!r} does not exist; register it with storefleet stores add"
            for name in names
            if name not in known
        ]
        if problems:
            message = problems[0] if len(problems) == 1 else f"{len(problems)} of {len(names)} stores refused"
            raise InvalidError(message, problems)
        if len(StagingOrder(models=(wanted.signed,)).to_bytes()) > MAX_MESSAGE_BYTES // MAX_STAGED_MODELS:
            raise InvalidError(
                f"the manifest of release {release} is too large to stage; deploy it, which fetches it too"
            )
        made = [Staging(name, release, wanted.manifest.digest, actor, now) for name in names]
        repositories.stagings.put(made, keep=MAX_STAGED_MODELS)
        detail = {"stores": len(names), "first": names[:20]}
        repositories.audit.add(AuditEntry(now, actor, "release.stage", release, detail))
    return made


def staging_progress(
    transactions: Transactions, release: str | None, store: str | None, request: PageRequest, now: datetime
) -> Page[Progress]:
    """How far they are, a page at a time, by store and release."""
    with transactions.reading() as repositories:
        page = repositories.stagings.page(release, store, request)
        return Page(progress_among(repositories, page.items, now), page.next_cursor, page.end_cursor)


def progress_among(
    repositories: Repositories, stagings: Iterable[Staging], now: datetime
) -> tuple[Progress, ...]:
    chosen = list(stagings)
    devices, _ = repositories.fleet.of_stores({staging.store for staging in chosen})
    models = {digest: repositories.models.get(digest) for digest in {s.model_digest for s in chosen}}
    sizes = {digest: model.size_bytes for digest, model in models.items() if model is not None}
    return tuple(
        progress_of(
            staging,
            sizes.get(staging.model_digest, 1),
            [device for device in devices if device.store == staging.store],
            now,
        )
        for staging in chosen
    )


class RetainedLink(Protocol):
    """The connection over which retained messages go to stores."""

    def is_synced(self) -> bool:
        """Whether all that the broker retains has come in since the last connection."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Retained; returns when the broker has it. Raises ``TransientError``."""


class StagingSender:
    """``run`` is the thread; ``receive`` is called with what the broker retains, from any other."""

    def __init__(self, transactions: Transactions, link: Callable[[], RetainedLink]) -> None:
        self._transactions = transactions
        self._link = link
        self._lock = threading.Lock()
        self._at_broker: dict[str, bytes] = {}
        """Digests, not payloads: thousands of stores are often told the same kilobytes."""
        self._sent: object = None
        """Revision of the database that the broker has."""
        self._complaint = ""

    def receive(self, topic: str, payload: bytes, retained: bool) -> bool:
        """Whether the message was a staging order, our own, as the broker has it now."""
        try:
            store = parse_staging_topic(topic)
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
                    log.warning("staging orders not sent, trying again: %s", error)

    def _look(self) -> None:
        link = self._link()
        if not link.is_synced():
            with self._lock:
                self._at_broker.clear()  # The broker may have forgotten, and tells again when it is there.
            self._sent = None
            return
        with self._transactions.reading() as repositories:
            revision = repositories.stagings.revision()
            if revision == self._sent:
                return
            orders = _orders(repositories)
        with self._lock:
            before = dict(self._at_broker)
        for store in sorted(orders.keys() | before.keys()):
            payload = orders.get(store, b"")
            if not payload or _digest(payload) != before.get(store):
                link.publish(staging_topic(store), payload)
                self._note(store, payload)
                log.info("store %s: staging order sent", store)
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


def _orders(repositories: Repositories) -> dict[str, bytes]:
    """Payload of every store's staging order, the newest request first."""
    by_store: dict[str, list[Staging]] = {}
    cursor: str | None = None
    while True:
        page = repositories.stagings.page(None, None, PageRequest(MAX_LIMIT, cursor))
        for staging in page.items:
            by_store.setdefault(staging.store, []).append(staging)
        cursor = page.next_cursor
        if cursor is None:
            break
    signed = {}
    for release in {staging.release for stagings in by_store.values() for staging in stagings}:
        try:
            signed[release] = load_release(repositories, release).signed
        except TransientError:
            raise
        except PermanentError as error:
            log.error("release %s cannot be staged: %s", release, error)
    orders = {}
    for store, stagings in by_store.items():
        newest = sorted(stagings, key=lambda staging: (staging.created_at, staging.release), reverse=True)
        models = dict.fromkeys(signed[s.release] for s in newest if s.release in signed)
        orders[store] = StagingOrder(models=tuple(models)[:MAX_STAGED_MODELS]).to_bytes()
    return orders


def _all_stores(repositories: Repositories) -> list[str]:
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = repositories.stores.page(PageRequest(MAX_LIMIT, cursor))
        names += [store.name for store in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return names
