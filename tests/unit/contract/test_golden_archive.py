"""Golden archives: what is packed is read again, and nothing hostile is."""

import io
import struct
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import golden
from contract.errors import MessageError
from contract.golden import (
    INDEX,
    Expected,
    GoldenArchive,
    GoldenClip,
    GoldenContent,
    GoldenFrame,
    check,
    pack,
    picture_size,
)

SIZE = (64, 48)


def png(width: int = SIZE[0], height: int = SIZE[1]) -> bytes:
    """A header that says so; nothing here decodes pictures."""
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + crc


def content(files: tuple[str, ...] = ("frames/0000.png",), **changes: Any) -> GoldenContent:
    expected = Expected(label="cola", xyxy=(1, 2, 30, 40))
    frames = [GoldenFrame(file=f, width=SIZE[0], height=SIZE[1], detections=(expected,)) for f in files]
    values: dict[str, Any] = {"classes": ("cola",), "clips": (GoldenClip(name="a", frames=tuple(frames)),)}
    return GoldenContent(**(values | changes))


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer


GOOD = pack(content(), {"frames/0000.png": png()})
INDEX_BYTES = content().to_bytes()


def test_what_is_packed_is_read_again() -> None:
    archive = GoldenArchive(io.BytesIO(GOOD))
    assert archive.content == content()
    assert archive.content.counts == {"cola": 1}
    (frame,) = archive.content.frames
    assert archive.picture(frame) == png()


def test_packing_gives_the_same_bytes_again() -> None:
    assert pack(content(), {"frames/0000.png": png()}) == GOOD


def _overlapping() -> io.BytesIO:
    """Both entries of the directory point at the same, large data."""
    name = b"frames/0000.png"
    raw = bytearray(zipped({INDEX: INDEX_BYTES, name.decode(): png() + b"x" * 5000}).getvalue())
    directory = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"PK\x01\x02"))
    struct.pack_into("<2L", raw, directory + 20, len(raw), len(raw))
    return io.BytesIO(bytes(raw))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (io.BytesIO(b""), "0 bytes"),
        (io.BytesIO(GOOD[:-1]), "not a plain zip"),
        (io.BytesIO(GOOD + b"x"), "not a plain zip"),
        (io.BytesIO(b"\x80\x04pickle" * 10), "not a plain zip"),
        (zipped({INDEX: INDEX_BYTES}), "in both"),
        (zipped({"frames/0000.png": png()}), "no golden.json"),
        (zipped({INDEX: INDEX_BYTES, "frames/0000.png": png(), "../../etc/cron.d/x": b""}), "in both"),
        (zipped({INDEX: INDEX_BYTES, "frames/0000.png": png()}, zipfile.ZIP_DEFLATED), "compressed"),
        (zipped({INDEX: b"{}", "frames/0000.png": png()}), "classes"),
        (zipped({INDEX: b"[" * 100_000, "frames/0000.png": png()}), "."),
        (zipped({INDEX: INDEX_BYTES, "frames/0000.png": png(60_000, 60_000)}), "not 64x48"),
        (zipped({INDEX: INDEX_BYTES, "frames/0000.png": b"GIF89a" + bytes(50)}), "neither JPEG nor PNG"),
        (zipped({str(n): b"" for n in range(golden.MAX_FRAMES + 2)}), "at most"),
        (_overlapping(), "golden set"),
    ],
    ids=[
        "empty", "cut", "appended", "pickle", "frame-missing", "index-missing", "zip-slip", "compressed",
        "empty-index", "deep-index", "picture-bomb", "other-format", "many-files", "overlapping",
    ],
)  # fmt: skip
def test_hostile_archive_is_refused(file: io.BytesIO, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        check(file)


def test_larger_file_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "MAX_GOLDEN_BYTES", len(GOOD) - 1)
    with pytest.raises(MessageError, match="at most"):
        check(io.BytesIO(GOOD))


@pytest.mark.parametrize(
    "raw",
    [
        {"classes": ["cola", "tea"]},
        {"classes": ["cola", "cola"]},
        {"classes": []},
        {"clips": []},
        {"version": 2},
    ],
    ids=["class-never-seen", "class-twice", "no-class", "no-clip", "other-version"],
)
def test_inconsistent_content_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"classes|clips|version"):
        GoldenContent.model_validate(content().model_dump() | raw)


@pytest.mark.parametrize("file", ["../0000.png", "frames/0000.gif", "/frames/0000.png", "frames/0000.png\n"])
def test_frame_has_a_plain_name(file: str) -> None:
    with pytest.raises(ValueError, match="file"):
        GoldenFrame(file=file, width=64, height=48)


@pytest.mark.parametrize("xyxy", [(5, 5, 5, 9), (9, 1, 3, 4), (float("nan"), 0, 1, 1)])
def test_box_has_an_area(xyxy: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"xyxy|box"):
        Expected(label="cola", xyxy=xyxy)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        check(io.BytesIO(data))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_gives_the_same_set_or_a_refusal(at: int, value: int) -> None:
    """Signature and digest are checked elsewhere; here nothing but a refusal may come of it."""
    damaged = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    try:
        found = check(io.BytesIO(damaged))
    except MessageError:
        return
    assert found == content()


@given(st.binary(max_size=300))
def test_any_picture_has_a_size_or_is_refused(data: bytes) -> None:
    for head in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10", b"\x89PNG\r\n\x1a\n"):
        try:
            width, height = picture_size(head + data)
        except MessageError:
            continue
        assert width >= 0
        assert height >= 0
