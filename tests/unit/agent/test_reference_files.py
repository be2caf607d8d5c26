"""Reference views on disk: read back exactly, replaced as a whole, and never believed when damaged."""

import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.reference_files import ReferenceFiles
from agent.domain.reference_view import Drawing
from agent.errors import TransientError
from agent.ports import ReferenceView

DRAWING = Drawing((1280, 720), {"a1-cola": 4_123_456_789, "a2-chips": 7})


def view(seed: int = 1) -> ReferenceView:
    thumbnail = np.random.default_rng(seed).integers(0, 256, (180, 320), np.uint8)
    return ReferenceView(thumbnail, DRAWING, 1_700_000_000.25)


@pytest.fixture
def files(tmp_path: Path) -> ReferenceFiles:
    return ReferenceFiles(tmp_path / "data")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "views" / "cam-1.pgm"


def test_a_view_is_read_back_as_it_was_by_another_process(files: ReferenceFiles, tmp_path: Path) -> None:
    assert files.load("cam-1") is None
    files.save("cam-1", view())
    found = ReferenceFiles(tmp_path / "data").load("cam-1")
    assert found is not None
    assert np.array_equal(found.thumbnail, view().thumbnail)
    assert (found.drawing, found.adopted_at) == (DRAWING, view().adopted_at)
    assert files.load("cam-2") is None


def test_any_image_viewer_shows_it(files: ReferenceFiles, path: Path) -> None:
    files.save("cam-1", view())
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert np.array_equal(picture, view().thumbnail)


def test_a_newer_view_takes_the_place_of_the_former(files: ReferenceFiles, path: Path) -> None:
    files.save("cam-1", view(1))
    files.save("cam-1", view(2))
    found = files.load("cam-1")
    assert found is not None
    assert np.array_equal(found.thumbnail, view(2).thumbnail)
    assert [file.name for file in path.parent.iterdir()] == ["cam-1.pgm"]


def truncated(content: bytes) -> bytes:
    return content[:-1]


def flipped(content: bytes) -> bytes:
    return content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:]


def other_outline(content: bytes) -> bytes:
    return content.replace(b"4123456789", b"4123456780")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "digest does not match"),
        (flipped, "digest does not match"),
        (other_outline, "digest does not match"),
        (lambda content: content[:40], "truncated"),
        (lambda content: b"", "truncated"),
        (lambda content: b"\x89PNG\r\n\x1a\n\n\n", "not a reference view"),
        (lambda content: b"P5\n# CREATOR: GIMP\n1 1\n255\n0", "not a reference view"),
    ],
)
def test_a_damaged_view_is_ignored_and_logged(
    files: ReferenceFiles,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    files.save("cam-1", view())
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert files.load("cam-1") is None
    (record,) = caplog.records
    assert record.__dict__["camera"] == "cam-1"
    assert message in record.__dict__["detail"]
    files.save("cam-1", view())
    assert files.load("cam-1") is not None


def test_a_view_of_another_camera_is_ignored(
    files: ReferenceFiles, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.save("cam-2", view())
    path.with_name("cam-2.pgm").replace(path)
    assert files.load("cam-1") is None
    assert "belongs to camera cam-2" in caplog.records[0].__dict__["detail"]


@settings(max_examples=50)
@given(data=st.binary(max_size=400))
def test_no_bytes_make_loading_fail(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.getbasetemp() / "any-bytes"
    (directory / "views").mkdir(parents=True, exist_ok=True)
    (directory / "views" / "cam-1.pgm").write_bytes(data)
    assert ReferenceFiles(directory).load("cam-1") is None


def test_a_disk_that_refuses_is_told_and_the_former_view_stays(files: ReferenceFiles, path: Path) -> None:
    files.save("cam-1", view(1))
    path.with_suffix(".part").mkdir()  # nothing can be written there now
    with pytest.raises(TransientError, match=r"cannot write .*cam-1\.pgm"):
        files.save("cam-1", view(2))
    found = files.load("cam-1")
    assert found is not None
    assert np.array_equal(found.thumbnail, view(1).thumbnail)


def test_views_of_other_cameras_and_broken_off_writes_are_removed(files: ReferenceFiles, path: Path) -> None:
    files.keep_only([])  # before there is a directory
    for camera in ("cam-1", "cam-2", "cam-3"):
        files.save(camera, view())
    path.with_name("cam-9.part").write_bytes(b"P5")
    files.keep_only(["cam-1", "cam-3", "cam-4"])
    assert sorted(file.name for file in path.parent.iterdir()) == ["cam-1.pgm", "cam-3.pgm"]
