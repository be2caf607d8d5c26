"""Models on the node's disk, by digest; the only way a model gets there and the only way to one.

Nothing is believed before it is checked: the manifest by its signature, the artifact by size and
digest, and again each time before it is loaded, because disks rot. A download goes to ``<hex>.part``,
resumes there after a cut, and becomes ``<hex>`` by an atomic rename only when it is right, so a power
cut leaves either the whole file or a part that is never loaded. Of older models only the last good one
is kept.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx

from agent.errors import ModelError, PermanentError, TransientError
from contract.errors import MessageError, SignatureError
from contract.signing import digest_file, load_public_keys, verify
from contract.workload import ModelManifest, decode_manifest, decode_signed

RESERVE_BYTES = 64 * 1024 * 1024
"""Space that a download leaves free for the outbox."""
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)

_log = logging.getLogger(__name__)


def read_manifest(manifest_file: Path, trusted_keys_file: Path) -> ModelManifest:
    """The manifest, if a trusted key signed it. Raises ``ModelError`` that names the file and its fault."""
    try:
        keys = load_public_keys(trusted_keys_file.read_bytes())
        signed = decode_signed(manifest_file.read_bytes())
        return decode_manifest(verify(signed, keys).encode())
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from error
    except SignatureError as error:
        raise ModelError(
            f"model manifest {manifest_file} refused: {error}; deploy a signed release"
        ) from error
    except MessageError as error:
        raise ModelError(f"model manifest {manifest_file} is not one: {error}") from error


class ModelCache:
    """``directory`` is the node's data directory; files lie in ``models/sha256/``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "models" / "sha256"
        self._last_good = directory / "models" / "last-good"

    def path(self, manifest: ModelManifest) -> Path:
        """Where the artifact lies once it is fetched."""
        return self._directory / manifest.digest.removeprefix("sha256:")

    def verified(self, manifest: ModelManifest) -> Path:
        """Path of the artifact after reading all of it again. Raises ``ModelError``."""
        path = self.path(manifest)
        try:
            _check(path, manifest)
        except FileNotFoundError as error:
            raise ModelError(
                f"model {manifest.name} {manifest.version} is not on this node; run 'agent fetch' first"
            ) from error
        except OSError as error:
            raise ModelError(f"cannot read model {path}: {error.strerror}") from error
        return path

    def fetch(self, manifest: ModelManifest, controller_url: str, token: str) -> Path:
        """Download what is missing. Raises ``TransientError`` when trying again may help (network, disk
        space), ``ModelError`` when the artifact is not what the manifest says, ``PermanentError`` when the
        centre refuses."""
        path = self.path(manifest)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with self._part(path) as part:
                if not self._present(manifest):
                    self._download(
                        part, manifest, f"{controller_url.rstrip('/')}/v1/artifacts/{manifest.digest}", token
                    )
                    self._adopt(part, manifest)
        except OSError as error:
            raise TransientError(
                f"cannot store model in {self._directory}: {error.strerror}", 10.0
            ) from error
        return path

    def mark_good(self, manifest: ModelManifest) -> None:
        """Remember that this model works here. Raises ``OSError``."""
        part = self._last_good.with_suffix(".part")
        part.write_text(manifest.digest)
        part.replace(self._last_good)

    def prune(self, wanted: ModelManifest) -> list[Path]:
        """Remove what is neither wanted nor the last good model; returns what went. For ``fetch`` only: a
        starting agent must not remove what the next release has just fetched. Raises ``TransientError``."""
        keep = {self.path(wanted).name}
        try:
            if self._last_good.exists():
                keep.add(self._last_good.read_text().strip().removeprefix("sha256:"))
            gone = [p for p in self._directory.glob("*") if p.name.removesuffix(".part") not in keep]
            for path in gone:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise TransientError(f"cannot tidy {self._directory}: {error.strerror}", 10.0) from error
        return gone

    def _present(self, manifest: ModelManifest) -> bool:
        try:
            _check(self.path(manifest), manifest)
        except FileNotFoundError:
            return False
        except ModelError as error:
            _log.warning("stored model is damaged and fetched again", extra={"detail": str(error)})
            self.path(manifest).unlink(missing_ok=True)
            return False
        return True

    @contextmanager
    def _part(self, path: Path) -> Iterator[BinaryIO]:
        """The part file, locked against another pod that fetches the same model."""
        part = path.with_name(path.name + ".part")
        while True:
            with part.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if part.exists() and os.fstat(file.fileno()).st_ino == part.stat().st_ino:
                    yield file
                    if path.exists():
                        part.unlink(missing_ok=True)
                    return

    def _download(self, part: BinaryIO, manifest: ModelManifest, url: str, token: str) -> None:
        have = part.seek(0, os.SEEK_END)
        if have > manifest.size_bytes:
            have = part.truncate(0)
        if have == manifest.size_bytes:
            return
        free = shutil.disk_usage(self._directory).free
        if free < manifest.size_bytes - have + RESERVE_BYTES:
            raise TransientError(
                f"model needs {manifest.size_bytes - have} bytes and a reserve of {RESERVE_BYTES}, "
                f"but only {free} are free under {self._directory}",
                30.0,
            )
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with (
                httpx.Client(timeout=_TIMEOUT) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                _refuse(response, url)
                if response.status_code != httpx.codes.PARTIAL_CONTENT:
                    have = part.truncate(0)
                elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                    raise TransientError(f"{url} answered with another range than asked for")
                for chunk in response.iter_raw():
                    have += part.write(chunk)
                    if have > manifest.size_bytes:
                        part.truncate(0)
                        raise ModelError(
                            f"{url} is larger than the {manifest.size_bytes} bytes of its manifest"
                        )
        except httpx.HTTPError as error:
            raise TransientError(f"download of {url} broke off at byte {have}: {error}", 2.0) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PermanentError(f"controller URL is unusable: {error}") from error
        if have < manifest.size_bytes:
            raise TransientError(f"{url} ended at byte {have} of {manifest.size_bytes}", 2.0)

    def _adopt(self, part: BinaryIO, manifest: ModelManifest) -> None:
        part.flush()
        os.fsync(part.fileno())
        path = Path(part.name)
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


def _check(path: Path, manifest: ModelManifest) -> None:
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


def _refuse(response: httpx.Response, url: str) -> None:
    status = response.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise PermanentError(
            f"the centre refused the download of {url} (HTTP {status}); check the artifact token"
        )
    if status == httpx.codes.NOT_FOUND:
        raise ModelError(f"the centre has no artifact {url} (HTTP 404); import the model there first")
    if status >= 500 or status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT):
        raise TransientError(f"{url}: HTTP {status}", 5.0)
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise ModelError(f"{url} is smaller than its manifest says (HTTP 416)")
    raise PermanentError(f"{url}: HTTP {status}")
