"""Golden sets that the centre knows, what deployments demand of them, and what nodes reported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contract.golden import GoldenReport
from contract.signing import Signed


@dataclass(frozen=True, slots=True)
class GoldenSet:
    digest: str
    """Of the artifact's bytes, which are in the model store."""
    name: str
    version: str
    size_bytes: int
    frames: int
    counts: Mapping[str, int]
    """Class → objects in all frames together."""
    manifest: Mapping[str, Any]
    """A ``contract.signing.Signed`` as JSON; its payload is a ``contract.golden.GoldenManifest``."""
    created_at: datetime
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class GoldenDemand:
    """What the model of a deployment has to pass on the store's nodes."""

    rollout_id: UUID
    """Of the deployment."""
    golden_digest: str
    min_recall: float
    max_count_error: float


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """A demand as the pods get it."""

    signed: Signed
    """The manifest of the golden set, exactly as it was signed."""
    min_recall: float
    max_count_error: float


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """The newest report of one node about one model and one golden set."""

    store: str
    device: str
    model_digest: str
    golden_digest: str
    rollout_id: UUID | None
    at: datetime
    """By the node's clock, but never after it was received."""
    received_at: datetime
    passed: bool
    report: Mapping[str, Any]
    """A ``contract.golden.GoldenReport`` as JSON."""

    @property
    def said(self) -> GoldenReport:
        return GoldenReport.model_validate(dict(self.report))


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One store's replay of a golden set on its own hardware: of its nodes' figures, the worst."""

    model_digest: str
    at: datetime
    """When the oldest report that it is made of was received; if a node refuses the model, its newest."""
    recall: Mapping[str, float]
    """By class."""
    count_error: Mapping[str, float]
    """By class: mean absolute error in facings of a frame."""
    devices: frozenset[str] | None = None
    """Nodes whose reports this is made of; None: all."""
    refusal: str = ""
    """Why nodes refuse the model, in their own words; empty: none does."""

    @property
    def passed(self) -> bool:
        return not self.refusal


def take_in(store: str, device: str, report: GoldenReport, now: datetime) -> GoldenOutcome:
    """``report`` as it is kept. A node whose clock is ahead does not make it newer than it is."""
    return GoldenOutcome(
        store,
        device,
        report.model,
        report.golden,
        report.rollout_id,
        min(report.at, now),
        now,
        report.passed,
        report.model_dump(mode="json", exclude_none=True),
    )


def store_outcome(
    outcomes: Iterable[GoldenOutcome], model_digest: str, deployment: UUID | None = None
) -> GoldenResult | None:
    """Of one store's ``outcomes``, those about this model; of a node's several golden sets the newest. None:
    no node has said anything.

    With ``deployment`` only reports of its own pods count: those are from after it was applied, whatever
    the node's clock says.
    """
    newest: dict[str, GoldenOutcome] = {}
    for outcome in outcomes:
        if outcome.model_digest == model_digest and deployment in (None, outcome.rollout_id):
            known = newest.get(outcome.device)
            if known is None or known.at < outcome.at:
                newest[outcome.device] = outcome
    if not newest:
        return None
    recall: dict[str, float] = {}
    count_error: dict[str, float] = {}
    for outcome in newest.values():
        for name, figures in outcome.said.classes.items():
            recall[name] = min(recall.get(name, 1.0), figures.recall)
            count_error[name] = max(count_error.get(name, 0.0), figures.count_error)
    refused = [outcome for outcome in newest.values() if not outcome.passed]
    received = [outcome.received_at for outcome in refused or newest.values()]
    return GoldenResult(
        model_digest,
        max(received) if refused else min(received),
        recall,
        count_error,
        frozenset(newest),
        "; ".join(f"{outcome.device}: {outcome.said.reason}" for outcome in refused),
    )
