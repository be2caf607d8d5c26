"""Making deployments, for whoever wants them: an operator by hand, or a rollout for a part of its stores.

All in the caller's transaction, in batches: a rollout asks for thousands of stores at a time.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contract.errors import ConfigError, ContractError
from contract.signing import Signed
from contract.store_config import load_store_config
from contract.workload import decode_manifest
from controller.domain.deployment import State
from controller.domain.fleet import StoreConfigVersion
from controller.domain.journal import AuditEntry
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.domain.records import Deployment
from controller.domain.release import Release, fit_refusal
from controller.errors import ConflictError, NotFoundError, PermanentError
from controller.ports import Repositories

LAST_KNOWN_GOOD = "last_known_good"
"""Key of a deployment's ``detail``: the release that was ready in the store before."""

PRESENT, ABSENT = "present", "absent"

MAX_SKUS = 50_000
_SKUS: dict[str, tuple[str, ...]] = {}
"""By digest of a store configuration, which says all of it."""


@dataclass(frozen=True, slots=True)
class DeploymentOrder:
    """What one store shall run."""

    store: str
    release: str | None
    """None: nothing any more."""
    over: UUID | None = None
    """The deployment that is expected to be the store's current one; see ``make_deployments``."""
    returning: bool = False
    """It ran this release before; should its present configuration not fit, the one of then is used."""


@dataclass(frozen=True, slots=True)
class Made:
    deployments: Mapping[str, Deployment]
    """By store."""
    refused: Mapping[str, str]
    """Store → why it cannot run the release. It was left alone."""


def make_deployments(
    repositories: Repositories,
    wanted: Sequence[DeploymentOrder],
    *,
    actor: str,
    now: datetime,
    new_id: Callable[[], UUID],
    rollout: str | None = None,
    check_current: bool = False,
) -> Made:
    """One deployment for each store that can run what is wanted; an earlier one is superseded.

    ``check_current``: raise ``ConflictError`` when a store's current deployment is another one than ``over``
    says, so that what was decided on an old picture is decided again.
    Raises ``NotFoundError`` for an unknown release.
    """
    names = [one.store for one in wanted]
    known = repositories.stores.known(names)
    configs = repositories.configs.currents(names)
    current = {deployment.store: deployment for deployment in repositories.deployments.current(names)}
    releases = {name: load_release(repositories, name) for name in {one.release for one in wanted} if name}
    made: dict[str, Deployment] = {}
    refused: dict[str, str] = {}
    messages: dict[str, str] = {}
    audit = []
    for one in wanted:
        before = current.get(one.store)
        if check_current and (before.rollout_id if before else None) != one.over:
            raise ConflictError(f"store {one.store}: another deployment came in at the same moment")
        if one.release is None:
            if before is None:
                refused[one.store] = f"store {one.store} has no deployment that could be taken away"
                continue
            digest, release = before.config_digest, before.release
        else:
            release = one.release
            digest, words = fitting_config(one.store, known, configs.get(one.store), releases[release])
            if digest is None and one.returning:
                digest = _config_of_then(repositories, one.store, release)
            if digest is None:
                refused[one.store] = words
                continue
        deployment = Deployment(
            rollout_id=new_id(),
            store=one.store,
            release=release,
            desired=ABSENT if one.release is None else PRESENT,
            generation=before.generation + 1 if before else 1,
            state=State.PENDING,
            message="waiting for the reconciler",
            requested_by=actor,
            created_at=now,
            config_digest=digest,
            detail={LAST_KNOWN_GOOD: last_known_good(before)},
            rollout=rollout,
        )
        made[one.store] = deployment
        if before is not None:
            messages[one.store] = f"superseded by {one.release or 'a removal'} while {before.state}"
        detail: dict[str, object] = {"release": one.release, "rollout_id": str(deployment.rollout_id)}
        action = "deployment.create" if one.release else "deployment.remove"
        detail |= {"rollout": rollout} if rollout else {}
        audit.append(AuditEntry(now, actor, action, one.store, detail))
    repositories.deployments.supersede(list(made.values()), messages)
    repositories.audit.add_all(audit)
    return Made(made, refused)


def last_known_good(before: Deployment | None) -> str | None:
    """The release to go back to, should the one that replaces ``before`` turn out bad."""
    if before is None:
        return None
    if before.ready_at is not None:
        return before.release if before.desired == PRESENT else None
    known = before.detail.get(LAST_KNOWN_GOOD)
    return str(known) if known else None


def load_release(repositories: Repositories, name: str) -> Release:
    """A release with its signed manifest. Raises ``NotFoundError``, ``PermanentError``."""
    record = repositories.releases.get(name)
    if record is None:
        raise NotFoundError(
            f"release {name[:80]!r} does not exist; storefleet release list shows those that do"
        )
    model = repositories.models.get(record.model_digest)
    if model is None:
        raise PermanentError(f"release {name}: its model {record.model_digest} is gone; import it again")
    try:
        signed = Signed.model_validate(dict(model.manifest))
        manifest = decode_manifest(signed.payload.encode())
    except (ContractError, ValueError) as error:
        raise PermanentError(f"release {name}: the manifest of its model is damaged: {error}") from error
    return Release(record.name, record.agent_image, manifest, signed, dict(record.settings))


def fitting_config(
    name: str, known: set[str], current: StoreConfigVersion | None, release: Release
) -> tuple[str, str] | tuple[None, str]:
    """The digest of the store's configuration, or None and why the store cannot run the release."""
    if name not in known:
        return None, f"store {name[:80]!r} does not exist; register it with storefleet stores add"
    if current is None:
        return (
            None,
            f"store {name} has no configuration; give it one with storefleet stores config {name} FILE",
        )
    try:
        skus = _skus_of(current)
    except ConfigError as error:
        return None, f"store {name}: its configuration is no longer valid: {error.problems[0]}"
    refusal = fit_refusal(name, skus, release)
    return (None, refusal) if refusal else (current.digest, "")


def _skus_of(version: StoreConfigVersion) -> tuple[str, ...]:
    """Of its planogram. Reading the YAML takes 10 ms, too long for every store of a fleet each time. Raises
    ``ConfigError``."""
    known = _SKUS.get(version.digest)
    if known is None:
        known = tuple(sys.intern(product.sku) for product in load_store_config(version.yaml).planogram)
        if len(_SKUS) >= MAX_SKUS:
            _SKUS.clear()
        _SKUS[version.digest] = known
    return known


def _config_of_then(repositories: Repositories, store: str, release: str) -> str | None:
    earlier = repositories.deployments.page(store, PageRequest(MAX_LIMIT)).items
    return next((d.config_digest for d in earlier if d.release == release and d.desired == PRESENT), None)
