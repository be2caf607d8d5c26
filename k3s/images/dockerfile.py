"""Reads just enough of a Dockerfile to know its targets, and which files of the checkout each one needs.

So the list of inputs, by which finished images are found again, cannot differ from what is built.
"""

import re
import shlex
from dataclasses import dataclass, field

from k3s.testbed.errors import TestbedError

_FROM = re.compile(r"FROM\s+(\S+)(?:\s+AS\s+(\S+))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. ``sources`` are paths of the checkout; ``needs`` are names of other stages, or images."""

    name: str
    sources: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)


def read_stages(text: str) -> dict[str, Stage]:
    """Stages by name, in the order of the file; a stage without a name is called by its number."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in _instructions(text):
        if found := _FROM.fullmatch(line):
            stage = Stage(found[2] or str(len(stages)), needs=[found[1]])
            stages[stage.name] = stage
        elif line.upper().startswith(("COPY ", "ADD ")) and stage is not None:
            words = shlex.split(line)[1:]
            options = [word for word in words if word.startswith("--")]
            origin = [word.removeprefix("--from=") for word in options if word.startswith("--from=")]
            if origin:
                stage.needs.extend(origin)
            else:
                stage.sources.extend(word for word in words[:-1] if word not in options)
    return stages


def inputs_of(stages: dict[str, Stage], target: str) -> tuple[str, ...]:
    """Every path of the checkout that goes into ``target``, through whatever stages.

    Raises:
        TestbedError: there is no such target.
    """
    if target not in stages:
        raise TestbedError(f"the Dockerfile has no target '{target}'; it has {', '.join(stages)}")
    paths: set[str] = set()
    waiting, seen = [target], set[str]()
    while waiting:
        stage = stages.get(waiting.pop())
        if stage is not None and stage.name not in seen:
            seen.add(stage.name)
            paths.update(stage.sources)
            waiting.extend(stage.needs)
    return tuple(sorted(paths))


def _instructions(text: str) -> list[str]:
    """Lines with continuations joined, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.strip() for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()]
