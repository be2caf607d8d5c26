"""What operators do with rollouts. Each verb is one transaction with its audit entry; the executor does the
rest.

A file may be given again as long as the rollout is a draft: it replaces the draft. Once started a rollout
stays as it was written, because its waves, records and verdicts refer to that; change your mind with a new
one, which takes the stores over.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from contract.errors import ConfigError
from controller.deploying import load_release
from controller.domain.journal import AuditEntry
from controller.domain.rollout.records import Deferral
from controller.domain.rollout.selection import Refusal, Selected, StoreFacts, select
from controller.domain.rollout.spec import GoldenGate, RolloutSpec
from controller.domain.rollout.state import Approval, Rollout, Status, StoreRecord
from controller.domain.rollout.verbs import (
    Verb,
    decided,
    fresh_records,
    refusal,
    started,
    to_retry,
    wave_to_approve,
    with_status,
)
from controller.errors import ConflictError, InvalidError, NotFoundError
from controller.golden import wanted_set
from controller.ports import Repositories, Transactions
from controller.rollout_file import load_rollout, read_rollout
from controller.rollout_picture import take_picture
from controller.rollout_steps import carry_out

MAX_DEFERRAL = timedelta(days=90)


class RolloutService:
    def __init__(
        self, transactions: Transactions, clock: Callable[[], datetime], new_id: Callable[[], UUID]
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._new_id = new_id

    def create(self, file: str | Mapping[str, Any], *, actor: str) -> Rollout:
        """``file``: YAML text, or the same as parsed JSON. Raises ``InvalidError`` with every problem found
        (of YAML with line and column), ``ConflictError`` when a rollout of that name has been started."""
        now = self._clock()
        spec = read_spec(file, now)
        with self._transactions.writing() as repositories:
            select_stores(repositories, spec)
            before = repositories.rollouts.get(spec.name, locked=True)
            if before is not None and before.status is not Status.DRAFT:
                raise ConflictError(
                    f"rollout {spec.name} is {before.status}; once started it stays as it was written. "
                    "Give the new one another name: it takes over the stores that it selects"
                )
            rollout = Rollout(spec, Status.DRAFT, now, actor, "not started yet", status_since=now)
            if before is None:
                repositories.rollouts.add(rollout)
            else:
                rollout = replace(rollout, revision=before.revision)
                repositories.rollouts.save(rollout, before.revision)
            action = "rollout.create" if before is None else "rollout.replace"
            detail = {"release": spec.release, "waves": len(spec.waves)}
            repositories.audit.add(AuditEntry(now, actor, action, spec.name, detail))
            return get_rollout(repositories, spec.name)

    def start(self, name: str, *, actor: str) -> Rollout:
        """Fix which stores it is for, in which waves and which golden set they have to pass, and let it run.
        Raises ``InvalidError`` when the fleet has changed so that the file no longer fits it,
        ``NotFoundError`` when there is no such golden set."""
        now = self._clock()
        with self._transactions.writing() as repositories:
            before = _allowed(repositories, name, Verb.START)
            waves = select_stores(repositories, before.spec).waves
            begun = started(replace(before, spec=_with_set(repositories, before.spec)), waves, actor, now)
            repositories.rollouts.save(begun, before.revision)
            repositories.rollout_stores.put(name, fresh_records(waves))
            detail = {"stores": sum(map(len, waves)), "waves": [len(wave) for wave in waves]}
            repositories.audit.add(AuditEntry(now, actor, "rollout.start", name, detail))
            return get_rollout(repositories, name)

    def pause(self, name: str, *, actor: str, comment: str = "") -> Rollout:
        """Change no further store. Those in the middle of the change go on."""
        return self._turn(name, Verb.PAUSE, Status.PAUSED, "paused", actor, comment)

    def resume(self, name: str, *, actor: str, comment: str = "") -> Rollout:
        return self._turn(name, Verb.RESUME, Status.RUNNING, "resumed", actor, comment)

    def abort(self, name: str, *, actor: str, comment: str = "") -> Rollout:
        """End it. Stores in the middle of the change get their last known good release back, in the same
        transaction, so that the reconciler applies this one nowhere any more."""
        return self._turn(name, Verb.ABORT, Status.ABORTED, "aborted", actor, comment)

    def rollback(self, name: str, *, actor: str, comment: str = "") -> Rollout:
        """Put every store back that got the release, the last ones first."""
        return self._turn(name, Verb.ROLLBACK, Status.ROLLING_BACK, "turned back", actor, comment)

    def approve(self, name: str, *, wave: str | None = None, actor: str, comment: str = "") -> Rollout:
        """``wave``: default, the next one that waits for somebody's word."""
        return self._decide(name, Verb.APPROVE, wave, actor, comment)

    def reject(self, name: str, *, wave: str | None = None, actor: str, comment: str = "") -> Rollout:
        """The rollout pauses before this wave. An approval later on is possible."""
        return self._decide(name, Verb.REJECT, wave, actor, comment)

    def retry_failed(self, name: str, *, actor: str) -> tuple[Rollout, list[str]]:
        """Stores that failed get the release once more when it is their turn; their names."""
        with self._transactions.writing() as repositories:
            before = _allowed(repositories, name, Verb.RETRY_FAILED)
            again = to_retry(repositories.rollout_stores.of_rollout(name).values())
            if not again:
                raise ConflictError(f"rollout {name}: no store has failed, so there is nothing to try again")
            stores = [record.store for record in again]
            detail = {"stores": len(stores), "first": stores[:20]}
            self._save_records(repositories, before, again, "rollout.retry_failed", actor, detail)
            return get_rollout(repositories, name), stores

    def skip_store(self, name: str, store: str, *, actor: str, comment: str = "") -> Rollout:
        """Leave the store out, as it is. It counts neither as failed nor as offline."""
        with self._transactions.writing() as repositories:
            before = _allowed(repositories, name, Verb.SKIP_STORE)
            record = repositories.rollout_stores.of_rollout(name).get(store)
            if record is None:
                raise NotFoundError(
                    f"store {store[:80]!r} is no target of rollout {name}; "
                    f"storefleet rollout show {name} --stores lists them"
                )
            if record.skipped:
                raise ConflictError(f"store {store} is skipped already: {record.skipped}")
            words = f"skipped by {actor}" + (f": {comment}" if comment else "")
            detail = {"store": store, "comment": comment}
            records = [replace(record, skipped=words)]
            self._save_records(repositories, before, records, "rollout.skip_store", actor, detail)
            return get_rollout(repositories, name)

    def defer(self, store: str, until: datetime, *, actor: str, comment: str = "") -> Deferral:
        """No rollout changes this store before ``until``, but for an emergency. Replaces an earlier wish."""
        now = self._clock()
        if until <= now:
            raise InvalidError(f"{until.isoformat()} is in the past; defer until a later time")
        if until > now + MAX_DEFERRAL:
            raise InvalidError(
                f"a store may be deferred for {MAX_DEFERRAL.days} days at most; defer it again then"
            )
        deferral = Deferral(store, until, actor, now, comment)
        with self._transactions.writing() as repositories:
            known_store(repositories, store)
            repositories.deferrals.put(deferral)
            detail = {"until": until.isoformat(), "comment": comment}
            repositories.audit.add(AuditEntry(now, actor, "store.defer", store, detail))
        return deferral

    def undefer(self, store: str, *, actor: str) -> None:
        with self._transactions.writing() as repositories:
            known_store(repositories, store)
            if not repositories.deferrals.remove(store):
                raise NotFoundError(f"store {store} is not deferred")
            repositories.audit.add(AuditEntry(self._clock(), actor, "store.undefer", store))

    def _turn(self, name: str, verb: Verb, status: Status, done: str, actor: str, comment: str) -> Rollout:
        now = self._clock()
        reason = f"{done} by {actor}" + (f": {comment}" if comment else "")
        with self._transactions.writing() as repositories:
            before = _allowed(repositories, name, verb)
            after = with_status(before, status, reason, now)
            repositories.rollouts.save(after, before.revision)
            detail = {"from": before.status.value, "comment": comment}
            repositories.audit.add(AuditEntry(now, actor, f"rollout.{verb}", name, detail))
            if status is Status.ABORTED:
                picture = take_picture(repositories, get_rollout(repositories, name), now)
                steps = picture.plan(now, {}).steps
                carry_out(repositories, picture, steps, now=now, new_id=self._new_id)
            return get_rollout(repositories, name)

    def _decide(self, name: str, verb: Verb, wave: str | None, actor: str, comment: str) -> Rollout:
        now = self._clock()
        with self._transactions.writing() as repositories:
            before = _allowed(repositories, name, verb)
            number = _wave_number(before, wave)
            approval = Approval(verb is Verb.APPROVE, actor, now, comment)
            repositories.rollouts.save(decided(before, number, approval), before.revision)
            detail = {"wave": before.spec.waves[number].name, "comment": comment}
            repositories.audit.add(AuditEntry(now, actor, f"rollout.{verb}", name, detail))
            return get_rollout(repositories, name)

    def _save_records(
        self,
        repositories: Repositories,
        rollout: Rollout,
        records: list[StoreRecord],
        action: str,
        actor: str,
        detail: Mapping[str, object],
    ) -> None:
        repositories.rollouts.save(rollout, rollout.revision)
        repositories.rollout_stores.put(rollout.name, records)
        repositories.audit.add(AuditEntry(self._clock(), actor, action, rollout.name, detail))


def read_spec(file: str | Mapping[str, Any], now: datetime) -> RolloutSpec:
    """Raises ``InvalidError`` with every problem."""
    try:
        return load_rollout(file, now=now) if isinstance(file, str) else read_rollout(dict(file), now=now)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        raise InvalidError(f"the rollout has {len(problems)} problem(s)", problems) from error


def select_stores(repositories: Repositories, spec: RolloutSpec) -> Selected:
    """The waves of the present fleet. Raises ``NotFoundError`` for an unknown release, ``InvalidError`` with
    every reason why this fleet cannot have such a rollout."""
    load_release(repositories, spec.release)
    fleet = [StoreFacts(s.name, s.labels, s.timezone) for s in repositories.stores.several()]
    known = repositories.rollouts.statuses(spec.after)
    problems = [
        f"after: there is no rollout {name}; create it first" for name in spec.after if name not in known
    ]
    found = select(spec, fleet)
    if isinstance(found, Refusal):
        problems += found.problems
    if problems or isinstance(found, Refusal):
        raise InvalidError(f"rollout {spec.name} does not fit this fleet", problems)
    return found


def _with_set(repositories: Repositories, spec: RolloutSpec) -> RolloutSpec:
    gates = [
        gate.model_copy(update={"set": wanted_set(repositories, gate.set).digest})
        if isinstance(gate, GoldenGate)
        else gate
        for gate in spec.gates
    ]
    return spec.model_copy(update={"gates": tuple(gates)})


def get_rollout(repositories: Repositories, name: str, *, locked: bool = False) -> Rollout:
    """Raises ``NotFoundError``."""
    found = repositories.rollouts.get(name, locked=locked)
    if found is None:
        raise NotFoundError(
            f"rollout {name[:80]!r} does not exist; storefleet rollout list shows those that do"
        )
    return found


def known_store(repositories: Repositories, name: str) -> None:
    """Raises ``NotFoundError`` for a store that does not exist."""
    if repositories.stores.get(name) is None:
        raise NotFoundError(f"store {name[:80]!r} does not exist; storefleet stores list shows those that do")


def _allowed(repositories: Repositories, name: str, verb: Verb) -> Rollout:
    rollout = get_rollout(repositories, name, locked=True)  # the executor may be about to change it, too
    words = refusal(rollout, verb)
    if words is not None:
        raise ConflictError(words)
    return rollout


def _wave_number(rollout: Rollout, wave: str | None) -> int:
    if wave is None:
        number = wave_to_approve(rollout)
        if number is None:
            raise ConflictError(f"rollout {rollout.name}: no wave waits for an approval")
        return number
    names = [one.name for one in rollout.spec.waves]
    if wave not in names:
        raise NotFoundError(f"rollout {rollout.name} has no wave {wave[:80]!r}; it has {', '.join(names)}")
    number = names.index(wave)
    if not rollout.spec.waves[number].approval:
        raise ConflictError(f"wave {wave} needs no approval")
    if rollout.waves[number].opened_at is not None:
        raise ConflictError(f"wave {wave} has begun already; pause or abort the rollout instead")
    return number
