"""Where the files of local stores are, and how they are written so that a crash leaves none half done."""

import fcntl
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class StoreDir:
    root: Path

    @property
    def desired(self) -> Path:
        return self.root / "desired.json"

    def node(self, name: str) -> "NodeDir":
        return NodeDir(self.root / "nodes" / name)

    def nodes(self) -> list["NodeDir"]:
        return [NodeDir(path) for path in sorted((self.root / "nodes").glob("*")) if path.is_dir()]


@dataclass(frozen=True, slots=True)
class NodeDir:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def store(self) -> StoreDir:
        return StoreDir(self.root.parent.parent)

    @property
    def observed(self) -> Path:
        return self.root / "observed.json"

    @property
    def lock(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def log(self) -> Path:
        return self.root / "supervisor.log"

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def host(self, path: str) -> Path:
        """The directory that stands for ``path`` of the node."""
        return self.root / "host" / path.strip("/")


def make_private(directory: Path) -> Path:
    """Create a directory that only this user may enter. Raises ``OSError``."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file at once, readable by this user only. ``durable``: it outlives a power cut.
    Raises ``OSError``."""
    make_private(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    write_private(path, json.dumps(data, indent=1, sort_keys=True).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file. Raises ``ValueError`` for anything
    that is not a JSON object, and ``OSError``."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold a JSON object; delete it")
    return found


def acquire(lock: Path) -> int | None:
    """Take a node's lock until the descriptor is closed; None when a supervisor holds it."""
    make_private(lock.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def holder(lock: Path) -> int | None:
    """Process id of the supervisor that holds the lock; None when nobody does."""
    if not lock.exists():
        return None
    descriptor = acquire(lock)
    if descriptor is not None:
        os.close(descriptor)
        return None
    text = lock.read_text().strip()
    return int(text) if text.isdigit() else None
