"""Camera leases in a directory, for nodes that share one: the processes of a ``local`` cluster.

One small file a version: ``camera-aisle-1.7`` is the seventh version of that record. A new version is made
whole under another name and then hard-linked to its own, which fails if somebody else made that version.
There is no lock: a process that is paused while it holds one would keep all others from taking over.
"""

import json
import os
import tempfile
from pathlib import Path

from agent.domain.sharing import Kind, Ledger, Record
from agent.errors import PermanentError, TransientError


class FileLeases:
    """Implements ``agent.ports.CameraLeases`` in ``directory``, which is made if need be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Ledger:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            cameras, members = self._records("camera"), self._records("member")
        except FileNotFoundError as error:
            raise TransientError("the camera leases changed while they were read") from error
        except OSError as error:
            raise TransientError(
                f"cannot read camera leases in {self._directory}: {error.strerror}"
            ) from error
        return Ledger(members, cameras)

    def write(self, kind: Kind, record: Record) -> Record | None:
        version = int(record.version or "0") + 1
        path = self._path(kind, record.name, version)
        content = json.dumps({"holder": record.holder, "epoch": record.epoch}).encode()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".part-") as file:
                file.write(content)
                file.flush()
                if kind == "camera":  # A lost epoch would be given out again.
                    os.fsync(file.fileno())
                path.hardlink_to(file.name)
            # A version may have been cleared away because there are newer ones; then ours never counted. If
            # one was built upon ours just now it did, but calling that lost as well harms nobody.
            if self._newest(kind).get(record.name) != version:
                return None
            if kind == "camera":
                self._sync()
            for old in (version - 3, version - 2):  # The last one may be being read just now.
                self._path(kind, record.name, old).unlink(missing_ok=True)
        except FileExistsError:
            return None
        except OSError as error:
            raise TransientError(
                f"cannot write camera leases in {self._directory}: {error.strerror}"
            ) from error
        return Record(record.name, record.holder, record.epoch, str(version))

    def _records(self, kind: Kind) -> dict[str, Record]:
        return {name: self._load(kind, name, version) for name, version in self._newest(kind).items()}

    def _newest(self, kind: Kind) -> dict[str, int]:
        newest: dict[str, int] = {}
        for file in os.listdir(self._directory):  # noqa: PTH208 - names are all that is needed
            stem, _, version = file.rpartition(".")
            known, _, name = stem.partition("-")
            if known == kind and version.isdecimal():
                newest[name] = max(int(version), newest.get(name, 0))
        return newest

    def _load(self, kind: Kind, name: str, version: int) -> Record:
        path = self._path(kind, name, version)
        try:
            content = json.loads(path.read_bytes())
            return Record(name, str(content["holder"]), int(content["epoch"]), str(version))
        except (ValueError, KeyError, TypeError) as error:
            raise PermanentError(f"{path} is damaged: stop all agents of the store, remove it") from error

    def _path(self, kind: Kind, name: str, version: int) -> Path:
        return self._directory / f"{kind}-{name}.{version}"

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
