"""The health file that the probes read: replaced as a whole, so that no reader sees half of it."""

import os
from pathlib import Path

from agent.errors import TransientError
from contract.errors import MessageError
from contract.workload import AgentHealth, decode_health


def write_health(path: Path, health: AgentHealth) -> None:
    """Raises ``TransientError`` when the file cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(health.to_bytes())
        part.replace(path)
    except OSError as error:
        raise TransientError(f"cannot write the health file {path}: {error.strerror}") from error


def read_health(path: Path) -> AgentHealth | None:
    """None when no agent has written it yet. Raises ``TransientError`` for a file that is none of ours."""
    try:
        return decode_health(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TransientError(f"cannot read the health file {path}: {error.strerror}") from error
    except MessageError as error:
        raise TransientError(f"{path} is not a health file: {error}") from error
