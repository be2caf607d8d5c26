"""Notices a new store configuration, and keeps the last good one when the new one is broken.

The file is read once a second and compared by content. That is cheap (a few kilobytes) and sees every
way a file changes: edited in place, replaced, or swapped behind a symlink as Kubernetes does with
ConfigMaps; time stamps miss some of them.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from contract.errors import ConfigError, Problem
from contract.store_config import MAX_CONFIG_BYTES, StoreConfig, load_store_config

Check = Callable[[StoreConfig], Iterable[Problem]]
"""What else is wrong with a configuration that is valid in itself, such as SKUs the model does not know."""

_log = logging.getLogger(__name__)


def read_config_file(path: Path) -> bytes:
    """The file's content, or as much of it as shows that it is too large. Raises ``OSError``."""
    with path.open("rb") as file:
        return file.read(MAX_CONFIG_BYTES + 1)


class ConfigWatch:
    """``config`` is the last good configuration (None before the first), ``error`` says why a newer one
    was refused. Belongs to one thread; both attributes may be read by others."""

    def __init__(self, path: Path, *, check: Check = lambda config: ()) -> None:
        self.config: StoreConfig | None = None
        self.error = ""
        self._path = path
        self._check = check
        self._seen = b""

    def recheck(self, check: Check) -> None:
        """Judge by ``check`` from now on, the present file included."""
        self._check = check
        self._seen = b""

    def poll(self) -> bool:
        """Look at the file; whether there is another good configuration than before."""
        try:
            content = read_config_file(self._path)
        except OSError as error:
            self._refuse(f"cannot read {self._path}: {error.strerror}")
            self._seen = b""
            return False
        digest = hashlib.sha256(content).digest()
        if digest == self._seen:
            return False
        self._seen = digest
        try:
            config = load_store_config(content)
            if problems := list(self._check(config)):
                raise ConfigError(problems)
        except ConfigError as error:
            self._refuse(str(error))
            return False
        self.error = ""
        if self.config is not None and config.digest == self.config.digest:
            return False
        self.config = config
        _log.info("store configuration loaded", extra={"digest": config.digest})
        return True

    def _refuse(self, error: str) -> None:
        if error != self.error:
            kept = "the last good one stays in force" if self.config else "there is no earlier one"
            _log.error("store configuration refused", extra={"detail": error, "kept": kept})
        self.error = error
