"""Making releases and sending them to stores: checks first, then rows. The reconciler does the rest.

Nothing is written unless all of it is fine: a deployment to ten stores of which one cannot run the
release changes none of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from controller.deploying import DeploymentOrder, load_release, make_deployments
from controller.domain.accelerator import accelerator_of, accelerator_refusal
from controller.domain.fleet import Store
from controller.domain.journal import AuditEntry
from controller.domain.model import Model
from controller.domain.page import MAX_LIMIT, PageRequest
from controller.domain.records import Deployment, ReleaseRecord
from controller.domain.release import image_refusal, name_refusal, setting_refusal
from controller.domain.workload import StoreSite, Workload, WorkloadSettings, build_workload
from controller.errors import ConflictError, InvalidError, NotFoundError, PermanentError
from controller.golden import check_of
from controller.ports import Repositories, Transactions

MAX_SETTINGS = 64


def create_release(
    transactions: Transactions,
    name: str,
    *,
    model: str,
    image: str,
    notes: str,
    settings: Mapping[str, str],
    actor: str,
    now: datetime,
) -> ReleaseRecord:
    """Bind a known model (digest or ``name:version``) to an agent image.

    Raises ``InvalidError`` with every problem found, ``NotFoundError`` for an unknown model,
    ``ConflictError`` when the name is taken.
    """
    problems = [words for words in (name_refusal(name), image_refusal(image)) if words]
    problems += filter(None, (setting_refusal(key, value) for key, value in settings.items()))
    if len(settings) > MAX_SETTINGS:
        problems.append(f"{len(settings)} settings; a release has at most {MAX_SETTINGS}")
    if problems:
        raise InvalidError(problems[0] if len(problems) == 1 else f"release {name[:80]!r} refused", problems)
    with transactions.writing() as repositories:
        found = find_model(repositories, model)
        release = ReleaseRecord(name, found.digest, image, now, actor, dict(settings), notes)
        repositories.releases.add(release)
        detail = {"model": f"{found.name}:{found.version}", "digest": found.digest, "image": image}
        repositories.audit.add(AuditEntry(now, actor, "release.create", name, detail))
    return release


def find_model(repositories: Repositories, reference: str) -> Model:
    """The model of a digest or of ``name:version``; of one in several formats, OpenVINO's.
    Raises ``NotFoundError``."""
    if reference.startswith("sha256:"):
        found = repositories.models.get(reference)
        matches = [found] if found else []
    else:
        matches = [m for m in _models(repositories) if f"{m.name}:{m.version}" == reference]
    if not matches:
        raise NotFoundError(
            f"no model {reference[:200]!r}: give a digest or name:version as storefleet models list shows"
        )
    return min(matches, key=lambda model: model.format != "openvino")


def deploy(
    transactions: Transactions,
    release: str,
    stores: Sequence[str],
    *,
    actor: str,
    now: datetime,
    new_id: Callable[[], UUID],
) -> list[Deployment]:
    """Make ``release`` what these stores shall run. One deployment each; an earlier one is superseded.

    Raises ``NotFoundError`` for an unknown release, ``InvalidError`` with one problem for each store
    that cannot run it; then no store is changed.
    """
    names = list(dict.fromkeys(stores))
    if not names:
        raise InvalidError("name at least one store")
    with transactions.writing() as repositories:
        wanted = [DeploymentOrder(name, release) for name in names]
        made = make_deployments(repositories, wanted, actor=actor, now=now, new_id=new_id)
        problems = list(made.refused.values())
        if problems:
            message = problems[0] if len(problems) == 1 else f"{len(problems)} of {len(names)} stores refused"
            raise InvalidError(message, problems)
    return list(made.deployments.values())


def workload_of(
    repositories: Repositories, deployment: Deployment, fleet: WorkloadSettings, trusted_pem: str
) -> Workload:
    """What the store of ``deployment`` has to run. Raises ``PermanentError`` when a part is missing."""
    store = repositories.stores.get(deployment.store)
    release = load_release(repositories, deployment.release)
    config = repositories.configs.get(deployment.store, deployment.config_digest or "")
    if store is None or config is None:
        raise ConflictError(f"store {deployment.store} or its configuration is gone; deploy again")
    namespace = str(store.cluster.get("namespace") or fleet.namespace)
    golden = check_of(repositories, deployment.rollout_id)
    site = StoreSite(store.name, config.yaml, trusted_pem, golden)
    peers = store.cluster.get("kind") != "local"
    if refusal := accelerator_refusal(store.cluster):
        raise PermanentError(f"store {store.name}: {refusal}; register it again")
    nodes = store.cluster.get("node_selector") or {}
    settings = replace(
        fleet,
        node_selector={**fleet.node_selector, **nodes},
        namespace=namespace,
        peers=peers,
        camera_leases=_camera_leases(store),
        accelerator=accelerator_of(store.cluster),
        nodes_at_once=_nodes_at_once(repositories, deployment),
    )
    return build_workload(release, site, str(deployment.rollout_id), settings)


def _nodes_at_once(repositories: Repositories, deployment: Deployment) -> int:
    """As the rollout that made the deployment allows; one where it was made by hand."""
    spec = repositories.rollouts.spec(deployment.rollout) if deployment.rollout else None
    return spec.limits.max_unavailable if spec is not None else 1


def _camera_leases(store: Store) -> Literal["", "kubernetes", "local"]:
    """Nodes on one machine share whenever there are several; of a cluster its registration says so."""
    if store.cluster.get("kind") == "local":
        return "local" if len(store.cluster.get("nodes") or ()) > 1 else ""
    return "kubernetes" if store.cluster.get("share_cameras") else ""


def _models(repositories: Repositories) -> Iterable[Model]:
    cursor: str | None = None
    while True:
        page = repositories.models.page(PageRequest(MAX_LIMIT, cursor))
        yield from page.items
        if page.next_cursor is None:
            return
        cursor = page.next_cursor
