"""The first configuration: addresses as people type them, no secret in the file, a file that loads."""

import re
from pathlib import Path

import pytest

from agent.domain.propose import ProposedZone
from agent.errors import CameraError
from agent.first_config import camera_url, first_config, to_text, without_password
from contract.store_config import load_store_config


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("0", "device:0"),
        ("12", "device:12"),
        ("rtsp://10.0.0.1/x", "rtsp://10.0.0.1/x"),
        ("http://cam/mjpeg", "http://cam/mjpeg"),
        ("device:1", "device:1"),
    ],
)
def test_sources_become_camera_urls(source: str, url: str) -> None:
    assert camera_url(source) == url


def test_path_becomes_a_file_url(tmp_path: Path) -> None:
    video = tmp_path / "my shelf #1.mp4"
    video.touch()
    assert camera_url(str(video)) == f"file:{tmp_path}/my%20shelf%20%231.mp4"


@pytest.mark.parametrize("source", ["", "nothing.mp4", "gopher://x", "-1"])
def test_other_sources_are_refused_with_advice(source: str) -> None:
    with pytest.raises(CameraError, match="give a video file"):
        camera_url(source)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://viewer:pw@10.0.0.1/x", "rtsp://viewer:${CAMERA_PASSWORD}@10.0.0.1/x"),
        ("rtsp://viewer:p@w@10.0.0.1:554/x?a=1", "rtsp://viewer:${CAMERA_PASSWORD}@10.0.0.1:554/x?a=1"),
        (
            "http://cam/video?user=me&password=pw&fps=5",
            "http://cam/video?user=me&password=${CAMERA_PASSWORD}&fps=5",
        ),
        ("rtsp://10.0.0.1:554/media@stream", "rtsp://10.0.0.1:554/media@stream"),
        ("http://cam/list?at=a:b@c", "http://cam/list?at=a:b@c"),
        ("rtsp://viewer:pw@10.0.0.1/media@1", "rtsp://viewer:${CAMERA_PASSWORD}@10.0.0.1/media@1"),
        ("rtsp://viewer:p/w@10.0.0.1/x", "rtsp://viewer:${CAMERA_PASSWORD}@10.0.0.1/x"),
        ("rtsp://viewer@10.0.0.1/x", "rtsp://viewer@10.0.0.1/x"),
        ("rtsp://10.0.0.1/x", "rtsp://10.0.0.1/x"),
        ("device:0", "device:0"),
        ("file:/a@b:c.mp4", "file:/a@b:c.mp4"),
    ],
)
def test_passwords_become_references(url: str, expected: str) -> None:
    assert without_password(url) == expected


def test_written_file_loads_and_says_the_same() -> None:
    proposed = [
        ProposedZone("cola-can", 5, 6, (10.04, 20.0, 300.0, 120.0)),
        ProposedZone("tea_box.v2", 3, 3, (310.0, 20.0, 600.0, 120.0)),
        ProposedZone("cola-can", 4, 4, (10.0, 200.0, 300.0, 300.0)),
    ]
    config = first_config("rtsp://viewer:s3cr3t@10.0.0.1/x", (1280, 720), proposed)
    text = to_text(config)
    assert load_store_config(text) == config
    assert [zone.id for zone in config.zones] == ["cola-can-1", "tea-box-v2-1", "cola-can-2"]
    assert [zone.capacity for zone in config.zones] == [6, 3, 4]
    assert "s3cr3t" not in text
    assert "environment variable CAMERA_PASSWORD" in text


def test_nothing_seen_is_still_a_valid_file() -> None:
    assert load_store_config(to_text(first_config("device:0", (640, 480), []))).zones == ()


def test_every_gtin_is_quoted() -> None:
    zones = [ProposedZone(f"sku-{n}", 1, 2, (0.0, 0.0, 9.0, 9.0)) for n in range(12)]
    lines = [
        line for line in to_text(first_config("device:0", (640, 480), zones)).splitlines() if "gtin:" in line
    ]
    assert len(lines) == 12
    assert all(re.fullmatch(r"\s*(- )?gtin: '\d{14}'", line) for line in lines)


def test_a_missing_file_is_called_missing() -> None:
    with pytest.raises(CameraError, match=r"the file 'nothing\.mp4' does not exist"):
        camera_url("nothing.mp4")


def test_a_file_that_may_not_be_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "shelf.mp4"
    video.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(CameraError, match=r"cannot read .*shelf.mp4': Permission denied"):
        camera_url(str(video))
