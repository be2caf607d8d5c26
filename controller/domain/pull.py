"""Stores that are told what to run over MQTT, seen from both ends. Pure.

The centre cannot look into such a store: it knows what it published, what the store's deployer reported
last, and when. ``observed_of`` makes of these what a cluster would have answered. In the store, ``judge``
says whether a desired state may be taken in.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contract.deployment import DesiredState, ObservedWorkload, ReportedState
from controller.domain.deployment import Observed, Unreachable
from controller.domain.workload import NAME, STORE_LABEL, Manifest

SILENT_AFTER = 3.0
"""A deployer counts as silent after so many of its own report intervals."""

SILENT_POLL_S = 15.0
"""How often a silent store is looked at. It catches up by itself; this is only when it shows."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the centre told a store last."""

    generation: int
    digest: str
    """Of the signed text."""
    content: str
    """Digest of what it says apart from generation and time: equal for equal meaning."""
    rollout_id: str | None
    """None: nothing shall run."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last report of a store's deployer, and when it was certainly alive."""

    report: ReportedState
    at: datetime


def observed_of(published: Published | None, heard: Heard | None, now: datetime) -> Observed:
    """What can be said of the store's workload. ``Observed.trouble`` says why it is no more.

    What was published counts from the moment it is: a store that is away finds it when it returns.
    """
    if heard is None:
        silence = Unreachable(
            "the store's deployer has never reported; start it there (k3s/README.md)", False, SILENT_POLL_S
        )
        if published is None:
            return Observed(rollout_id=None, trouble=silence)
        return Observed(published.rollout_id, generation=published.generation, trouble=silence)
    report = heard.report
    seen, trouble = _observed(report.workload), _trouble(report)
    if published is not None and not is_lost(published, report):
        if report.digest != published.digest:
            seen, trouble = _not_taken(published, report, seen)
        elif published.rollout_id not in (None, seen.rollout_id):
            seen = _underway(published, seen, "the store's deployer is applying it")
    return replace(seen, trouble=_silence(heard, now) or trouble)


def is_lost(published: Published | None, report: ReportedState | None) -> bool:
    """Whether the store has taken in a newer state than the one that the centre knows of, because broker
    and centre have forgotten it: the next one has to be newer still."""
    if report is None:
        return False
    if published is None:
        return report.generation > 0
    return report.generation >= published.generation and report.digest != published.digest


def next_generation(published: Published | None, report: ReportedState | None) -> int:
    """Above everything that the store may know of."""
    return 1 + max(published.generation if published else 0, report.generation if report else 0)


def refusal_of(state: DesiredState, store: str, namespace: str, newest: int) -> str:
    """Why the deployer of ``store`` must not take ``state`` in; empty when it may. ``newest`` is the
    generation above which something is news to it."""
    if state.store != store:
        return f"it is for store {state.store!r}, not {store!r}"
    if state.namespace != namespace:
        return f"it is for namespace {state.namespace!r}; this deployer may use {namespace!r}"
    if state.generation <= newest:
        return f"generation {state.generation} is not newer than {newest}, which was taken in before"
    if state.daemon_set is None or state.config_map is None:
        return ""
    expected = (("apps/v1", "DaemonSet", state.daemon_set), ("v1", "ConfigMap", state.config_map))
    for version, kind, manifest in expected:
        if not _is_ours(manifest, version, kind, state):
            return f"its {kind} is not one that this deployer may apply"
    return ""


def workload_report(observed: Observed) -> ObservedWorkload:
    """``observed`` as the deployer reports it; very long lists and texts are cut."""
    return ObservedWorkload(
        rollout_id=observed.rollout_id,
        generation=observed.generation,
        observed_generation=observed.observed_generation,
        desired=observed.desired,
        ready=observed.ready,
        updated=observed.updated,
        images=_cut(observed.images),
        problems=_cut(observed.problems),
        drift=_cut(observed.drift),
        degraded=_cut(observed.degraded),
    )


def _cut(sentences: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text[:400] for text in sentences[:20])


def _is_ours(manifest: Manifest, version: str, kind: str, state: DesiredState) -> bool:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return False
    labels, name = metadata.get("labels"), str(metadata.get("name"))
    return (
        (manifest.get("apiVersion"), manifest.get("kind")) == (version, kind)
        and metadata.get("namespace") == state.namespace
        and isinstance(labels, dict)
        and labels.get(STORE_LABEL) == state.store
        and (name == NAME if kind == "DaemonSet" else name.startswith(f"{NAME}-"))
    )


def _observed(seen: ObservedWorkload) -> Observed:
    return Observed(
        rollout_id=seen.rollout_id,
        generation=seen.generation,
        observed_generation=seen.observed_generation,
        desired=seen.desired,
        ready=seen.ready,
        updated=seen.updated,
        images=seen.images,
        problems=seen.problems,
        drift=seen.drift,
        degraded=seen.degraded,
    )


def _trouble(report: ReportedState) -> Unreachable | None:
    if report.trouble is None:
        return None
    return Unreachable(report.trouble.error, report.trouble.permanent)


def _not_taken(
    published: Published, report: ReportedState, seen: Observed
) -> tuple[Observed, Unreachable | None]:
    """What was published is on its way, or was refused."""
    waiting = _underway(published, seen, "waiting for the store's deployer to take it in")
    if report.refused_digest != published.digest:
        return waiting, None
    words = f"the store's deployer refuses what the centre published: {report.refusal}"
    return waiting, Unreachable(words, permanent=True)


def _underway(published: Published, seen: Observed, words: str) -> Observed:
    """What was published counts, though what runs is still of an older release."""
    return replace(
        seen,
        rollout_id=published.rollout_id,
        generation=published.generation,
        observed_generation=published.generation - 1,
        updated=0,
        problems=(words,),
        drift=(),
    )


def _silence(heard: Heard, now: datetime) -> Unreachable | None:
    since = f"{heard.at:%Y-%m-%d %H:%M:%S} UTC"
    if heard.report.status == "stopped":
        return Unreachable(f"the store's deployer was stopped at {since}", False, SILENT_POLL_S)
    if now - heard.at > timedelta(seconds=SILENT_AFTER * heard.report.interval_s):
        words = f"the store's deployer has said nothing since {since}; what is known is from then"
        return Unreachable(words, False, SILENT_POLL_S)
    return None
