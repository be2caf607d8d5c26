"""How YOLO networks want their pictures and what their outputs mean, whatever runs them.

Pure arithmetic on NumPy arrays. Conventions are those of Ultralytics' exports: letterbox with grey 114,
centred; RGB divided by 255; boxes in pixels of the network's input. Two kinds of output exist:
*end-to-end* ``[1, N, 6]`` (x1, y1, x2, y2, confidence, class; already without duplicates) and *classic*
``[1, 4 + classes, N]`` (centre x, centre y, width, height, then one score per class), which needs
non-maximum suppression.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.domain.detection import Detection
from agent.errors import ModelError
from agent.ports import Image

Floats = npt.NDArray[np.float32]

PAD_GREY = 114
STRIDE = 32
"""Input sides of YOLO networks are multiples of this."""
MAX_CLASSES = 10_000
MAX_SIDE = 4096
_MAX_CANDIDATES = 2000
_SKU = re.compile(r"[a-z0-9][-a-z0-9_.]{0,63}")
"""As ``contract.names.Sku``."""
_MAX_METADATA_TEXT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the model says about itself."""

    names: tuple[str, ...]
    """By class id, spelled as SKUs."""
    image_size: tuple[int, int]
    """Height and width."""
    end2end: bool | None
    """None when the model does not say."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which boxes count. Defaults are those of Ultralytics' ``predict``."""

    confidence: float = 0.25
    iou: float = 0.7
    """Of two boxes that overlap more than this only the surer one stays."""
    class_agnostic: bool = False
    """Whether boxes of different classes suppress each other."""
    max_boxes: int = 300


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies inside the network's input."""

    scale: float
    left: int
    top: int
    width: int
    """Of the scaled frame."""
    height: int
    frame_width: int
    frame_height: int


class Preprocessor(Protocol):
    """Scales pictures. May reuse its result's memory at the next call."""

    def letterbox(self, image: Image, size: tuple[int, int]) -> tuple[Image, Placement]:
        """``image`` scaled into a grey picture of ``size`` (height, width)."""

    def blob(self, canvas: Image) -> Floats:
        """BGR bytes, height x width x 3, to RGB floats in [0, 1], 1 x 3 x height x width."""


def read_metadata(raw: Mapping[str, Any]) -> Metadata:
    """Check a model's metadata; values may be Python literals in text, as in ONNX files.

    Class names become SKUs as ``contract.names`` spells them (``cell phone`` is ``cell-phone``), since they
    name products in events and configurations. Raises ``ModelError`` for another task, missing class names
    or an impossible size.
    """
    task = raw.get("task")
    if task != "detect":
        found = f"is for task {task!r}" if task else "does not say its task"
        raise ModelError(f"the model {found}; export a detection model with Ultralytics")
    return Metadata(
        _names(_literal(raw, "names")), _size(_literal(raw, "imgsz")), _flag(_literal(raw, "end2end"))
    )


def _literal(raw: Mapping[str, Any], key: str) -> Any:
    value = raw.get(key)
    if not isinstance(value, str):
        return value
    if len(value) > _MAX_METADATA_TEXT:
        raise ModelError(f"the model's {key!r} metadata is implausibly long; export the model again")
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ModelError(f"the model's {key!r} metadata cannot be read; export the model again") from error


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        if sorted(value, key=repr) != sorted(range(len(value)), key=repr):
            raise ModelError("the model's class ids are not 0, 1, 2, …; export the model again")
        value = [value[i] for i in range(len(value))]
    if not isinstance(value, list | tuple) or not value:
        raise ModelError("the model names no classes; export it with Ultralytics, which writes them in")
    if len(value) > MAX_CLASSES or not all(isinstance(name, str) and name for name in value):
        raise ModelError("the model's class names are not texts; export the model again")
    skus = tuple(_sku(name, class_id) for class_id, name in enumerate(value))
    if len(set(skus)) != len(skus):
        raise ModelError("the model gives two classes the same name; train it with distinct names")
    return skus


def _sku(name: str, class_id: int) -> str:
    if _SKU.fullmatch(name):
        return name
    return re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-_.")[:64] or f"class-{class_id}"


def _size(value: Any) -> tuple[int, int]:
    sides = [value, value] if isinstance(value, int) else value
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or not all(isinstance(side, int) and STRIDE <= side <= MAX_SIDE for side in sides)
    ):
        raise ModelError(
            f"the model's input size {value!r} is not a height and width of {STRIDE} to {MAX_SIDE}"
        )
    return sides[0], sides[1]


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def input_size(frame: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """For networks that take any size: the smallest one, in steps of ``STRIDE``, that holds a frame
    (height, width) scaled to fit ``image_size``. A wide frame then wastes no work on grey bars."""
    placement = place(frame, image_size)
    return -(-placement.height // STRIDE) * STRIDE, -(-placement.width // STRIDE) * STRIDE


def place(frame: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Fit a frame (height, width) into ``size`` (height, width), centred, keeping its proportions."""
    scale = min(size[0] / frame[0], size[1] / frame[1])
    width, height = max(1, round(frame[1] * scale)), max(1, round(frame[0] * scale))
    left, top = round((size[1] - width) / 2 - 0.1), round((size[0] - height) / 2 - 0.1)
    return Placement(scale, max(0, left), max(0, top), width, height, frame[1], frame[0])


def check_output_shape(shape: Sequence[int | None], metadata: Metadata) -> None:
    """Raises ``ModelError`` if an output of this shape (None: known only when run) cannot be decoded."""
    if len(shape) == 3 and shape[0] in (1, None) and (shape[1] is None or shape[2] is None):
        return
    if not _is_end2end(shape, metadata) and not _is_classic(shape, metadata):
        text = "x".join(str(side) for side in shape)
        raise ModelError(
            f"the model's output {text} does not fit {len(metadata.names)} classes: expected 1xNx6 or "
            f"1x{4 + len(metadata.names)}xN; export a YOLO detection model at batch 1"
        )


def _is_end2end(shape: Sequence[int | None], metadata: Metadata) -> bool:
    if len(shape) != 3 or shape[0] != 1 or shape[2] != 6:
        return False
    return metadata.end2end is True or not _is_classic(shape, metadata) or metadata.end2end is None


def _is_classic(shape: Sequence[int | None], metadata: Metadata) -> bool:
    return len(shape) == 3 and shape[0] == 1 and shape[1] == 4 + len(metadata.names)


def decode(output: Floats, placement: Placement, metadata: Metadata, limits: Limits) -> list[Detection]:
    """The network's output as detections in pixels of the frame, surest first.

    Raises ``ModelError`` for an output of the wrong shape or with values that are no numbers.
    """
    check_output_shape(output.shape, metadata)
    if _is_end2end(output.shape, metadata):
        rows = output[0]
        rows = rows[rows[:, 4] >= limits.confidence]
        boxes, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
        order = np.argsort(-scores, kind="stable")[: limits.max_boxes]
    else:
        boxes, scores, classes = _classic(output[0], limits)
        order = suppress(boxes, scores, classes, limits)
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    if not (np.isfinite(boxes).all() and np.isfinite(output.sum())):
        raise ModelError("the model gave values that are no numbers; it is damaged or was exported wrongly")
    if classes.size and (classes.min() < 0 or classes.max() >= len(metadata.names)):
        raise ModelError("the model gave a class that it does not name; export it again")
    boxes = _to_frame(boxes, placement)
    return [
        Detection((box[0], box[1], box[2], box[3]), min(1.0, score), class_id, metadata.names[class_id])
        for box, score, class_id in zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True)
        if box[2] > box[0] and box[3] > box[1]
    ]


def _classic(output: Floats, limits: Limits) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    scores_by_class = output[4:]
    best = scores_by_class.max(axis=0)
    kept = np.flatnonzero(best >= limits.confidence)
    if kept.size > _MAX_CANDIDATES:
        kept = kept[np.argsort(-best[kept], kind="stable")[:_MAX_CANDIDATES]]
    centre, half = output[:2, kept].T, output[2:4, kept].T / 2
    boxes: Floats = np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
    return boxes, best[kept], scores_by_class[:, kept].argmax(axis=0)


def suppress(
    boxes: Floats, scores: Floats, classes: npt.NDArray[np.int64], limits: Limits
) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the boxes (x1, y1, x2, y2) that stay, surest first."""
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes[order], classes[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) == limits.max_boxes:
            break
        corner = np.minimum(boxes[i, 2:], boxes[i + 1 :, 2:]) - np.maximum(boxes[i, :2], boxes[i + 1 :, :2])
        overlap = np.clip(corner, 0, None).prod(axis=1)
        union = area[i] + area[i + 1 :] - overlap
        doubles = overlap > limits.iou * np.maximum(union, 1e-9)
        if not limits.class_agnostic:
            doubles &= classes[i + 1 :] == classes[i]
        alive[i + 1 :] &= ~doubles
    return order[kept]


def _to_frame(boxes: Floats, placement: Placement) -> npt.NDArray[np.float64]:
    moved = boxes.astype(np.float64) - (placement.left, placement.top) * 2
    ends = (placement.frame_width, placement.frame_height) * 2
    return np.clip(moved / placement.scale, 0.0, ends)
