"""Runs other programs to their end. A failure names the command and quotes what it complained about."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from k3s.testbed.errors import TestbedError

QUOTED_LINES = 8


def run(
    arguments: Sequence[str | Path],
    *,
    timeout_s: float = 60,
    log: Path | None = None,
    stdin: Path | None = None,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The standard output of a command that ended well. With ``log``, output goes to that file instead.

    Raises:
        TestbedError: it is missing, failed or took longer than ``timeout_s``.
    """
    words = [str(argument) for argument in arguments]
    try:
        with (stdin or Path(os.devnull)).open("rb") as given, (log or Path(os.devnull)).open("ab") as kept:
            done = subprocess.run(
                words,
                stdin=given,
                stdout=kept if log else subprocess.PIPE,
                stderr=subprocess.STDOUT if log else subprocess.PIPE,
                timeout=timeout_s,
                cwd=directory,
                env=None if environment is None else {**os.environ, **environment},
                check=False,
            )
    except FileNotFoundError as error:
        raise TestbedError(f"cannot run '{words[0]}': {error.strerror} ({error.filename})") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"'{' '.join(words)}' did not end within {timeout_s:.0f} s") from error
    if done.returncode:
        complaint = (
            log.read_text(errors="replace") if log else (done.stderr or done.stdout).decode(errors="replace")
        )
        last = "\n".join(complaint.strip().splitlines()[-QUOTED_LINES:])
        raise TestbedError(
            f"'{' '.join(words)}' failed ({done.returncode}): {last}" + (f"\nmore in {log}" if log else "")
        )
    return "" if log else done.stdout.decode(errors="replace")
