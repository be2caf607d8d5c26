"""A rollout as somebody wrote it, as a YAML file or as the API's JSON, checked as far as it can be alone.

    spec = load_rollout(Path("rollout.yaml").read_text(), now=datetime.now(UTC))

What depends on the fleet (unknown stores, strata that the first wave cannot have) is checked by
``domain.rollout.selection`` where the fleet is known.
"""

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from contract.errors import ConfigError, Problem
from contract.yaml_file import Loc, YamlFile, path_of
from controller.domain.rollout.problems import problems
from controller.domain.rollout.spec import RolloutSpec

MAX_ROLLOUT_BYTES = 1024 * 1024
"""A file that names 20,000 stores has half of it."""

_EXPECTED = "name, release and what shall differ from the defaults: select, waves, gates, limits, …"


def load_rollout(text: str | bytes, *, now: datetime | None = None) -> RolloutSpec:
    """Parse and check a rollout file. Raises ``ConfigError`` with every problem, its line and column.

    ``now``: a deadline that has passed is a problem; None: it is not looked at.
    """
    file = YamlFile(text, MAX_ROLLOUT_BYTES, _EXPECTED)
    spec, found = _check(file.raw, now)
    if spec is None:
        raise file.refusal(found)
    return spec


def read_rollout(data: Any, *, now: datetime | None = None) -> RolloutSpec:
    """The same of parsed JSON. Raises ``ConfigError``; problems have a path, and no line."""
    if not isinstance(data, dict):
        raise ConfigError([Problem("", f"expected an object with {_EXPECTED}")])
    spec, found = _check(data, now)
    if spec is None:
        raise ConfigError([Problem(path_of(loc), message) for loc, message in found])
    return spec


def _check(data: dict[Any, Any], now: datetime | None) -> tuple[RolloutSpec | None, list[tuple[Loc, str]]]:
    try:
        spec = RolloutSpec.model_validate(data)
    except ValidationError as error:
        return None, [(e["loc"], e["msg"]) for e in error.errors(include_url=False, include_input=False)]
    found = list(problems(spec, now))
    return (None if found else spec), found
