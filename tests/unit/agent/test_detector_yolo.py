"""Reading a network's metadata and outputs, and undoing what was done to the picture."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.opencv.preprocess import CvPreprocessor
from agent.domain.model_fit import describe_misfit, missing_classes
from agent.errors import ModelError
from agent.yolo import (
    PAD_GREY,
    Limits,
    Metadata,
    check_output_shape,
    decode,
    input_size,
    place,
    read_metadata,
    suppress,
)

NAMES = ("cola-can", "chips", "person")
METADATA = Metadata(NAMES, (384, 640), None)
FULL_HD = place((1080, 1920), (384, 640))


def raw(**changes: object) -> dict[str, object]:
    """Metadata as Ultralytics writes it into an ONNX file."""
    names = "{0: 'cola-can', 1: 'chips', 2: 'person'}"
    return {"task": "detect", "names": names, "imgsz": "[384, 640]", "end2end": "True", **changes}


@pytest.mark.parametrize(
    "given_metadata",
    [
        raw(),
        raw(names={0: "cola-can", 1: "chips", 2: "person"}, imgsz=[384, 640], end2end=True),
        raw(names={2: "person", 0: "cola-can", 1: "chips"}),
        raw(names=["cola-can", "chips", "person"], imgsz=(384, 640)),
    ],
)
def test_metadata_is_read_from_text_and_from_yaml(given_metadata: dict[str, object]) -> None:
    assert read_metadata(given_metadata) == Metadata(NAMES, (384, 640), True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "segment"}, "task 'segment'"),
        ({"task": None}, "does not say its task"),
        ({"names": None}, "names no classes"),
        ({"names": "{}"}, "names no classes"),
        ({"names": "{1: 'a', 2: 'b'}"}, "class ids are not 0"),
        ({"names": "{0: 'a', 'x': 'b'}"}, "class ids are not 0"),
        ({"names": "{0: 7}"}, "not texts"),
        ({"names": "['a', 'a']"}, "two classes the same name"),
        ({"names": "['cell phone', 'Cell-Phone']"}, "two classes the same name"),
        ({"names": "__import__('os').getcwd()"}, "'names' metadata cannot be read"),
        ({"names": "{" * 5000}, "'names' metadata cannot be read"),
        ({"names": "'" + "x" * 2_000_000 + "'"}, "implausibly long"),
        ({"imgsz": None}, "input size None"),
        ({"imgsz": "[384]"}, "input size [384]"),
        ({"imgsz": "[384, 100000]"}, "input size"),
        ({"imgsz": "[True, 'x']"}, "input size"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_metadata(raw(**changes))
    assert complaint in str(refused.value)


@given(st.dictionaries(st.sampled_from(["task", "names", "imgsz", "end2end"]), st.text(max_size=30)))
def test_no_text_in_the_metadata_breaks_more_than_the_model(texts: dict[str, str]) -> None:
    with contextlib.suppress(ModelError):
        read_metadata({**raw(), **texts})


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 300, 6), True),
        ((1, 7, 5040), True),
        ((1, None, None), True),
        ((1, 7, None), True),
        ((1, 84, 8400), False),
        ((2, 300, 6), False),
        ((1, 1000), False),
        ((1, 300, 7), False),
    ],
)
def test_an_output_that_does_not_fit_the_classes_is_refused(
    shape: tuple[int | None, ...], fits: bool
) -> None:
    if fits:
        check_output_shape(shape, METADATA)
    else:
        with pytest.raises(ModelError, match="does not fit 3 classes"):
            check_output_shape(shape, METADATA)


def end_to_end(*rows: tuple[float, ...]) -> np.ndarray:
    output = np.zeros((1, 300, 6), np.float32)
    output[0, : len(rows)] = rows
    return output


def classic(*boxes: tuple[float, ...]) -> np.ndarray:
    """Rows of centre x, centre y, width, height and one score per class."""
    output = np.zeros((1, 7, 50), np.float32)
    for i, box in enumerate(boxes):
        output[0, :, i] = box
    return output


def test_boxes_come_out_in_pixels_of_the_frame() -> None:
    found = decode(end_to_end((100, 112, 200, 212, 0.9, 2)), FULL_HD, METADATA, Limits())
    assert [(d.label, d.class_id) for d in found] == [("person", 2)]
    assert found[0].xyxy == pytest.approx((300.0, 300.0, 600.0, 600.0))


def test_boxes_are_clipped_to_the_frame_and_unsure_ones_dropped() -> None:
    output = end_to_end((-50, -50, 900, 500, 0.8, 0), (10, 20, 30, 40, 0.2, 1), (10, 0, 20, 5, 0.9, 1))
    found = decode(output, FULL_HD, METADATA, Limits())
    assert [d.xyxy for d in found] == [(0.0, 0.0, 1920.0, 1080.0)]  # the last lies on the grey bar


def test_a_classic_output_is_cleared_of_doubles() -> None:
    output = classic(
        (150, 150, 40, 80, 0.9, 0.1, 0),
        (152, 150, 40, 80, 0.8, 0.1, 0),
        (151, 150, 40, 80, 0, 0.7, 0),
        (400, 200, 40, 80, 0, 0, 0.6),
    )
    found = decode(output, FULL_HD, METADATA, Limits())
    assert [(d.label, round(d.confidence, 2)) for d in found] == [
        ("cola-can", 0.9),
        ("chips", 0.7),
        ("person", 0.6),
    ]
    alone = decode(output, FULL_HD, METADATA, Limits(class_agnostic=True))
    assert [d.label for d in alone] == ["cola-can", "person"]


def test_two_classes_and_six_rows_are_told_apart_by_the_metadata() -> None:
    metadata = Metadata(("chips", "person"), (384, 640), False)
    output = np.zeros((1, 6, 6), np.float32)
    output[0, :, 0] = (150, 150, 40, 80, 0.1, 0.9)
    assert [d.label for d in decode(output, FULL_HD, metadata, Limits())] == ["person"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ((10, 10, 20, 20, 0.9, 3), "a class that it does not name"),
        ((10, 10, 20, 20, 0.9, -1), "a class that it does not name"),
        ((10, float("nan"), 20, 20, 0.9, 1), "no numbers"),
        ((10, 10, float("inf"), 20, 0.9, 1), "no numbers"),
    ],
)
def test_an_impossible_output_is_refused(row: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        decode(end_to_end(row), FULL_HD, METADATA, Limits())


boxes_strategy = st.lists(
    st.tuples(st.floats(0, 600), st.floats(0, 350), st.floats(1, 200), st.floats(1, 200), st.floats(0.01, 1)),
    max_size=30,
)


@given(boxes_strategy, st.floats(0.1, 0.9))
def test_what_is_left_after_suppression_does_not_overlap_and_explains_the_rest(
    drawn: list[tuple[float, ...]], iou: float
) -> None:
    rows = np.array(drawn, np.float32).reshape(-1, 5)
    boxes = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1)
    classes = np.zeros(len(rows), np.int64)
    kept = suppress(boxes, rows[:, 4], classes, Limits(iou=iou)).tolist()
    assert [rows[i, 4] for i in kept] == sorted((rows[i, 4] for i in kept), reverse=True)
    for n, i in enumerate(kept):
        assert all(overlap(boxes[i], boxes[j]) <= iou + 1e-3 for j in kept[:n])
    for i in set(range(len(rows))) - set(kept):
        assert any(overlap(boxes[i], boxes[j]) > iou - 1e-3 and rows[j, 4] >= rows[i, 4] for j in kept)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = float(sides.prod())
    total = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - both
    return both / total


@given(st.integers(64, 2160), st.integers(64, 3840), st.sampled_from([(384, 640), (640, 640), (320, 320)]))
def test_a_frame_lies_inside_the_network_input_and_comes_back(
    height: int, width: int, size: tuple[int, int]
) -> None:
    placement = place((height, width), size)
    assert placement.left + placement.width <= size[1]
    assert placement.top + placement.height <= size[0]
    box = np.array([[0, 0, placement.width, placement.height]], np.float32)
    box += np.array([placement.left, placement.top] * 2, np.float32)
    rows = end_to_end((*box[0].tolist(), 0.9, 0))
    (found,) = decode(rows, placement, METADATA, Limits())
    allowed = 1.0 / placement.scale
    assert found.xyxy == pytest.approx((0, 0, width, height), abs=allowed)


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        ((720, 1280), (384, 640)),
        ((1280, 720), (640, 384)),
        ((480, 640), (480, 640)),
        ((500, 500), (640, 640)),
    ],
)
def test_a_network_of_any_size_gets_no_needless_grey(frame: tuple[int, int], size: tuple[int, int]) -> None:
    assert input_size(frame, (640, 640)) == size


def test_letterboxing_keeps_the_picture_and_paints_the_rest_grey() -> None:
    preprocessor = CvPreprocessor()
    canvas, placement = preprocessor.letterbox(np.full((720, 1280, 3), 10, np.uint8), (384, 640))
    assert canvas.shape == (384, 640, 3)
    assert (placement.top, placement.height) == (12, 360)
    assert (canvas[12:372] == 10).all()
    assert (canvas[:12] == PAD_GREY).all()
    assert (canvas[372:] == PAD_GREY).all()
    upright, _ = preprocessor.letterbox(np.full((1280, 720, 3), 20, np.uint8), (384, 640))
    assert (upright[:, :200] == PAD_GREY).all()
    assert (upright[:, 320] == 20).all()


def test_a_blob_is_rgb_from_0_to_1() -> None:
    canvas = np.zeros((32, 64, 3), np.uint8)
    canvas[..., 0], canvas[..., 2] = 255, 51
    blob = CvPreprocessor().blob(canvas)
    assert blob.shape == (1, 3, 32, 64)
    assert blob[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.0, 1.0])


@pytest.mark.parametrize(
    ("names", "skus", "missing"),
    [
        (NAMES, ["cola-can", "chips"], ()),
        (NAMES, [], ()),
        (NAMES, ["tea", "cola-can", "coffee"], ("coffee", "tea")),
        (("cola-can",), ["cola-can"], ("person",)),
    ],
)
def test_a_model_must_know_every_sku_and_people(
    names: tuple[str, ...], skus: list[str], missing: tuple[str, ...]
) -> None:
    assert missing_classes(names, skus) == missing
    described = describe_misfit(names, skus)
    assert (described is None) == (not missing)
    assert all(name in (described or "") for name in missing)


def test_a_long_list_of_missing_skus_is_cut() -> None:
    described = describe_misfit(("person",), [f"sku-{i:02d}" for i in range(30)])
    assert described is not None
    assert "and 20 more" in described


@pytest.mark.parametrize(
    ("name", "sku"),
    [
        ("cola-can", "cola-can"),
        ("cell phone", "cell-phone"),
        ("Person", "person"),
        (" Müsli  500 g ", "m-sli-500-g"),
        ("x" * 100, "x" * 64),
        ("可乐", "class-1"),
    ],
)
def test_class_names_become_skus_so_that_any_exported_model_can_be_tried(name: str, sku: str) -> None:
    assert read_metadata(raw(names=["other", name])).names == ("other", sku)
