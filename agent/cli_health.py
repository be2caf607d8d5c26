"""``agent health`` for the cases that matter hundreds of times an hour, without the imports of the others.

A kubelet runs the command every few seconds on a small machine that has better things to do, so this
needs little beyond JSON and the clock. It answers only what is beyond doubt: a call as probes make it, and
a file that is missing or just as our agent writes it. The full command judges everything else.
"""

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, get_args

from agent.domain.probe import Question, judge
from contract.pod import Env, Phase

PLAIN_BYTES = 4096

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COUNTS = ("pid", "cameras", "cameras_fresh", "cameras_unreachable")
_WORDS = {"model_digest": _DIGEST, "rollout_id": _UUID, "at": _TIME, "last_inference_at": _TIME}
_KNOWN = {*_COUNTS, *_WORDS, "phase", "error"}


class PlainHealth(NamedTuple):
    """Implements ``agent.domain.probe.Health``."""

    at: datetime
    phase: Phase
    error: str


def answer_plain(words: Sequence[str]) -> int | None:
    """The exit status of ``agent health WORDS``, its answer printed; None when the full command has to."""
    asked = _asked(words)
    if asked is None:
        return None
    question, path = asked
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            health = read_plain(file.read(PLAIN_BYTES + 1))
    except FileNotFoundError:
        answer = judge(None, question, time.time())
    except (OSError, ValueError):
        return None
    else:
        if health is None:
            return None
        answer = judge(health, question, time.time())
    sys.stdout.write(answer.reason + "\n")
    return 0 if answer.ok else 1


def read_plain(content: bytes) -> PlainHealth | None:
    """What counts of a health file; None unless it is beyond doubt that ``decode_health`` accepts it."""
    if len(content) > PLAIN_BYTES:
        return None
    try:
        found = json.loads(content.decode())
        if not isinstance(found, dict) or not _is_plain(found):
            return None
        if "last_inference_at" in found:
            datetime.fromisoformat(found["last_inference_at"])
        return PlainHealth(datetime.fromisoformat(found["at"]), found["phase"], found.get("error", ""))
    except (ValueError, RecursionError):
        return None


def _asked(words: Sequence[str]) -> tuple[Question, str] | None:
    """The question and the file, of a call as probes make it."""
    rest = list(words)
    path = os.environ.get(Env.HEALTH_FILE, "")
    if "--file" in rest[:-1]:
        place = rest.index("--file")
        path = rest[place + 1]
        del rest[place : place + 2]
    if not path or rest not in ([], ["--live"], ["--ready"]):
        return None
    return ("ready" if rest == ["--ready"] else "live"), path


def _is_plain(found: dict[str, Any]) -> bool:
    error = found.get("error", "")
    return (
        found.keys() <= _KNOWN
        and {"pid", "at"} <= found.keys()
        and all(type(found.get(key, 0)) is int for key in _COUNTS)
        and all(isinstance(found.get(key, ""), str) for key in _WORDS)
        and all(form.fullmatch(found[key]) for key, form in _WORDS.items() if key in found)
        and found.get("phase") in get_args(Phase)
        and isinstance(error, str)
        and error.isprintable()
    )
