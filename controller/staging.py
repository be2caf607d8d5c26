"""Bringing models to stores ahead of a release: what shall be staged, and telling the stores.

Each store has one retained message with the models it shall hold ready (see ``controller.retained``).
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from contract.base import MAX_MESSAGE_BYTES
from contract.messages import MAX_STAGED_MODELS, StagingOrder
from contract.topics import parse_staging_topic, staging_topic
from controller.deploying import load_release
from controller.domain.journal import AuditEntry
from controller.domain.page import MAX_LIMIT, Page, PageRequest
from controller.domain.staging import Progress, Staging, progress_of
from controller.errors import InvalidError, PermanentError, TransientError
from controller.ports import Repositories, Transactions
from controller.retained import OrderKind

log = logging.getLogger(__name__)


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


STAGING_ORDERS = OrderKind(
    "staging order",
    staging_topic,
    parse_staging_topic,
    lambda repositories: repositories.stagings.revision(),
    _orders,
)
