"""Results of golden sets on the node's disk, so that a restart does not replay, and none gets lost.

One file for each model, golden set, runtime and agent version: whatever could change the result. A file
that cannot be read, after a power cut say, is as good as none.
"""

import hashlib
import logging
import os
from pathlib import Path

from contract.errors import MessageError
from contract.golden import GoldenReport, decode_golden_report

KEPT = 16
"""Results kept, those used last."""

_log = logging.getLogger(__name__)


class GoldenFiles:
    """``directory`` is the node's data directory; files lie in ``golden/`` under it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "golden"

    def load(self, key: tuple[str, ...]) -> GoldenReport | None:
        """What was saved under ``key``; None when there is nothing that can be read."""
        path = self._path(key)
        try:
            report = decode_golden_report(path.read_bytes())
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, MessageError) as error:
            _log.warning("kept golden result not used", extra={"detail": str(error)})
            return None
        return report

    def save(self, key: tuple[str, ...], report: GoldenReport) -> None:
        """Durably and as a whole. Raises ``OSError``."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(report.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        files = sorted(self._directory.glob("*.json"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in files[KEPT:]:
            old.unlink(missing_ok=True)

    def _path(self, key: tuple[str, ...]) -> Path:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
        return self._directory / f"{name}.json"
