"""Events that are not to be trusted, because the release that made them turned out bad.

The mark is on the deployment, so it holds for its events that are still to come, too. Events stay where they
are; listings show and filter the mark, EPCIS leaves them out. Stock is what was last believed of a zone:
where that came from such a deployment it is shown as unknown, until an agent of another release has seen the
zone.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.journal import AuditEntry
from controller.domain.records import Deployment
from controller.domain.rollout.records import Quarantine
from controller.errors import InvalidError, NotFoundError
from controller.ports import Repositories, Transactions
from controller.rollouts import get_rollout


@dataclass(frozen=True, slots=True)
class Quarantined:
    deployments: int
    stores: int
    events: int
    """That they have brought so far."""


def quarantine(
    transactions: Transactions,
    *,
    rollout: str | None,
    release: str | None,
    reason: str,
    actor: str,
    now: datetime,
) -> Quarantined:
    """All deployments that brought the rollout's release to a store, or all of ``release`` so far, by
    whoever.

    Raises ``InvalidError`` unless one of the two is given, ``NotFoundError`` when there is no such thing."""
    with transactions.writing() as repositories:
        found = _deployments(repositories, rollout, release)
        repositories.quarantines.put([Quarantine(d.rollout_id, now, actor, reason) for d in found])
        done = _counted(repositories, found)
        detail = {"deployments": done.deployments, "events": done.events, "reason": reason}
        target = rollout or release or ""
        kind = "rollout" if rollout else "release"
        repositories.audit.add(AuditEntry(now, actor, f"{kind}.quarantine", target, detail))
    return done


def unquarantine(
    transactions: Transactions, *, rollout: str | None, release: str | None, actor: str, now: datetime
) -> Quarantined:
    """The opposite. Raises as ``quarantine`` does, and ``NotFoundError`` when nothing is in quarantine."""
    with transactions.writing() as repositories:
        found = _deployments(repositories, rollout, release)
        target, kind = rollout or release or "", "rollout" if rollout else "release"
        if not repositories.quarantines.remove(d.rollout_id for d in found):
            raise NotFoundError(f"nothing of {kind} {target} is in quarantine")
        done = _counted(repositories, found)
        detail = {"deployments": done.deployments, "events": done.events}
        repositories.audit.add(AuditEntry(now, actor, f"{kind}.unquarantine", target, detail))
    return done


def _deployments(repositories: Repositories, rollout: str | None, release: str | None) -> list[Deployment]:
    if (rollout is None) == (release is None):
        raise InvalidError("name either a rollout or a release")
    if rollout is not None:
        # What it put back was made by it as well, but is of another release.
        wanted = get_rollout(repositories, rollout).spec.release
        found = repositories.deployments.of(rollout=rollout, release=wanted)
        if not found:
            raise NotFoundError(f"rollout {rollout} has brought nothing to any store")
        return found
    if repositories.releases.get(release or "") is None:
        raise NotFoundError(
            f"release {release!r} does not exist; storefleet release list shows those that do"
        )
    found = repositories.deployments.of(release=release)
    if not found:
        raise NotFoundError(f"release {release} was never deployed")
    return found


def _counted(repositories: Repositories, found: list[Deployment]) -> Quarantined:
    events = repositories.quarantines.events_of(d.rollout_id for d in found)
    return Quarantined(len(found), len({d.store for d in found}), events)
