"""What a plan is made from: a rollout's records, and the present of each of its stores, read in batches."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.deploying import LAST_KNOWN_GOOD, PRESENT
from controller.domain.deployment import State
from controller.domain.fleet import Device, Store, liveness
from controller.domain.records import Deployment
from controller.domain.rollout.plan import plan
from controller.domain.rollout.rank import claims, held_by_others
from controller.domain.rollout.records import Deferral
from controller.domain.rollout.state import GateVerdict, Plan, Rollout, Status, StoreNow, StoreRecord
from controller.ports import Repositories

ANSWERED = frozenset({State.READY, State.PROGRESSING, State.BLOCKED, State.FAILED})
"""States of a deployment that a store's cluster must have answered for."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Of one moment. By store, but for ``others`` and ``withdrawn``."""

    rollout: Rollout
    records: Mapping[str, StoreRecord]
    stores: Mapping[str, StoreNow]
    others: Mapping[str, Status]
    withdrawn: frozenset[str]

    def plan(self, now: datetime, verdicts: Mapping[int, Sequence[GateVerdict]]) -> Plan:
        return plan(
            self.rollout,
            self.records,
            self.stores,
            now=now,
            verdicts=verdicts,
            others=self.others,
            withdrawn=self.withdrawn,
        )


def take_picture(
    repositories: Repositories,
    rollout: Rollout,
    now: datetime,
    records: Mapping[str, StoreRecord] | None = None,
    owners: "Owners | None" = None,
) -> Picture:
    """``records``: instead of what is kept, for a rollout that is only being thought of. ``owners``: of
    ``owners_of_stores``, when it is known already."""
    if records is None:
        records = repositories.rollout_stores.of_rollout(rollout.name)
    if owners is None:
        owners = owners_of_stores(repositories)
    return Picture(
        rollout,
        records,
        stores_now(repositories, rollout, records, owners.above(rollout), now),
        repositories.rollouts.statuses(rollout.spec.after),
        repositories.rollouts.withdrawn(),
    )


@dataclass(frozen=True, slots=True)
class Owners:
    """Who has which store, of the rollouts that are under way."""

    by_store: Mapping[str, str]
    rollouts: Mapping[str, Rollout]

    def above(self, rollout: Rollout) -> dict[str, str]:
        """Store → the rollout that has it and outranks this one."""
        return held_by_others(rollout, self.by_store, self.rollouts)


NOBODY = Owners({}, {})


def owners_of_stores(repositories: Repositories) -> Owners:
    under_way = repositories.rollouts.unsettled()
    found = claims((r, repositories.rollout_stores.of_rollout(r.name)) for r in under_way)
    return Owners(found, {r.name: r for r in under_way})


def latest_verdicts(repositories: Repositories, rollout: str) -> dict[int, list[GateVerdict]]:
    """The newest of each gate, by wave."""
    by_wave: dict[int, list[GateVerdict]] = defaultdict(list)
    for judged in repositories.verdicts.latest(rollout):
        by_wave[judged.wave].append(judged.verdict)
    return dict(by_wave)


def stores_now(
    repositories: Repositories,
    rollout: Rollout,
    records: Iterable[str],
    claimed: Mapping[str, str],
    now: datetime,
) -> dict[str, StoreNow]:
    """``claimed``: store → the rollout of higher rank that has it."""
    names = list(records)
    stores = repositories.stores.several(names)
    current = {deployment.store: deployment for deployment in repositories.deployments.current(names)}
    deferrals = repositories.deferrals.of_stores(names)
    devices: dict[str, list[Device]] = defaultdict(list)
    for device in repositories.fleet.devices_of(names):
        devices[device.store].append(device)
    release = repositories.releases.get(rollout.spec.release)
    digest = release.model_digest if release else ""
    found = {}
    for store in stores:
        found[store.name] = store_now(
            store,
            current.get(store.name),
            devices.get(store.name, ()),
            deferrals.get(store.name),
            digest,
            claimed.get(store.name, ""),
            now,
        )
    return found


def store_now(
    store: Store,
    deployment: Deployment | None,
    devices: Sequence[Device],
    deferral: Deferral | None,
    model_digest: str,
    claimed_by: str,
    now: datetime,
) -> StoreNow:
    reachable, why = _reachable(deployment, devices, now)
    known = deployment.detail.get(LAST_KNOWN_GOOD) if deployment else None
    return StoreNow(
        store=store.name,
        reachable=reachable,
        reachable_reason=why,
        timezone=store.timezone,
        labels=store.labels,
        deployment=deployment.rollout_id if deployment else None,
        release=deployment.release if deployment and deployment.desired == PRESENT else None,
        state=deployment.state if deployment else "",
        message=deployment.message if deployment else "",
        created_at=deployment.created_at if deployment else None,
        applied_at=deployment.applied_at if deployment else None,
        ready_at=deployment.ready_at if deployment else None,
        last_known_good=str(known) if known else None,
        staged=_staged(devices, model_digest),
        deferred_until=deferral.until if deferral else None,
        deferred_by=deferral.by if deferral else "",
        claimed_by=claimed_by,
    )


def _reachable(deployment: Deployment | None, devices: Sequence[Device], now: datetime) -> tuple[bool, str]:
    """A store that nobody ever heard of may be asked: its cluster then answers or does not."""
    if any(liveness(device, now).online for device in devices):
        return True, ""
    if deployment is not None and deployment.state == State.UNREACHABLE:
        return False, deployment.message
    if not devices or (deployment is not None and deployment.state in ANSWERED):
        return True, ""
    first = devices[0]
    return False, f"{first.device}: {liveness(first, now).reason}"


def _staged(devices: Sequence[Device], digest: str) -> bool | None:
    known = [device.cached_models for device in devices]
    if not known or any(models is None for models in known):
        return None
    return all(digest in (models or ()) for models in known)
