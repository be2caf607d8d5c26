"""What a deployer keeps on the store's disk: the newest state it took in, and its generation.

The generation has a file of its own, because it counts even when the state can no longer be used (its
key was withdrawn, the file is damaged). The state is written first: it holds its generation too.
"""

import logging
import os
from pathlib import Path

from controller.deployer import Kept
from controller.errors import PermanentError, TransientError

log = logging.getLogger(__name__)


class DeployerShelf:
    """Implements ``controller.deployer.Shelf`` in one directory, made with mode 0700."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state = directory / "desired.json"
        self._generation = directory / "generation"

    def load(self) -> Kept:
        """Raises ``PermanentError`` when the directory cannot be used."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            message = self._state.read_bytes() if self._state.exists() else None
            text = self._generation.read_text(errors="replace").strip() if self._generation.exists() else "0"
        except OSError as error:
            raise PermanentError(f"{self._directory} cannot be used: {error}") from error
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            log.error("%s is damaged; only the state beside it says what came last", self._generation)
            text = "0"
        return Kept(int(text), message)

    def save(self, kept: Kept) -> None:
        try:
            if kept.message is not None:
                self._write(self._state, kept.message)
            self._write(self._generation, str(kept.generation).encode())
        except OSError as error:
            raise TransientError(f"{self._directory} cannot be written: {error}", retry_after=5.0) from error

    def _write(self, path: Path, content: bytes) -> None:
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
