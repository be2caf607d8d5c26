"""Gates on a model before it serves: staged on the nodes, the golden set, the shadow run."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from controller.domain.golden import GoldenResult
from controller.domain.rollout.evidence import Evidence, StoreEvidence
from controller.domain.rollout.fresh import Fresh, listed, share, strata, top
from controller.domain.rollout.operation import Said
from controller.domain.rollout.spec import GoldenGate, RolloutSpec, ShadowGate, StagedGate
from controller.domain.rollout.state import Verdict
from controller.domain.shadow import ShadowResult

Seen = tuple[Verdict, str, dict[str, object], datetime | None]
"""With when the newest evidence was observed that it rests on."""


def staged(gate: StagedGate, evidence: Evidence, names: Iterable[str], since: datetime) -> Said:
    """Never fails: what is not there yet may come. Stores that were not heard of since the rollout began
    count as not staged."""
    missing, total = [], 0
    for name in sorted(names):
        store = evidence.stores.get(name)
        if store is not None and store.left_out:
            continue
        total += 1
        heard = store is not None and store.cached_at is not None and store.cached_at >= since
        if not heard or store is None or evidence.model_digest not in (store.cached_models or ()):
            missing.append(name)
    if not total:
        return Verdict.PASS, "no store left in the wave", {}
    done = total - len(missing)
    figures: dict[str, object] = {"staged": done, "stores": total}
    words = f"{share(done, total)} stores hold the model"
    if missing:
        words += f"; not yet: {listed(missing, ', ')}"
    return (Verdict.PASS if 100 * done >= gate.percent * total else Verdict.INCONCLUSIVE), words, figures


def golden(gate: GoldenGate, evidence: Evidence, names: Iterable[str], fresh: Fresh, since: datetime) -> Seen:
    """Every store has to hold every class: it is the same clips everywhere. A store whose nodes refuse the
    model never gets ready, so a failure counts from any store of the wave that this rollout updates."""
    bad, missing = [], []
    worst: dict[str, tuple[float, float]] = {}
    failed_at: list[datetime] = []
    ready = {store.store for store in fresh.stores}
    for store in (evidence.stores[name] for name in sorted(names) if name in evidence.stores):
        if store.left_out or store.deployment is None or not store.brought:
            continue
        result = store.golden
        if result is None or result.model_digest != evidence.model_digest or result.at < since:
            missing += [f"no golden result of the new model from {store.store}"] * (store.store in ready)
            continue
        wrong = _misses(gate, result)
        if not wrong and result.refusal:
            wrong = [result.refusal]
        for name in result.recall.keys() & result.count_error.keys():
            recall, error = worst.get(name, (1.0, 0.0))
            worst[name] = min(recall, result.recall[name]), max(error, result.count_error[name])
        if wrong:
            bad += [f"{store.store}: {words}" for words in wrong]
            failed_at.append(result.at)
        elif not result.recall or result.recall.keys() != result.count_error.keys():
            missing.append(f"the golden result of {store.store} lacks recall or count error of some class")
        elif silent := _silent(store, result):
            missing.append(f"no golden result of {store.store} from {listed(silent, ', ')}")
    recall = min((recall for recall, _ in worst.values()), default=1.0)
    error = max((error for _, error in worst.values()), default=0.0)
    figures: dict[str, object] = {"recall": recall, "count_error": error} if worst else {}
    if worst:
        figures["classes"] = {
            name: {"recall": worst[name][0], "count_error": worst[name][1]} for name in sorted(worst)
        }
    if bad:
        return Verdict.FAIL, listed(bad), figures, max(failed_at)
    if missing or not fresh.stores:
        return Verdict.INCONCLUSIVE, listed(missing or fresh.waiting), figures, fresh.observed_at
    judged = sum(store.brought for store in fresh.stores)
    words = f"recall {recall:.3g} and count error {error:.3g} at worst, in {judged} stores"
    if not judged:
        words = "every store ran the release before"
    return Verdict.PASS, words, figures, fresh.observed_at


def _misses(gate: GoldenGate, result: GoldenResult) -> list[str]:
    found = []
    for name in sorted(result.recall.keys() | result.count_error.keys()):
        recall, error = result.recall.get(name), result.count_error.get(name)
        if recall is not None and recall < gate.min_recall:
            found.append(f"recall of {name} is {recall:.3g} (at least {gate.min_recall:g})")
        if error is not None and error > gate.max_count_error:
            found.append(f"count error of {name} is {error:.3g} (at most {gate.max_count_error:g})")
    return found


def _silent(store: StoreEvidence, result: GoldenResult) -> list[str]:
    """Nodes that run the deployment and have not told what they found."""
    running = {heart.device for heart in store.heartbeats if heart.deployment == store.deployment}
    return sorted(running - result.devices) if result.devices is not None else []


def shadow(gate: ShadowGate, spec: RolloutSpec, evidence: Evidence, since: datetime) -> Seen:
    """Over all stores that ran the candidate beside their model, and over each stratum with enough frames."""
    ran = [s for s in evidence.stores.values() if _result(s, evidence, since) is not None]
    results = [result for s in ran if (result := _result(s, evidence, since)) is not None]
    newest = max((result.at for result in results), default=None)
    frames = sum(result.frames for result in results)
    figures: dict[str, object] = {"frames": frames, "stores": len(ran)}
    if frames < gate.min_frames:
        words = f"{frames} frames compared in {len(ran)} stores; {gate.min_frames} are needed"
        return Verdict.INCONCLUSIVE, words, figures, newest
    bad, overall = [], 0.0
    for group, members in strata(spec, ran).items():
        part = [result for s in members if (result := _result(s, evidence, since)) is not None]
        if sum(result.frames for result in part) < gate.min_frames:
            continue
        rate = _disagreement(part)
        overall = max(overall, rate)
        if rate > gate.max_disagreement:
            only: dict[str, int] = {}
            for result in part:
                for counts in (result.only_current, result.only_candidate):
                    for name, count in counts.items():
                        only[name] = only.get(name, 0) + count
            bad.append(f"{rate:.1%} of detections differ in {group} ({top(only)})")
    over = [s.store for s, r in zip(ran, results, strict=True) if r.cpu_percent > gate.cpu_percent]
    figures["disagreement"] = round(overall, 4)
    note = f"; over the CPU budget of {gate.cpu_percent:g}%: {listed(over, ', ')}" if over else ""
    if bad:
        return Verdict.FAIL, listed(bad) + note, figures, newest
    words = f"{overall:.1%} of detections differ at worst, in {frames} frames of {len(ran)} stores"
    return Verdict.PASS, words + note, figures, newest


def _result(store: StoreEvidence, evidence: Evidence, since: datetime) -> ShadowResult | None:
    result = store.shadow
    known = result is not None and result.model_digest == evidence.model_digest and result.at >= since
    return result if known else None


def _disagreement(results: Sequence[ShadowResult]) -> float:
    agreed = sum(result.agreed for result in results)
    only = sum(sum(r.only_current.values()) + sum(r.only_candidate.values()) for r in results)
    return only / (agreed + only) if agreed + only else 0.0
