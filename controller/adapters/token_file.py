"""Bearer tokens in files that only their owner reads."""

import os
import secrets
from pathlib import Path

from controller.errors import PermanentError

TOKEN_BYTES = 32


def ensure_token(path: Path) -> str:
    """The token in ``path``; a new random one (mode 0600) is written where there is none.

    Raises ``PermanentError`` when the file cannot be used, or others can read it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _read(path)
        with os.fdopen(descriptor, "w") as file:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            file.write(token + "\n")
        return token
    except OSError as error:
        raise PermanentError(f"token file {path}: {error.strerror or error}") from error


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o007:
        raise PermanentError(f"token file {path} can be read by everyone; run: chmod 600 {path}")
    token = path.read_text(errors="replace").strip()
    if len(token) < 16:
        raise PermanentError(
            f"token file {path} holds no token of 16 characters or more; delete it for a new one"
        )
    return token
