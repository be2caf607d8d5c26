"""Pictures with labels for training a detector, in Ultralytics' YOLO layout.

Every picture comes from a shop of its own: shelf layout, view, light, stock and people all differ.
Training and validation pictures are crops of frames brought to the scale at which the detector will see
them (a 1280x720 frame inferred at 640 pixels); test pictures are whole frames, as a camera gives them.

Layout: ``data.yaml`` (training), ``eval.yaml`` (the same with the test pictures as ``val``),
``dataset.json`` (the dataset card), ``README.md`` (the same in words), ``images/{train,val,test}/*.jpg``,
``labels/{train,val,test}/*.txt``.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from camera_sims.appearance import Lighting
from camera_sims.catalogue import CATALOGUE, CLASS_NAMES
from camera_sims.errors import DatasetError
from camera_sims.labels import Label, cropped, labels
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH
from camera_sims.prints import Image
from camera_sims.shop import Shop, View

DATASET_VERSION = "1"
MIN_VISIBLE = 0.35
"""A package cut by a crop's edge to less than this share has no label."""

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


@dataclass(frozen=True, slots=True)
class Crops:
    """How training pictures are cut: ``size`` pixels square, ``per_frame`` from each frame, which is first
    brought to ``base_width`` pixels times a factor between ``zoom[0]`` and ``zoom[1]``."""

    size: int = 320
    per_frame: int = 2
    base_width: int = 640
    zoom: tuple[float, float] = (0.85, 1.2)


@dataclass(frozen=True, slots=True)
class _Job:
    seed: int
    split: str
    out: str
    crops: Crops | None


def write_dataset(
    out: Path,
    train_seeds: Sequence[int],
    val_seeds: Sequence[int],
    test_seeds: Sequence[int] = (),
    *,
    crops: Crops | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a dataset into the empty or new directory ``out``; one shop per seed. Returns the dataset card.
    Raises ``DatasetError`` if ``out`` has content or the seeds of two splits overlap."""
    crops = crops or Crops()
    splits = {
        "train": list(train_seeds),
        "val": list(val_seeds),
        "test": list(test_seeds),
    }
    seeds = [seed for group in splits.values() for seed in group]
    if len(set(seeds)) != len(seeds):
        raise DatasetError("a seed is used twice; training, validation and test need seeds of their own")
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; give a new directory")
    for kind in ("images", "labels"):
        for split in splits:
            (out / kind / split).mkdir(parents=True)
    jobs = [
        _Job(seed, split, str(out), None if split == "test" else crops)
        for split, group in splits.items()
        for seed in group
    ]
    counts: dict[str, Counter[str]] = {split: Counter() for split in splits}
    pictures: Counter[str] = Counter()
    # A forked process would inherit OpenCV's locks without its threads, and wait for ever.
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        for done, (job, names) in enumerate(
            zip(jobs, pool.map(_write_shop, jobs, chunksize=4), strict=True), 1
        ):
            counts[job.split].update(names)
            pictures[job.split] += job.crops.per_frame if job.crops else 1
            if progress is not None:
                progress(done, len(jobs))
    card = _card(splits, pictures, counts, crops)
    (out / "data.yaml").write_text(_data_yaml("val"))
    (out / "eval.yaml").write_text(_data_yaml("test"))
    (out / "dataset.json").write_text(json.dumps(card, indent=2) + "\n")
    (out / "README.md").write_text(_readme(card))
    return card


def _data_yaml(val: str) -> str:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASS_NAMES))
    return f"path: .\ntrain: images/train\nval: images/{val}\nnames:\n{names}"


def snapshot(seed: int) -> tuple[Image, list[Label]]:
    """One frame of the shop of ``seed`` and everything in it; somebody is at the shelf in about two of
    three."""
    rng = np.random.default_rng((seed, 99))
    lighting: Lighting = "night" if rng.random() < 0.3 else "day"
    shop = Shop(
        seed,
        "dataset",
        1,
        activity=float(rng.uniform(2, 6)),
        lighting=lighting,
        stock="varied",
    )
    view = shop.view(shop.camera_ids[0])
    t = float(rng.uniform(1, 60))
    view.advance(t)
    if rng.random() < 0.55:
        deadline = t + 40
        while t < deadline and not _somebody(view):
            t += 0.3
            view.advance(t)
    return view.picture(), labels(view)


def _somebody(view: View) -> bool:
    return any(visit.pose(view.now).box is not None for visit in view.script.present(view.now))


def _write_shop(job: _Job) -> list[str]:
    """Write the pictures of one shop; returns the class names of the labels written."""
    cv2.setNumThreads(1)
    frame, found = snapshot(job.seed)
    rng = np.random.default_rng((job.seed, 100))
    written: list[str] = []
    cuts = _cut(frame, found, job.crops, rng) if job.crops else iter([_whole(frame, found)])
    for number, (picture, lines) in enumerate(cuts):
        stem = f"{job.seed}-{number}"
        quality = int(rng.integers(45, 95)) if job.crops else 88
        path = Path(job.out, "images", job.split, f"{stem}.jpg")
        if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise DatasetError(f"cannot write {path}")
        text = "".join(f"{class_id} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for class_id, x, y, w, h in lines)
        Path(job.out, "labels", job.split, f"{stem}.txt").write_text(text)
        written += [CLASS_NAMES[line[0]] for line in lines]
    return written


Line = tuple[int, float, float, float, float]
"""Class id, then middle x, middle y, width and height as shares of the picture."""


def _whole(frame: Image, found: list[Label]) -> tuple[Image, list[Line]]:
    return frame, [_line(label.name, label.box, (0.0, 0.0), (FRAME_WIDTH, FRAME_HEIGHT)) for label in found]


def _cut(
    frame: Image, found: list[Label], crops: Crops, rng: np.random.Generator
) -> Iterator[tuple[Image, list[Line]]]:
    for _ in range(crops.per_frame):
        factor = crops.base_width / FRAME_WIDTH * float(rng.uniform(*crops.zoom))
        scaled = np.asarray(
            cv2.resize(frame, None, fx=factor, fy=factor, interpolation=_interpolation(rng)),
            np.uint8,
        )
        h, w = scaled.shape[:2]
        x = int(rng.integers(0, max(1, w - crops.size + 1)))
        y = int(rng.integers(0, max(1, h - crops.size + 1)))
        part = scaled[y : y + crops.size, x : x + crops.size]
        picture = np.full((crops.size, crops.size, 3), 114, np.uint8)
        picture[: part.shape[0], : part.shape[1]] = part
        side = crops.size / factor
        window = (
            round(x / factor),
            round(y / factor),
            round(x / factor + side),
            round(y / factor + side),
        )
        boxes = [(label.name, cropped(label, window, MIN_VISIBLE)) for label in found]
        yield (
            picture,
            [_line(n, b, (window[0], window[1]), (side, side)) for n, b in boxes if b is not None],
        )


def _interpolation(rng: np.random.Generator) -> int:
    """Ultralytics and other runtimes shrink frames linearly, some with area weights: train on both."""
    return cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_AREA


def _line(
    name: str,
    box: tuple[float, float, float, float],
    origin: tuple[float, float],
    size: tuple[float, float],
) -> Line:
    x0, x1 = ((box[i] - origin[0]) / size[0] for i in (0, 2))
    y0, y1 = ((box[i] - origin[1]) / size[1] for i in (1, 3))
    x0, y0, x1, y1 = (min(1.0, max(0.0, v)) for v in (x0, y0, x1, y1))
    return CLASS_NAMES.index(name), (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def _card(
    splits: dict[str, list[int]],
    pictures: Counter[str],
    counts: dict[str, Counter[str]],
    crops: Crops,
) -> dict[str, Any]:
    return {
        "name": "storefleet-shelves",
        "version": DATASET_VERSION,
        "licence": "CC0-1.0 (pictures and labels), AGPL-3.0-or-later (the program that draws them)",
        "origin": "drawn by camera_sims; no photograph, no person and no real brand is in it",
        "classes": list(CLASS_NAMES),
        "products": [package.product().model_dump() for package in CATALOGUE],
        "splits": {
            split: {
                "seeds": {"first": min(seeds), "last": max(seeds), "count": len(seeds)} if seeds else None,
                "pictures": pictures[split],
                "labels": {name: counts[split][name] for name in CLASS_NAMES},
            }
            for split, seeds in splits.items()
        },
        "crops": asdict(crops) | {"zoom": list(crops.zoom)},
        "label_rules": {
            "packages": "amodal box inside the picture; dropped when over 60 % hidden by people or under "
            f"{MIN_VISIBLE:.0%} inside a crop",
            "person": "tight box around the visible part, arms included",
        },
        "limits": "drawn scenes only: expect to retrain on pictures of a real shop before use in one",
    }


def _readme(card: dict[str, Any]) -> str:
    rows = [
        f"| {name} | "
        + " | ".join(str(card["splits"][s]["labels"][name]) for s in ("train", "val", "test"))
        + " |"
        for name in card["classes"]
    ]
    sizes = ", ".join(f"{split}: {part['pictures']} pictures" for split, part in card["splits"].items())
    return "\n".join(
        [
            f"# Dataset {card['name']} {card['version']}",
            "",
            f"Simulated shelves, {card['origin']}. {sizes}.",
            "",
            f"Licence: {card['licence']}.",
            "",
            f"Limits: {card['limits']}.",
            "",
            "| class | train | val | test |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
