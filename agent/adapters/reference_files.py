"""Reference views on disk: one small picture per camera, ``views/<camera>.pgm`` in the data directory.

PGM (Netpbm's grey format) because any viewer shows it, so that an operator can see what a camera is compared
with, and because its comments carry the rest: one file is replaced as a whole and cannot contradict itself::

    P5
    # sha256:…            of everything below this line
    # {"version": 1, "camera": "aisle-1", "drawing": …, "adopted_at": …}
    320 180
    255
    <320 x 180 bytes>

A file that does not read back exactly is as good as none, and says so in the log.
"""

import logging
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from agent.domain.reference_view import Drawing
from agent.errors import TransientError
from agent.ports import ReferenceView
from contract.base import Message
from contract.names import Name
from contract.signing import digest_bytes

VERSION = 1
"""Another version is not read: raise it when the file changes its meaning."""
MAX_BYTES = 4 * 1024 * 1024
"""Far above any thumbnail with the outlines of all its zones."""

_log = logging.getLogger(__name__)


class _Header(Message):
    version: int
    camera: Name
    frame_size: tuple[int, int]
    outlines: dict[Name, int]
    adopted_at: float


class ReferenceFiles:
    """Implements ``agent.ports.ReferenceViews`` in ``directory / "views"``. Only the holder of the node's
    lock writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "views"

    def load(self, camera: str) -> ReferenceView | None:
        path = self._path(camera)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            return _decode(content, camera)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning(
                "kept reference view ignored; a new one will be taken",
                extra={"camera": camera, "detail": f"{path}: {error}"},
            )
            return None

    def save(self, camera: str, view: ReferenceView) -> None:
        path = self._path(camera)
        part = path.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    file.write(_encode(camera, view))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            except OSError:
                with suppress(OSError):  # What could not be written is in the way of others.
                    part.unlink(missing_ok=True)
                raise
            self._sync()
        except OSError as error:
            raise TransientError(
                f"cannot write {path}: {error.strerror}; free space on that disk", 1.0
            ) from error

    def keep_only(self, cameras: Collection[str]) -> None:
        try:
            for path in self._directory.glob("*"):
                if path.suffix == ".part" or (path.suffix == ".pgm" and path.stem not in cameras):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise TransientError(f"cannot clear {self._directory}: {error.strerror}", 60.0) from error

    def _path(self, camera: str) -> Path:
        return self._directory / f"{camera}.pgm"

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _encode(camera: str, view: ReferenceView) -> bytes:
    header = _Header(
        version=VERSION,
        camera=camera,
        frame_size=view.drawing.frame_size,
        outlines=dict(view.drawing.outlines),
        adopted_at=view.adopted_at,
    )
    height, width = view.thumbnail.shape
    body = b"# %s\n%d %d\n255\n%s" % (header.to_bytes(), width, height, view.thumbnail.tobytes())
    return b"P5\n# %s\n%s" % (digest_bytes(body).encode(), body)


def _decode(content: bytes, camera: str) -> ReferenceView:
    """Raises ``ValueError`` that says what is wrong with ``content``."""
    magic, digest, body = _lines(content, 2)
    if magic != b"P5" or not digest.startswith(b"# sha256:"):
        raise ValueError("not a reference view")
    if digest.removeprefix(b"# ").decode("ascii", "replace") != digest_bytes(body):
        raise ValueError("damaged, its digest does not match")
    comment, size, _, pixels = _lines(body, 3)
    header = _Header.model_validate_json(comment.removeprefix(b"# "))
    if header.version != VERSION:
        raise ValueError(f"written by another release (layout {header.version})")
    if header.camera != camera:
        raise ValueError(f"belongs to camera {header.camera}")
    width, height = (int(number) for number in size.split())
    thumbnail = np.frombuffer(pixels, np.uint8).reshape(height, width)
    return ReferenceView(thumbnail, Drawing(header.frame_size, header.outlines), header.adopted_at)


def _lines(content: bytes, count: int) -> list[bytes]:
    """The first ``count`` lines, and what follows them."""
    parts = content.split(b"\n", count)
    if len(parts) != count + 1:
        raise ValueError("truncated")
    return parts
