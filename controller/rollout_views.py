"""What can be asked about a rollout: how it stands and why, what it would do, what it changes, what it
did."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from controller.deploying import fitting_config, load_release
from controller.domain.journal import AuditEntry
from controller.domain.page import Page, PageRequest
from controller.domain.records import Deployment
from controller.domain.release import Release
from controller.domain.rollout.preview import PER_STORE, Preview, preview
from controller.domain.rollout.records import Judged
from controller.domain.rollout.spec import GoldenGate, RolloutSpec
from controller.domain.rollout.state import (
    Phase,
    Plan,
    Rollout,
    Status,
    StoreNow,
    StoreRecord,
    StoreView,
)
from controller.domain.rollout.verbs import Verb, refusal
from controller.errors import NotFoundError
from controller.golden import wanted_set
from controller.ports import Repositories, Transactions
from controller.rollout_picture import Picture, latest_verdicts, take_picture
from controller.rollouts import get_rollout, known_store, read_spec, select_stores

DONE = frozenset({Phase.READY, Phase.SKIPPED, Phase.FAILED, Phase.SUPERSEDED, Phase.RESTORED})


@dataclass(frozen=True, slots=True)
class WaveProgress:
    name: str
    stores: int
    phases: Mapping[str, int]
    opened_at: datetime | None
    passed_at: datetime | None
    needs_approval: bool
    approved: bool | None
    """None: nobody has said anything yet."""
    approval_by: str
    approval_at: datetime | None
    approval_comment: str


@dataclass(frozen=True, slots=True)
class Progress:
    rollout: Rollout
    waiting_for: str
    """One sentence on what it does or waits for now."""
    check_at: datetime | None
    phases: Mapping[str, int]
    """Phase → how many stores."""
    waves: Sequence[WaveProgress]
    verdicts: Sequence[Judged]
    done: float
    """Of its stores, 0 to 1."""
    eta: datetime | None
    """When it should be done at the pace so far; None: not known."""
    possible: Sequence[str]
    """Verbs that are allowed now."""


@dataclass(frozen=True, slots=True)
class StoreProgress:
    store: str
    wave: str
    view: StoreView
    record: StoreRecord
    now: StoreNow | None


@dataclass(frozen=True, slots=True)
class Explanation:
    store: StoreProgress
    rollout: Rollout
    waiting_for: str
    verdicts: Sequence[Judged]
    """Of the store's wave."""
    history: Sequence[AuditEntry]
    """What this rollout did with the store, newest first."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would happen if it were started now."""

    spec: RolloutSpec
    preview: Preview
    refused: Mapping[str, str]
    """Store → why it cannot run the release; it would fail without being touched."""


@dataclass(frozen=True, slots=True)
class Change:
    """What stores run now, and what becomes different for them."""

    release: str | None
    stores: int
    first: Sequence[str]
    differences: Mapping[str, tuple[str, str]]
    """Part → before and after."""


class RolloutViews:
    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def progress(self, name: str, now: datetime) -> Progress:
        with self._transactions.reading() as repositories:
            picture, plan = _planned(repositories, name, now)
            verdicts = repositories.verdicts.latest(name)
        rollout = picture.rollout
        phases = Counter(view.phase.value for view in plan.stores.values())
        waves = []
        for spec, wave in zip(rollout.spec.waves, rollout.waves, strict=bool(rollout.waves)):
            said = wave.approval
            waves.append(
                WaveProgress(
                    spec.name,
                    len(wave.stores),
                    Counter(plan.stores[store].phase.value for store in wave.stores),
                    wave.opened_at,
                    wave.passed_at,
                    spec.approval,
                    said.approved if said else None,
                    said.by if said else "",
                    said.at if said else None,
                    said.comment if said else "",
                )
            )
        total = len(plan.stores)
        done = sum(view.phase in DONE for view in plan.stores.values())
        return Progress(
            rollout,
            plan.reason or rollout.reason,
            plan.check_at,
            phases,
            waves,
            verdicts,
            done / total if total else 0.0,
            _eta(rollout, done, total, now),
            [verb.value for verb in Verb if refusal(rollout, verb) is None],
        )

    def stores(
        self, name: str, now: datetime, request: PageRequest, *, wave: str | None, phase: Phase | None
    ) -> Page[StoreProgress]:
        """By name; of one wave, in one phase."""
        with self._transactions.reading() as repositories:
            picture, plan = _planned(repositories, name, now)
        found = [
            one
            for one in (_store(picture, plan, store) for store in sorted(plan.stores))
            if (wave is None or one.wave == wave)
            and (phase is None or one.view.phase is phase)
            and (request.cursor is None or one.store > request.cursor)
        ]
        items = tuple(found[: request.limit])
        end = items[-1].store if items else None
        return Page(items, end if len(found) > request.limit else None, end)

    def explain(self, name: str, store: str, now: datetime) -> Explanation:
        """Why this store is where it is. Raises ``NotFoundError``."""
        with self._transactions.reading() as repositories:
            picture, plan = _planned(repositories, name, now)
            known_store(repositories, store)
            if store not in plan.stores:
                raise NotFoundError(f"store {store} is no target of rollout {name}")
            judged = repositories.verdicts.latest(name)
            history = _history_of(repositories, name, store)
        progress = _store(picture, plan, store)
        wave = progress.record.wave
        return Explanation(
            progress,
            picture.rollout,
            plan.reason or picture.rollout.reason,
            [one for one in judged if one.wave == wave],
            history,
        )

    def preview(self, file: str | Mapping[str, object] | None, name: str | None, now: datetime) -> Outlook:
        """Of a file, or of a rollout that is kept. Changes nothing."""
        with self._transactions.reading() as repositories:
            if file is not None:
                spec = read_spec(file, now)
            else:
                spec = get_rollout(repositories, name or "").spec
            selected = select_stores(repositories, spec)
            thought = Rollout(spec, Status.DRAFT, now, "")
            records = {store: StoreRecord(store, 0) for store in selected.targets}
            picture = take_picture(repositories, thought, now, records)
            release = load_release(repositories, spec.release)
            configs = repositories.configs.currents(records)
            refused = {}
            for store in sorted(records):
                digest, words = fitting_config(store, set(records), configs.get(store), release)
                if digest is None:
                    refused[store] = words
            missing = _missing_sets(repositories, spec)
            recent = repositories.deployments.page(None, PageRequest(200)).items
        found = preview(
            spec,
            selected,
            picture.stores,
            now=now,
            model_bytes=release.manifest.size_bytes,
            others=picture.others,
            per_store=_usual_length(recent),
            missing=missing,
        )
        return Outlook(spec, found, refused)

    def diff(self, name: str) -> list[Change]:
        """What stores run, grouped, against the rollout's release; the largest group first."""
        with self._transactions.reading() as repositories:
            rollout = get_rollout(repositories, name)
            targets = [store for wave in rollout.waves for store in wave.stores]
            if not targets:
                targets = list(select_stores(repositories, rollout.spec).targets)
            current = {
                d.store: d.release
                for d in repositories.deployments.current(targets)
                if d.desired == "present"
            }
            new = load_release(repositories, rollout.spec.release)
            names = {release for release in current.values() if release}
            old = {release: load_release(repositories, release) for release in names}
        groups: dict[str | None, list[str]] = {}
        for store in sorted(targets):
            groups.setdefault(current.get(store), []).append(store)
        return [
            Change(release, len(stores), stores[:20], differences(old.get(release or ""), new))
            for release, stores in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0] or ""))
        ]

    def history(self, name: str, request: PageRequest) -> Page[AuditEntry]:
        """Everything that people and the rollout itself did, newest first."""
        with self._transactions.reading() as repositories:
            get_rollout(repositories, name)
            return repositories.audit.page(request, target=name, action="rollout.")

    def verdicts(self, name: str, request: PageRequest) -> Page[Judged]:
        """Of every minute, newest first; for charts."""
        with self._transactions.reading() as repositories:
            get_rollout(repositories, name)
            return repositories.verdicts.history(name, request)


def differences(old: Release | None, new: Release) -> dict[str, tuple[str, str]]:
    """Model, digest, image and settings that are not the same. All of them, where nothing runs yet."""

    def parts(release: Release | None) -> dict[str, str]:
        if release is None:
            return {}
        manifest = release.manifest
        model = {
            "model": f"{manifest.name}:{manifest.version}",
            "digest": manifest.digest,
            "runtime": manifest.format,
            "classes": ", ".join(manifest.names),
            "image": release.image,
        }
        return model | {f"setting {key}": value for key, value in release.settings.items()}

    before, after = parts(old), parts(new)
    names = dict.fromkeys([*before, *after])
    return {n: (before.get(n, ""), after.get(n, "")) for n in names if before.get(n) != after.get(n)}


def _missing_sets(repositories: Repositories, spec: RolloutSpec) -> list[str]:
    found = []
    for gate in spec.gates:
        try:
            if isinstance(gate, GoldenGate):
                wanted_set(repositories, gate.set)
        except NotFoundError as error:
            found.append(str(error))
    return found


def _planned(repositories: Repositories, name: str, now: datetime) -> tuple[Picture, Plan]:
    picture = take_picture(repositories, get_rollout(repositories, name), now)
    return picture, picture.plan(now, latest_verdicts(repositories, name))


def _store(picture: Picture, plan: Plan, store: str) -> StoreProgress:
    record = picture.records.get(store) or StoreRecord(store, 0)
    wave = picture.rollout.spec.waves[record.wave].name
    return StoreProgress(store, wave, plan.stores[store], record, picture.stores.get(store))


def _history_of(repositories: Repositories, name: str, store: str) -> list[AuditEntry]:
    entries = repositories.audit.page(PageRequest(1000), target=name, action="rollout.").items
    of_rollout = [entry for entry in entries if entry.detail.get("store") == store]
    entries = repositories.audit.page(PageRequest(200), target=store, action="deployment.").items
    rollouts = (name, None)
    of_store = [entry for entry in entries if entry.detail.get("rollout") in rollouts]
    return sorted((*of_rollout, *of_store), key=lambda entry: (entry.at, entry.id), reverse=True)


def _eta(rollout: Rollout, done: int, total: int, now: datetime) -> datetime | None:
    if rollout.status is not Status.RUNNING or rollout.started_at is None or not 0 < done < total:
        return None
    pace = (now - rollout.started_at) / done
    return now + pace * (total - done)


def _usual_length(recent: Sequence[Deployment]) -> timedelta:
    """How long a store takes: the median of the fleet's last deployments, in whole seconds."""
    took = [
        (d.ready_at - d.applied_at).total_seconds()
        for d in recent
        if d.ready_at is not None and d.applied_at is not None and d.ready_at >= d.applied_at
    ]
    return timedelta(seconds=max(1, round(median(took)))) if took else PER_STORE
