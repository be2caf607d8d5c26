"""Labels against the pictures they belong to."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera_sims.catalogue import CLASS_NAMES, PERSON
from camera_sims.dataset import Crops, snapshot, write_dataset
from camera_sims.errors import DatasetError
from camera_sims.figures import person_mask
from camera_sims.labels import Label, cropped, labels
from camera_sims.shop import Shop, View


def view_with_person(seed: int) -> View:
    view = Shop(seed, "s", 1, activity=4).view("cam-1")
    for tick in range(1, 600):
        view.advance(tick * 0.2)
        if any(visit.pose(view.now).box for visit in view.script.present(view.now)):
            return view
    pytest.fail("nobody came")


@pytest.mark.parametrize("seed", range(20, 26))
def test_labels_lie_inside_the_picture_and_name_classes(seed: int) -> None:
    picture, found = snapshot(seed)
    assert picture.shape == (720, 1280, 3)
    assert len(found) > 5
    for label in found:
        x0, y0, x1, y1 = label.box
        assert label.name in CLASS_NAMES
        assert 0 <= x0 < x1 <= 1280
        assert 0 <= y0 < y1 <= 720


@pytest.mark.parametrize("seed", range(1, 4))
def test_packages_are_labelled_where_they_show(seed: int) -> None:
    """A package's box is unlike the bare shelf, the strip just above it is like it."""
    full = Shop(seed, "s", 1, activity=0)
    view = full.view("cam-1")
    picture = view.picture().astype(int)
    for slots in view.script.contents:
        slots[:] = [None] * len(slots)
    bare_view = full.view("cam-1")
    bare_view.script.contents = view.script.contents
    bare = bare_view.picture().astype(int)
    difference = np.abs(picture - bare).mean(axis=2)
    for label in labels(full.view("cam-1")):
        x0, y0, x1, y1 = (round(v) for v in label.box)
        assert difference[y0:y1, x0:x1].mean() > 12
        assert difference[max(0, y0 - 9) : max(1, y0 - 4), x0:x1].mean() < 3


@pytest.mark.parametrize("seed", range(6))
def test_packages_have_their_centre_in_their_zone_and_stand_apart(seed: int) -> None:
    shop = Shop(seed, "s", 1, activity=0)
    view = shop.view("cam-1")
    found = labels(view)
    polygons = {
        zone.package.sku: np.array(shop.gondola("cam-1").polygons[zone.id], np.float32)
        for zone in shop.gondola("cam-1").zones
    }
    for label in found:
        x0, y0, x1, y1 = label.box
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        assert cv2.pointPolygonTest(polygons[label.name], centre, True) > 8
        assert 38 < x1 - x0 < 90
    for one in found:
        for other in found:
            if one is not other:
                overlap = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
                apart_in_height = min(one.box[3], other.box[3]) <= max(one.box[1], other.box[1])
                assert apart_in_height or overlap < 0.15 * (one.box[2] - one.box[0])


@pytest.mark.parametrize("seed", range(30, 34))
def test_person_box_covers_all_of_the_person(seed: int) -> None:
    view = view_with_person(seed)
    for _ in range(24):
        view.advance(view.now + 0.15)
        for visit in view.script.present(view.now):
            pose = visit.pose(view.now)
            mask = person_mask(pose)
            if pose.box is None:
                assert not mask.any()
                continue
            x0, y0, x1, y1 = pose.box
            rows, columns = np.nonzero(mask)
            if len(rows):
                assert columns.min() >= x0 - 4
                assert columns.max() <= x1 + 4
                assert rows.min() >= y0 - 4
                assert rows.max() <= y1


def test_person_in_view_is_always_labelled() -> None:
    view = view_with_person(40)
    for _ in range(30):
        view.advance(view.now + 0.1)
        area = sum(np.count_nonzero(person_mask(v.pose(view.now))) for v in view.script.present(view.now))
        if area > 3000:
            assert any(label.name == PERSON for label in labels(view))


def a_label(box: tuple[float, float, float, float]) -> Label:
    return Label("cola-can", box)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((0, 0, 640, 640), (100.0, 100.0, 160.0, 200.0)),
        ((130, 0, 640, 640), (130.0, 100.0, 160.0, 200.0)),
        ((145, 0, 640, 640), None),
        ((400, 400, 640, 640), None),
    ],
    ids=["inside", "half", "less than a third", "outside"],
)
def test_crop_cuts_labels(
    window: tuple[int, int, int, int], expected: tuple[float, float, float, float] | None
) -> None:
    assert cropped(a_label((100.0, 100.0, 160.0, 200.0)), window, 0.35) == expected


def test_dataset_is_complete_and_describes_itself(tmp_path: Path) -> None:
    out = tmp_path / "data"
    calls: list[tuple[int, int]] = []
    card = write_dataset(
        out, [50, 51], [52], [53], crops=Crops(size=160), workers=1, progress=lambda *done: calls.append(done)
    )
    assert calls[-1] == (4, 4)
    for split, count, size in (("train", 4, (160, 160)), ("val", 2, (160, 160)), ("test", 1, (720, 1280))):
        pictures = sorted((out / "images" / split).glob("*.jpg"))
        assert len(pictures) == count == card["splits"][split]["pictures"]
        for path in pictures:
            picture = cv2.imread(str(path))
            assert picture is not None
            assert picture.shape[:2] == size
            for line in (out / "labels" / split / f"{path.stem}.txt").read_text().splitlines():
                class_id, *shares = line.split()
                x, y, w, h = (float(share) for share in shares)
                assert 0 <= int(class_id) < len(CLASS_NAMES)
                assert w > 0
                assert h > 0
                assert all(-1e-6 <= v <= 1 + 1e-6 for v in (x - w / 2, x + w / 2, y - h / 2, y + h / 2))
    stored = json.loads((out / "dataset.json").read_text())
    assert stored == card
    assert stored["splits"]["train"]["seeds"] == {"first": 50, "last": 51, "count": 2}
    assert "AGPL-3.0" in (out / "README.md").read_text()


def test_seed_in_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="used twice"):
        write_dataset(tmp_path / "data", [1, 2], [2])


def test_existing_dataset_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not empty"):
        write_dataset(tmp_path, [1], [2])
