"""Models on the node's disk, by digest; the only way a model gets there and the only way to one.

Nothing is believed before it is checked: the manifest by its signature, the artifact by size and
digest, and again each time before it is loaded, because disks rot. A download goes to ``<hex>.part``,
resumes there after a cut, and becomes ``<hex>`` by an atomic rename only when it is right, so a power
cut leaves either the whole file or a part that is never loaded. What a neighbour sends goes to
``<hex>.peer`` and is never mixed with what the centre sent, so that a lying neighbour cannot spoil a
download that the store's link has paid for.

The process that runs a model holds a shared lock on its file, and whoever writes a part an exclusive one on
that; so any process of the node can see what is in use, and the kernel frees what a killed one held.
"""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from agent.domain.eviction import CacheEntry, bytes_to_free, choose_evictions
from agent.errors import ModelError, TransientError
from agent.ports import Artifact, Offer, Part
from contract.errors import MessageError, SignatureError
from contract.golden import GoldenManifest, decode_golden_manifest
from contract.signing import Signed, digest_file, load_public_keys, verify
from contract.workload import ModelManifest, decode_manifest, decode_signed

RESERVE_BYTES = 64 * 1024 * 1024
"""Space that a download leaves free for the outbox."""
PART, PEER_PART = ".part", ".peer"

_log = logging.getLogger(__name__)


def read_manifest(manifest_file: Path, trusted_keys_file: Path) -> ModelManifest:
    """The manifest, if a trusted key signed it. Raises ``ModelError`` that names the file and its fault."""
    what = f"model manifest {manifest_file}"
    return believe(_read_signed(manifest_file, what), trusted_keys_file, what)


def read_golden_manifest(manifest_file: Path, trusted_keys_file: Path) -> GoldenManifest:
    """As ``read_manifest``, of a golden set."""
    what = f"golden set manifest {manifest_file}"
    text = believed_text(_read_signed(manifest_file, what), trusted_keys_file, what)
    try:
        return decode_golden_manifest(text)
    except MessageError as error:
        raise ModelError(f"{what} is not one: {error}") from error


def believe(signed: Signed, trusted_keys_file: Path, what: str) -> ModelManifest:
    """The manifest in ``signed``, if a trusted key signed it. Raises ``ModelError`` that begins with
    ``what``, or names the key file."""
    text = believed_text(signed, trusted_keys_file, what)
    try:
        return decode_manifest(text)
    except MessageError as error:
        raise ModelError(f"{what} is not one: {error}") from error


def believed_text(signed: Signed, trusted_keys_file: Path, what: str) -> bytes:
    """The text in ``signed``, if a trusted key signed it. Raises ``ModelError`` as ``believe``."""
    try:
        keys = load_public_keys(trusted_keys_file.read_bytes())
        return verify(signed, keys).encode()
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from error
    except SignatureError as error:
        raise ModelError(f"{what} refused: {error}; deploy a signed release") from error


def _read_signed(file: Path, what: str) -> Signed:
    try:
        return decode_signed(file.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from error
    except MessageError as error:
        raise ModelError(f"{what} is not one: {error}") from error


class ModelCache:
    """Implements ``agent.ports.ArtifactCache``. ``directory`` is the node's data directory; files lie in
    ``models/sha256/`` and take at most ``max_bytes`` (0: what the disk has)."""

    def __init__(self, directory: Path, *, max_bytes: int = 0) -> None:
        self._directory = directory / "models" / "sha256"
        self._last_good = directory / "models" / "last-good"
        self._max_bytes = max_bytes
        self._held: BinaryIO | None = None
        self._checked: dict[str, tuple[int, int, int]] = {}
        """Of the artifacts that were read and found right: inode, size and time of change."""

    def path(self, manifest: Artifact) -> Path:
        """Where the artifact lies once it is fetched."""
        return self._directory / _hex(manifest.digest)

    def verified(self, manifest: Artifact) -> Path:
        """Path of the artifact after reading all of it again. Raises ``ModelError``."""
        path = self.path(manifest)
        try:
            _check(path, manifest)
            os.utime(path)
        except FileNotFoundError as error:
            raise ModelError(
                f"model {manifest.name} {manifest.version} is not on this node; run 'agent fetch' first"
            ) from error
        except OSError as error:
            raise ModelError(f"cannot read model {path}: {error.strerror}") from error
        return path

    def hold(self, manifest: Artifact) -> Path:
        """As ``verified``, and nobody evicts it until ``close`` or the end of this process."""
        try:
            file = self.path(manifest).open("rb")
        except OSError:
            return self.verified(manifest)  # says what is wrong
        self.close()
        fcntl.flock(file, fcntl.LOCK_SH)
        self._held = file
        return self.verified(manifest)

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def holds(self, manifest: Artifact) -> bool:
        path = self.path(manifest)
        try:
            _check(path, manifest)
            os.utime(path)
        except FileNotFoundError:
            return False
        except ModelError as error:
            _log.warning("stored model is damaged and fetched again", extra={"detail": str(error)})
            with self._storing():
                path.unlink(missing_ok=True)
            return False
        except OSError as error:
            raise TransientError(f"cannot read model {path}: {error.strerror}", 10.0) from error
        return True

    def make_room(self, manifest: Artifact, keep: Collection[str], *, within_limit: bool) -> None:
        with self._storing():
            self._directory.mkdir(parents=True, exist_ok=True)
            entries = self._entries()
            have = next((e.size_bytes for e in entries if e.name == _hex(manifest.digest) + PART), 0)
            incoming = max(0, manifest.size_bytes - have)
            used = sum(entry.size_bytes for entry in entries)
            free = shutil.disk_usage(self._directory).free

            def wanted(max_bytes: int) -> int:
                return bytes_to_free(
                    used=used, incoming=incoming, max_bytes=max_bytes, disk_free=free, reserve=RESERVE_BYTES
                )

            names = self._needed([manifest.digest, *keep])
            short = choose_evictions(entries, names, wanted(self._max_bytes)).short_by
            disk_short = choose_evictions(entries, names, wanted(0)).short_by
            if disk_short:
                raise TransientError(
                    f"model needs {incoming} bytes and a reserve of {RESERVE_BYTES}, but only {free} are "
                    f"free under {self._directory} and no other model can be spared; free disk space there",
                    30.0,
                )
            if short and within_limit:
                raise TransientError(
                    f"model of {manifest.size_bytes} bytes does not fit into the cache of {self._max_bytes} "
                    f"bytes beside the models in use, {short} are missing; raise STOREFLEET_CACHE_MAX_BYTES",
                    60.0,
                )
            if short:
                _log.warning("model cache grows over its limit", extra={"bytes_over": short})
            self._evict(choose_evictions(entries, names, wanted(self._max_bytes) - short).evict)

    @contextmanager
    def receive(self, manifest: Artifact, *, resumable: bool) -> Iterator[Part | None]:
        path = self.path(manifest)
        part_path = path.with_name(path.name + (PART if resumable else PEER_PART))
        with self._part(part_path) as file:
            if self.holds(manifest):
                part_path.unlink(missing_ok=True)
                yield None
                return
            part = _PartFile(file, self._on_full_disk)
            if not resumable or part.size > manifest.size_bytes:
                part.restart()
            done = False
            try:
                yield part
                done = True
            finally:
                if not done and not resumable:
                    part_path.unlink(missing_ok=True)
            self._adopt(file, manifest)
            if not resumable:
                path.with_name(path.name + PART).unlink(missing_ok=True)

    def digests(self) -> list[str]:
        with self._storing():
            entries = [entry for entry in self._entries(locks=False) if "." not in entry.name]
        entries.sort(key=lambda entry: entry.used_at, reverse=True)
        return [f"sha256:{entry.name}" for entry in entries]

    def part_size(self, manifest: Artifact) -> int:
        """Bytes of an unfinished download."""
        sizes = [0]
        for suffix in (PART, PEER_PART):
            try:
                sizes.append(self.path(manifest).with_suffix(suffix).stat().st_size)
            except OSError:
                continue  # There is none, or it has just become the artifact.
        return max(sizes)

    def offer(self, digest: str) -> Offer:
        """What neighbours may have of this artifact. Raises ``OSError``."""
        path = self._directory / _hex(digest)
        try:
            found = path.stat()
        except FileNotFoundError:
            self._checked.pop(digest, None)
            return Offer(under_way=_locked(path.with_name(path.name + PART)))
        mark = (found.st_ino, found.st_size, found.st_ctime_ns)
        if self._checked.get(digest) != mark:
            if digest_file(path) != digest:
                _log.warning("stored model is damaged and not given to neighbours", extra={"digest": digest})
                return Offer()
            self._checked = {d: m for d, m in self._checked.items() if (self._directory / _hex(d)).exists()}
            self._checked[digest] = mark
        return Offer(path)

    def mark_good(self, manifest: Artifact) -> None:
        """Remember that this model works here. Raises ``OSError``."""
        part = self._last_good.with_suffix(PART)
        part.write_text(manifest.digest)
        part.replace(self._last_good)

    def _needed(self, digests: Collection[str]) -> set[str]:
        """File names of these digests, their parts, and the last good model."""
        names = {_hex(digest) for digest in digests}
        names |= {name + suffix for name in names for suffix in (PART, PEER_PART)}
        if self._last_good.exists():
            names.add(_hex(self._last_good.read_text().strip()))
        return names

    def _entries(self, *, locks: bool = True) -> list[CacheEntry]:
        entries = []
        for path in self._directory.glob("*"):
            try:
                found = path.stat()
                in_use = locks and _locked(path)
            except FileNotFoundError:
                continue  # Another process was faster.
            entries.append(CacheEntry(path.name, found.st_size, found.st_mtime, in_use))
        return entries

    def _evict(self, entries: Collection[CacheEntry]) -> None:
        for entry in entries:
            (self._directory / entry.name).unlink(missing_ok=True)
            _log.info("model evicted", extra={"file": entry.name, "bytes": entry.size_bytes})

    def _on_full_disk(self) -> int:
        """Remove all that can be spared; how many files that was."""
        entries = self._entries()
        names = self._needed([])
        spare = [entry for entry in entries if not entry.in_use and entry.name not in names]
        self._evict(spare)
        return len(spare)

    @contextmanager
    def _part(self, part: Path) -> Iterator[FileIO]:
        """The part file, locked against another pod that fetches the same model."""
        while True:
            with self._storing():
                self._directory.mkdir(parents=True, exist_ok=True)
                file = part.open("ab+", buffering=0)
            with file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if part.exists() and os.fstat(file.fileno()).st_ino == part.stat().st_ino:
                    yield file
                    return

    def _adopt(self, part: FileIO, manifest: Artifact) -> None:
        path = Path(str(part.name))
        with self._storing():
            os.fsync(part.fileno())
            try:
                _check(path, manifest)
            except ModelError:
                path.unlink()
                raise
            path.replace(self.path(manifest))
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(f"cannot use {self._directory}: {error.strerror}", 10.0) from error


class _PartFile:
    """Implements ``agent.ports.Part``. ``file`` is unbuffered, so that nothing is left for ``close`` to write
    after the disk refused."""

    def __init__(self, file: FileIO, spare: Callable[[], int]) -> None:
        self._file = file
        self._spare = spare
        self._size = file.seek(0, os.SEEK_END)

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                written = self._file.write(left)
                self._size += written
                left = left[written:]
        except OSError as error:
            raise self._refused(error) from error

    def restart(self) -> None:
        try:
            self._size = self._file.truncate(0)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> TransientError:
        where = Path(str(self._file.name)).parent
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return TransientError(f"cannot write model to {where}: {error.strerror}", 10.0)
        gone = self._spare()
        return TransientError(
            f"the disk under {where} is full; {gone} other models were removed; free disk space there", 10.0
        )


def _check(path: Path, manifest: Artifact) -> None:
    size = path.stat().st_size
    if size != manifest.size_bytes:
        raise ModelError(
            f"model {path.name}: truncated or damaged, {size} bytes instead of {manifest.size_bytes}; "
            "fetch it again"
        )
    digest = digest_file(path)
    if digest != manifest.digest:
        raise ModelError(
            f"model {path.name}: content has digest {digest}, not that of its manifest; fetch it again"
        )


def _locked(path: Path) -> bool:
    """Whether a process holds a lock on this file. Raises ``OSError`` other than that it does not exist."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
