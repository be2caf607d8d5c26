"""A golden set: clips with what has to be seen in them, replayed on a store's own hardware.

The artifact is a stored (uncompressed) zip of ``golden.json`` and ``frames/NNNN.jpg`` or ``.png``, named by
its digest like a model's, and it is believed for the centre's signature on its ``GoldenManifest``. It is
read where it lies: nothing is unpacked to disk, and no name in it is followed. Every size is checked
before memory is taken for it, the pictures' included, since a few bytes of PNG can stand for gigabytes.

Example::

    with path.open("rb") as file:
        archive = GoldenArchive(file)
        for frame in archive.content.frames:
            picture = archive.picture(frame)
"""

import io
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, BinaryIO, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from contract.base import Message, UtcTime, decode, decode_within
from contract.errors import MessageError
from contract.names import Digest, Sku

MAX_GOLDEN_BYTES = 64 * 1024**2
MAX_INDEX_BYTES = 4 * 1024**2
MAX_FRAMES = 300
MAX_FRAME_BYTES = 4 * 1024**2
MAX_DETECTIONS = 500
"""In one frame."""
MAX_CLASSES = 200
MAX_SIDE, MAX_PIXELS = 8192, 3840 * 2160

INDEX = "golden.json"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE, _LOCATOR_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_LOCATOR_BYTES = 20
_MAX_DIRECTORY_BYTES = (MAX_FRAMES + 1) * 512
_ENCRYPTED = 0x1

Coordinate = Annotated[float, Field(ge=-MAX_SIDE, le=2 * MAX_SIDE)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Expected(Message):
    """One object that a perfect detector would report."""

    label: Sku
    xyxy: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    """Left, top, right, bottom in pixels of the frame."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        left, top, right, bottom = self.xyxy
        if not (left < right and top < bottom):
            raise ValueError("a box is left, top, right, bottom, with left < right and top < bottom")
        return self


class GoldenFrame(Message):
    file: Annotated[str, StringConstraints(pattern=r"^frames/[0-9]{4}\.(jpg|png)$")]
    width: Annotated[int, Field(ge=16, le=MAX_SIDE)]
    height: Annotated[int, Field(ge=16, le=MAX_SIDE)]
    detections: Annotated[tuple[Expected, ...], Field(max_length=MAX_DETECTIONS)] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many of each class have to be counted."""
        return Counter(detection.label for detection in self.detections)


class GoldenClip(Message):
    """Frames of one camera, in order of time."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    frames: Annotated[tuple[GoldenFrame, ...], Field(min_length=1, max_length=MAX_FRAMES)]


class GoldenContent(Message):
    """What ``golden.json`` holds."""

    version: Literal[1] = 1
    classes: Annotated[tuple[Sku, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    """Those that are judged; each is in the set at least once."""
    clips: Annotated[tuple[GoldenClip, ...], Field(min_length=1, max_length=MAX_FRAMES)]

    @property
    def frames(self) -> Iterator[GoldenFrame]:
        for clip in self.clips:
            yield from clip.frames

    @property
    def counts(self) -> dict[str, int]:
        """Class → objects in all frames together."""
        total = sum((frame.counts for frame in self.frames), Counter[str]())
        return {name: total[name] for name in self.classes}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        files = [frame.file for frame in self.frames]
        if len(files) > MAX_FRAMES or len(set(files)) != len(files):
            raise ValueError(f"at most {MAX_FRAMES} frames, each a file of its own")
        seen = {detection.label for frame in self.frames for detection in frame.detections}
        if len(set(self.classes)) != len(self.classes) or seen != set(self.classes):
            raise ValueError("classes are those of the expected detections, each once")
        if any(frame.width * frame.height > MAX_PIXELS for frame in self.frames):
            raise ValueError(f"a frame has at most {MAX_PIXELS} pixels")
        return self


class GoldenManifest(Message):
    """What a golden set is. Signed by the centre; agents believe nothing else."""

    kind: Literal["golden"] = "golden"
    digest: Digest
    """Of the artifact's bytes."""
    size_bytes: Annotated[int, Field(gt=0, le=MAX_GOLDEN_BYTES)]
    name: Annotated[str, Field(max_length=128)]
    version: Annotated[str, Field(max_length=128)]
    frames: Annotated[int, Field(gt=0, le=MAX_FRAMES)]
    counts: Annotated[dict[Sku, Count], Field(min_length=1, max_length=MAX_CLASSES)]
    """Class → objects in all frames together."""


class GoldenClass(Message):
    """How one class was seen, over all frames."""

    expected: Count
    found: Count
    """Detections of the class, right or wrong."""
    recall: Share
    """Share of the expected ones that a detection of the class covers with IoU 0.5 or more."""
    count_error: NonNegative
    """Mean over frames of the absolute difference between counted and expected facings."""


class GoldenReport(Message):
    """One node's judgement of a model by a golden set. Retained; device → centre."""

    rollout_id: UUID | None = None
    at: UtcTime
    """When the pod of ``rollout_id`` had it."""
    replayed_at: UtcTime
    """When the set was replayed: earlier, when nothing that matters has changed since."""
    model: Digest
    golden: Digest
    runtime: Annotated[str, Field(max_length=64)]
    agent_version: Annotated[str, Field(max_length=64)]
    frames: Count
    inference_ms_p50: NonNegative
    inference_ms_p95: NonNegative
    classes: Annotated[dict[Sku, GoldenClass], Field(max_length=MAX_CLASSES)]
    passed: bool
    reason: Annotated[str, Field(max_length=1000)] = ""
    """Why it did not pass."""


MANIFEST_ADAPTER = TypeAdapter(GoldenManifest)
REPORT_ADAPTER = TypeAdapter(GoldenReport)
CONTENT_ADAPTER = TypeAdapter(GoldenContent)


def decode_golden_manifest(payload: bytes) -> GoldenManifest:
    return decode(MANIFEST_ADAPTER, payload)


def decode_golden_report(payload: bytes) -> GoldenReport:
    return decode(REPORT_ADAPTER, payload)


class GoldenArchive:
    """A golden set that is read from ``file``, which stays open as long as pictures are wanted.

    Raises ``MessageError`` for anything that is not exactly a golden set, saying what is wrong.
    """

    def __init__(self, file: BinaryIO) -> None:
        _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as error:
            raise MessageError(f"golden set: truncated, or not a zip: {error}") from error
        self._sizes = self._members(file)
        self.content = decode_within(CONTENT_ADAPTER, self._read(INDEX), MAX_INDEX_BYTES)
        wanted = {INDEX, *(frame.file for frame in self.content.frames)}
        if wanted != self._sizes.keys():
            other = sorted(wanted ^ self._sizes.keys())
            raise MessageError(f"golden set: {other[0]} is in the index or in the zip, but not in both")

    def picture(self, frame: GoldenFrame) -> bytes:
        """The frame as JPEG or PNG, whose header tells the size that the index says."""
        data = self._read(frame.file)
        size = picture_size(data)
        if size != (frame.width, frame.height):
            raise MessageError(f"golden set: {frame.file} is of {size}, not {frame.width}x{frame.height}")
        return data

    def _members(self, file: BinaryIO) -> dict[str, int]:
        total = file.seek(0, io.SEEK_END)
        sizes: dict[str, int] = {}
        for info in self._zip.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
                raise MessageError(f"golden set: {info.filename[:80]!r} is compressed or encrypted")
            limit = MAX_INDEX_BYTES if info.filename == INDEX else MAX_FRAME_BYTES
            if info.file_size != info.compress_size or info.file_size > limit:
                raise MessageError(f"golden set: {info.filename[:80]!r} has more than {limit} bytes")
            if info.filename in sizes:
                raise MessageError(f"golden set: {info.filename[:80]!r} is in it twice")
            sizes[info.filename] = info.file_size
        if INDEX not in sizes or sum(sizes.values()) > total:
            raise MessageError(f"golden set: there is no {INDEX}, or files lie over one another")
        return sizes

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, OSError, ValueError) as error:
            raise MessageError(f"golden set: {name} is damaged: {error}") from error
        except RuntimeError as error:  # zipfile's word for an encrypted local header
            raise MessageError(f"golden set: {name} is encrypted") from error


def pack(content: GoldenContent, pictures: Mapping[str, bytes]) -> bytes:
    """The artifact, the same byte for byte for the same input. ``pictures``: by the frames' ``file``.
    Raises ``MessageError`` when it would not be read again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((INDEX, content.to_bytes()), *sorted(pictures.items())):
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    check(buffer)
    return buffer.getvalue()


def check(file: BinaryIO) -> GoldenContent:
    """Read a whole golden set, every picture's header included. Raises ``MessageError``."""
    archive = GoldenArchive(file)
    for frame in archive.content.frames:
        archive.picture(frame)
    return archive.content


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header of a JPEG or PNG, nothing decoded. Raises ``MessageError``."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">2I", data, 16)
        return width, height
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    raise MessageError("golden set: a picture is neither JPEG nor PNG")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the start-of-frame segment (ITU-T T.81, B.2.2). Only one: a second one could say another size."""
    at, found = 2, None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xDA:  # the picture itself begins
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if found is not None:
                raise MessageError("golden set: a JPEG says its size twice")
            height, width = struct.unpack_from(">2H", data, at + 5)
            found = width, height
        at += 2 + max(2, length)
    if found is None:
        raise MessageError("golden set: a JPEG does not say its size")
    return found


def _check_directory(file: BinaryIO) -> None:
    """Whether the zip's directory is of a size that may be read. ``zipfile`` would read any."""
    total = file.seek(0, io.SEEK_END)
    if not _END.size <= total <= MAX_GOLDEN_BYTES:
        raise MessageError(f"golden set: {total} bytes; it has at most {MAX_GOLDEN_BYTES}")
    back = min(total, _END.size + _LOCATOR_BYTES)
    file.seek(-back, io.SEEK_END)
    tail = file.read(back)
    signature, _, _, _, entries, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if signature != _END_SIGNATURE or comment:
        raise MessageError("golden set: truncated, or not a plain zip")
    if tail[: -_END.size][:4] == _LOCATOR_SIGNATURE:
        raise MessageError("golden set: a zip in the 64-bit format is not one")
    if entries > MAX_FRAMES + 1 or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise MessageError(f"golden set: {entries} files; it has at most {MAX_FRAMES} frames")
    file.seek(0)


def frame_name(number: int, suffix: str) -> str:
    """The file of the frame of that number; ``suffix``: ``jpg`` or ``png``."""
    return f"frames/{number:04d}.{suffix}"


def classes_of(clips: Sequence[GoldenClip]) -> tuple[str, ...]:
    """The classes of everything that is expected in ``clips``, sorted."""
    return tuple(sorted({d.label for clip in clips for frame in clip.frames for d in frame.detections}))
