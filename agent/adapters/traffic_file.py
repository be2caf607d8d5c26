"""How many artifact bytes the node fetched, and from where, across processes and power cuts.

``agent fetch`` ends before anybody could ask it, so what it fetched is noted on disk and told by the agent.
"""

import fcntl
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Traffic:
    centre_bytes: int = 0
    peer_bytes: int = 0


class TrafficFile:
    """``models/traffic.json`` in the node's data directory. A count that cannot be kept is logged, never an
    error: it must not keep a model from its node."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "models" / "traffic.json"

    def add(self, *, centre_bytes: int = 0, peer_bytes: int = 0) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                before = _parse(file.read())
                after = {
                    "centre_bytes": before.centre_bytes + centre_bytes,
                    "peer_bytes": before.peer_bytes + peer_bytes,
                }
                file.truncate(0)
                file.write(json.dumps(after).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _log.warning("fetched bytes not counted", extra={"detail": str(error)})

    def read(self) -> Traffic:
        try:
            with self._path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                return _parse(file.read())
        except OSError:
            return Traffic()  # Nothing was fetched yet.


def _parse(text: bytes) -> Traffic:
    """A file that a power cut left half written counts from nothing again."""
    try:
        found = json.loads(text)
        return Traffic(int(found["centre_bytes"]), int(found["peer_bytes"]))
    except (ValueError, TypeError, KeyError):
        return Traffic()
