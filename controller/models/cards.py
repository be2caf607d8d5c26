"""Model card and dataset card, written from what training and evaluation recorded.

Cards are generated so that no figure in them is typed by hand.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def model_card(
    name: str, version: str, stages: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> str:
    """Markdown. ``stages`` are the ``training.json`` of each stage, ``evaluations`` the reports of
    ``models evaluate``."""
    lines = [
        f"# Model card: {name} {version}",
        "",
        f"{stages[0]['architecture'].upper()} (Ultralytics), {_origin(stages[0])}",
        "It detects front faces of packages, and persons, on pictures of shop shelves.",
        "",
        "| Artifact | Format | Input (h x w) | Bytes | Digest |",
        "|---|---|---|---|---|",
    ]
    for report in evaluations:
        info = report["info"]
        height, width = info["image_size"]
        cells = (
            report["file"],
            info["format"],
            f"{height} x {width}",
            info["size_bytes"],
            f"`{report['digest']}`",
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    lines += [
        "",
        "## Training",
        "",
        "Settings that are not named here are those of `storefleet models train`. Data: DATASET_CARD.md.",
        "",
    ]
    lines += [f"{number}. {_stage(stage)}" for number, stage in enumerate(stages, 1)]
    lines += [
        "",
        "## Measured on pictures that training never saw",
        "",
        "With Ultralytics' validator on the exported artifacts.",
    ]
    for report in evaluations:
        lines += [
            "",
            f"### {report['file']}, {report['images']} pictures ({report['split']} of {report['data']})",
            "",
        ]
        lines += _metrics_rows(report["metrics"])
    lines += [
        "",
        "## Use and limits",
        "",
        (
            "- Meant for the simulated stores of this project, as a first model and as a starting point. Its "
            "classes are the simulated SKUs; for a real shop, train on pictures of that shop."
        ),
        "- It counts visible front faces, not stock on hand, and does not tell persons apart.",
        "",
        "## Licence",
        "",
        "AGPL-3.0-or-later, as code and models built with Ultralytics require.",
        "",
    ]
    return "\n".join(lines)


def dataset_card(stages: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Markdown from the ``dataset.json`` of each training stage and of the evaluation."""
    used = [stage.get("dataset", {}) for stage in stages]
    parts: list[tuple[str, Mapping[str, Any], tuple[str, ...]]]
    parts = [(f"Training, stage {i}", data, ("train", "val")) for i, data in enumerate(used, 1)]
    for report in evaluations[:1]:
        split = "test" if report["data"] == "eval.yaml" else report["split"]
        parts.append(("Evaluation", report["dataset"], (split,)))
    first = parts[0][1]
    lines = [
        f"# Dataset card: {first.get('name', 'unnamed')} {first.get('version', '')}".rstrip(),
        "",
        *(f"- {title}: {first[key]}" for key, title in _FACTS if key in first),
        *(f"- Label rule, {what}: {rule}" for what, rule in first.get("label_rules", {}).items()),
    ]
    for title, data, splits in parts:
        lines += ["", f"## {title}", "", *_dataset_rows(data, splits)]
    return "\n".join([*lines, ""])


def _dataset_rows(data: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    splits = {name: part for name, part in data.get("splits", {}).items() if name in wanted}
    rows = ["| Split | Pictures | Seeds |", "|---|---|---|"]
    for split, part in splits.items():
        seeds = part.get("seeds") or {}
        shown = f"{seeds['count']}, from {seeds['first']} to {seeds['last']}" if seeds else "none"
        rows.append(f"| {split} | {part.get('pictures', '')} | {shown} |")
    rows += ["", f"| Labels | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    for name in data.get("classes", ()):
        counts = (str(part.get("labels", {}).get(name, 0)) for part in splits.values())
        rows.append(f"| {name} | {' | '.join(counts)} |")
    return rows


def _stage(stage: Mapping[str, Any]) -> str:
    settings, data, reached = stage["settings"], stage.get("dataset", {}), stage["validation"]
    start = f"from `{stage['weights']}`" if stage["weights"] else "from random weights"
    return (
        f"{start}, on {data.get('name', 'unnamed')} {data.get('version', '')}: {settings['epochs']} epochs, "
        f"batches of {settings['batch']}, images of {settings['image_size']} px, seed {settings['seed']}, "
        f"{stage['seconds'] / 60:.0f} minutes; mAP50 {reached['map50']:.3f}, mAP50-95 "
        f"{reached['map50_95']:.3f} on {reached['images']} validation pictures."
    )


def _origin(first: Mapping[str, Any]) -> str:
    if first["weights"] is None:
        return "trained from random weights: no weights of others."
    return f"trained on from `{first['weights']}`."


_FACTS = (("origin", "Origin"), ("licence", "Licence"), ("limits", "Limits"))


def _metrics_rows(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| Class | Instances | Precision | Recall | mAP50 | mAP50-95 |", "|---|---|---|---|---|---|"]
    for name, row in sorted(metrics["per_class"].items()):
        rows.append(f"| {name} | {row['instances']} | {_figures(row)} |")
    total = sum(row["instances"] for row in metrics["per_class"].values())
    rows.append(f"| **all** | {total} | {_figures(metrics)} |")
    return rows


def _figures(row: Mapping[str, Any]) -> str:
    return " | ".join(f"{row[key]:.3f}" for key in ("precision", "recall", "map50", "map50_95"))
