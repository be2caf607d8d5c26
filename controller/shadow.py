"""Shadow runs: which stores try a candidate beside their model, and telling the stores.

Each store has one retained, signed order (see ``controller.retained``). ``order`` and ``withdraw`` work in
the transaction of whoever needs them, an operator's request or a rollout's step.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from contract.shadow import ShadowOrder
from contract.signing import Signed
from contract.topics import parse_shadow_topic, shadow_topic
from contract.workload import decode_manifest
from controller.deploying import load_release
from controller.domain.journal import AuditEntry
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.domain.shadow import ShadowRun
from controller.errors import InvalidError, NotFoundError
from controller.ports import Repositories
from controller.retained import OrderKind

MAX_FOR = timedelta(days=31)


def order(
    repositories: Repositories,
    release: str,
    stores: Sequence[str],
    *,
    cpu_percent: float,
    until: datetime,
    actor: str,
    now: datetime,
    rollout_id: UUID | None = None,
) -> list[ShadowRun]:
    """Have the nodes of ``stores`` try the release's model beside their own, in place of what they try so
    far. Ordering the same again changes nothing but the end. Raises ``NotFoundError`` for an unknown release,
    ``InvalidError`` for unknown stores and figures out of range; then nothing is ordered.
    """
    if not 0 < cpu_percent <= 100:
        raise InvalidError(f"cpu_percent: {cpu_percent:g} is not above 0 and at most 100, of one core")
    if not now < until <= now + MAX_FOR:
        raise InvalidError(f"until: a shadow run ends in the future, in at most {MAX_FOR.days} days")
    digest = load_release(repositories, release).manifest.digest
    names = list(dict.fromkeys(stores))
    known = repositories.stores.known(names)
    problems = [
        f"store {name[:80]!r} does not exist; register it with storefleet stores add"
        for name in names
        if name not in known
    ]
    if problems or not names:
        raise InvalidError(problems[0] if problems else "name at least one store", problems)
    runs = [ShadowRun(name, digest, cpu_percent, until, actor, now, rollout_id) for name in names]
    repositories.shadows.put(runs)
    detail = {"stores": len(names), "first": names[:20], "cpu_percent": cpu_percent}
    repositories.audit.add(AuditEntry(now, actor, "shadow.order", release, detail))
    return runs


def withdraw(
    repositories: Repositories,
    stores: Sequence[str],
    *,
    actor: str,
    now: datetime,
    model_digest: str | None = None,
) -> None:
    """End the shadow runs of ``stores``; with ``model_digest`` only those of that model. What they counted
    stays."""
    names = list(dict.fromkeys(stores))
    repositories.shadows.withdraw(names, model_digest)
    detail = {"stores": len(names), "first": names[:20]}
    repositories.audit.add(AuditEntry(now, actor, "shadow.withdraw", model_digest or "*", detail))


def shadow_orders(sign: Callable[[str], Signed], clock: Callable[[], datetime]) -> OrderKind:
    """How they are told. Ed25519 signs the same text in the same way, so equal orders are equal bytes."""

    def payloads(repositories: Repositories) -> dict[str, bytes]:
        now = clock()
        return {
            run.store: sign(_order(repositories, run).model_dump_json(exclude_none=True)).to_bytes()
            for run in _runs(repositories)
            if run.until > now
        }

    return OrderKind(
        "shadow order",
        shadow_topic,
        parse_shadow_topic,
        lambda repositories: repositories.shadows.revision(clock()),
        payloads,
    )


def _order(repositories: Repositories, run: ShadowRun) -> ShadowOrder:
    model = repositories.models.get(run.model_digest)
    if model is None:
        raise NotFoundError(f"store {run.store}: model {run.model_digest} of its shadow run is gone")
    manifest = decode_manifest(Signed.model_validate(dict(model.manifest)).payload.encode())
    return ShadowOrder(
        store=run.store,
        model=manifest,
        cpu_percent=run.cpu_percent,
        until=run.until,
        rollout_id=run.rollout_id,
    )


def _runs(repositories: Repositories) -> list[ShadowRun]:
    runs: list[ShadowRun] = []
    cursor: str | None = None
    while True:
        page = repositories.shadows.page(PageRequest(MAX_LIMIT, cursor))
        runs += page.items
        cursor = page.next_cursor
        if cursor is None:
            return runs
