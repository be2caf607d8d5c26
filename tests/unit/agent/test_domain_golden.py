"""Matching of boxes, and the judgement of a model by a golden set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.detection import Detection
from agent.domain.golden import Tally, Thresholds, percentile, refusal
from agent.domain.matching import Box, Labelled, iou, match
from contract.golden import Expected, GoldenClass, GoldenFrame

UNIT = (0.0, 0.0, 10.0, 10.0)


def seen(label: str, xyxy: Box, confidence: float = 0.9) -> Detection:
    return Detection(xyxy, confidence, 0, label)


def frame(*expected: tuple[str, Box]) -> GoldenFrame:
    detections = tuple(Expected(label=label, xyxy=xyxy) for label, xyxy in expected)
    return GoldenFrame(file="frames/0000.jpg", width=100, height=100, detections=detections)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (UNIT, 1.0),
        ((0.0, 0.0, 10.0, 5.0), 0.5),
        ((5.0, 0.0, 15.0, 10.0), 1 / 3),
        ((10.0, 0.0, 20.0, 10.0), 0.0),
        ((3.0, 3.0, 3.0, 3.0), 0.0),
    ],
    ids=["same", "half", "shifted", "touching", "no-area"],
)
def test_intersection_over_union(other: Box, wanted: float) -> None:
    assert iou(UNIT, other) == pytest.approx(wanted)
    assert iou(other, UNIT) == pytest.approx(wanted)


def test_best_overlap_is_taken_first_and_no_box_twice() -> None:
    left = [Labelled("cola", UNIT), Labelled("cola", (1.0, 0.0, 11.0, 10.0))]
    right = [Labelled("cola", (1.0, 0.0, 11.0, 10.0))]
    assert match(left, right) == [(1, 0)]


def test_other_class_never_matches() -> None:
    assert match([Labelled("cola", UNIT)], [Labelled("tea", UNIT)]) == []


boxes = st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(51, 100)] * 2)
labelled = st.lists(st.builds(Labelled, st.sampled_from(["cola", "tea"]), boxes), max_size=8)


@given(labelled, labelled)
def test_matching_pairs_each_box_once_within_its_class(left: list[Labelled], right: list[Labelled]) -> None:
    pairs = match(left, right)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(left[i].label == right[j].label for i, j in pairs)
    assert all(iou(left[i].xyxy, right[j].xyxy) >= 0.5 for i, j in pairs)


def test_recall_and_count_error_are_of_each_class_and_frame() -> None:
    tally = Tally(("cola", "tea"))
    far = (50.0, 50.0, 60.0, 60.0)
    tally.add(frame(("cola", UNIT), ("cola", far)), [seen("cola", UNIT), seen("tea", far)])
    tally.add(frame(("tea", UNIT)), [seen("tea", UNIT), seen("person", far)])
    assert tally.result() == {
        "cola": GoldenClass(expected=2, found=1, recall=0.5, count_error=0.5),
        "tea": GoldenClass(expected=1, found=2, recall=1.0, count_error=0.5),
    }


def test_wrong_places_count_right_but_are_not_recalled() -> None:
    tally = Tally(("cola",))
    tally.add(frame(("cola", UNIT)), [seen("cola", (50.0, 50.0, 60.0, 60.0))])
    assert tally.result()["cola"] == GoldenClass(expected=1, found=1, recall=0.0, count_error=0.0)


@pytest.mark.parametrize(
    ("recall", "error", "words"),
    [
        (1.0, 0.0, ""),
        (0.9, 0.5, ""),
        (0.89, 0.0, "recall of cola 0.890 (at least 0.9)"),
        (1.0, 0.51, "count error of cola 0.51 (at most 0.5)"),
        (0.0, 2.0, "recall of cola 0.000 (at least 0.9); count error of cola 2.00 (at most 0.5)"),
    ],
    ids=["perfect", "on-the-line", "blind", "miscounts", "both"],
)
def test_refusal_names_class_and_bound(recall: float, error: float, words: str) -> None:
    figures = GoldenClass(expected=9, found=9, recall=recall, count_error=error)
    assert refusal({"cola": figures}, Thresholds()) == words


def test_refusal_is_short_however_many_classes_fail() -> None:
    bad = GoldenClass(expected=1, found=0, recall=0.0, count_error=1.0)
    words = refusal({f"sku-{n}": bad for n in range(200)}, Thresholds())
    assert "and 197 more" in words
    assert len(words) < 300


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0, 2.0], 0.95) == 2.0
