"""The model store: artifacts on disk, named by their digest.

``<root>/sha256/ab/<64 hex>``. A file appears under its name only when all of it is on the disk and its
digest is known, by an atomic rename, so that a power cut leaves either the whole artifact or none. What
is handed out has been read and checked since it last changed.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import BinaryIO, Self

from contract.signing import CHUNK, digest_file
from controller.errors import PermanentError, TransientError
from controller.models.artifact import MAX_ARTIFACT_BYTES
from controller.models.errors import ArtifactError, DamagedArtifact, NotStored


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    digest: str
    path: Path
    size_bytes: int


class ModelStore:
    """Thread-safe. ``root`` is created when missing, readable by its owner only. Raises
    ``PermanentError`` when it cannot be used."""

    def __init__(self, root: Path, max_bytes: int = MAX_ARTIFACT_BYTES) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._max_bytes = max_bytes
        self._checked: dict[str, tuple[int, int, int]] = {}
        self._lock = Lock()
        try:
            for directory in (root, self._incoming, root / "sha256"):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._incoming.iterdir():
                leftover.unlink()
        except OSError as error:
            raise PermanentError(f"cannot keep models in {root}: {error.strerror}") from error

    def receive(self) -> "Incoming":
        """A place to write an artifact to, before anything is known of it."""
        return Incoming(self._incoming, self._max_bytes)

    def adopt(self, incoming: "Incoming") -> StoredArtifact:
        """Keep what was received. Does nothing when the store has it already. Raises ``TransientError``."""
        digest = incoming.finish()
        target = self._place(digest)
        try:
            target.parent.mkdir(exist_ok=True, mode=0o700)
            incoming.path.replace(target)
            for directory in (target.parent, target.parent.parent):
                _sync_directory(directory)
        except OSError as error:
            raise TransientError(f"cannot keep the artifact in {self._root}: {error.strerror}", 10) from error
        return StoredArtifact(digest, target, target.stat().st_size)

    def find(self, digest: str) -> StoredArtifact:
        """The artifact, checked. Raises ``NotStored``, ``DamagedArtifact``, ``TransientError``."""
        path = self._place(digest)
        try:
            found = path.stat()
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if self._checked.get(digest) != mark:
                if digest_file(path) != digest:
                    raise DamagedArtifact(f"artifact {digest} is damaged on disk: import the model again")
                with self._lock:
                    self._checked[digest] = mark
        except FileNotFoundError as error:
            raise NotStored(f"the model store has no artifact {digest}") from error
        except OSError as error:
            raise TransientError(f"cannot read artifact {digest}: {error.strerror}", 10) from error
        return StoredArtifact(digest, path, found.st_size)

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The artifact's bytes from ``offset`` on. Raises as ``find``."""
        artifact = self.find(digest)
        with artifact.path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def digests(self) -> list[str]:
        """Digests of everything stored, sorted."""
        return sorted(f"sha256:{path.name}" for path in (self._root / "sha256").glob("??/*"))

    def _place(self, digest: str) -> Path:
        algorithm, _, digits = digest.partition(":")
        if algorithm != "sha256" or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise NotStored(f"{digest[:80]!r} is not a digest: expected sha256: and 64 hexadecimal digits")
        return self._root / "sha256" / digits[:2] / digits


class Incoming:
    """An artifact on its way in. Used as a context manager: what was not adopted is removed at its end."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        try:
            handle, name = tempfile.mkstemp(dir=directory)
        except OSError as error:
            raise TransientError(f"cannot write to {directory}: {error.strerror}", 10) from error
        self.path = Path(name)
        self.size = 0
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Raises ``ArtifactError`` when it grows too large, ``TransientError`` when the disk is full."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise ArtifactError(f"larger than {self._max_bytes} bytes, the most a model artifact may have")
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise TransientError(f"cannot store the artifact: {error.strerror}", 10) from error

    def finish(self) -> str:
        """Bring everything to the disk; returns the digest. Raises ``TransientError``."""
        try:
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
        except OSError as error:
            raise TransientError(f"cannot store the artifact: {error.strerror}", 10) from error
        return "sha256:" + self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk refuses the last bytes again; they are of no use any more
            self._file.close()
        self.path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
