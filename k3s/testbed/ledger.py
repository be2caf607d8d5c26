"""The testbed's memory between commands: its shape, and the processes that it started.

Written after every change, so that a command that was killed leaves a list of what has to be cleaned up.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from k3s.testbed.binaries import Kubernetes
from k3s.testbed.errors import TestbedError
from k3s.testbed.processes import Daemon, alive, identify


@dataclass
class Ledger:
    """``stores`` maps each store's name to its number of nodes; a store's index is its place in there.

    ``kubernetes`` is what they run; ``external`` maps stores that are somebody else's clusters to their
    kubeconfigs.

    Every process has a file of its own, named by its key (STORE/PROGRAM or NODE/PROGRAM), so that a
    test that kills things and a person who restarts them at the same time do not undo each other.
    """

    directory: Path
    block: IPv4Network | None = None
    kubernetes: Kubernetes | None = None
    stores: dict[str, int] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.directory / "testbed.json"

    @classmethod
    def load(cls, directory: Path) -> "Ledger":
        """An empty one if there is none.

        Raises:
            TestbedError: the file is damaged. ``down`` gets by without it.
        """
        ledger = cls(directory)
        if not ledger.path.exists():
            return ledger
        try:
            kept = json.loads(ledger.path.read_text())
            ledger.block = IPv4Network(kept["block"]) if kept["block"] else None
            ledger.kubernetes = Kubernetes.from_json(kept["kubernetes"]) if kept["kubernetes"] else None
            ledger.stores = dict(kept["stores"])
            ledger.external = dict(kept["external"])
        except (ValueError, KeyError, TypeError) as error:
            raise TestbedError(
                f"{ledger.path} is damaged ({error}): run 'storefleet testbed down'"
            ) from error
        return ledger

    def save(self) -> None:
        content = {
            "block": str(self.block) if self.block else "",
            "kubernetes": self.kubernetes.to_json() if self.kubernetes else None,
            "stores": self.stores,
            "external": self.external,
        }
        _write(self.path, content)

    def record(self, key: str, pid: int) -> None:
        path = self._daemon_path(key)
        path.parent.mkdir(exist_ok=True)
        _write(path, asdict(identify(pid)))

    def daemon(self, key: str) -> Daemon | None:
        """What was recorded last, whether or not it still runs."""
        try:
            return Daemon(**json.loads(self._daemon_path(key).read_text()))
        except FileNotFoundError:
            return None

    def running(self, key: str) -> Daemon | None:
        daemon = self.daemon(key)
        return daemon if alive(daemon) else None

    def runs(self, key: str) -> bool:
        return self.running(key) is not None

    def _daemon_path(self, key: str) -> Path:
        return self.directory / "processes" / f"{key.replace('/', '.')}.json"


def _write(path: Path, content: object) -> None:
    half = path.with_suffix(".half")
    half.write_text(json.dumps(content, indent=1) + "\n")
    half.replace(path)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Only one command at a time changes a testbed; a second one waits."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
