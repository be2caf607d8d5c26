"""What someone changed in a live object, compared with what was applied last.

Only fields that were applied count: a server fills in defaults, and others may add labels. Lists of
named things (containers, volumes, environment variables) are compared by name, as the server merges them;
other lists of objects (the sources of a projected volume) place by place.
"""

from collections.abc import Iterator
from typing import Any

from controller.domain.workload import Manifest, last_applied

_KEYS = ("name", "mountPath", "key", "containerPort")


def drift_of(live: Manifest) -> tuple[str, ...]:
    """What differs in a live DaemonSet from the copy of itself that it was applied with."""
    applied = last_applied(live)
    if applied is None:
        return ("the record of what was applied was removed",)
    return differences(applied, live)


def differences(applied: Any, live: Any) -> tuple[str, ...]:
    """Paths whose live value differs, as sentences, in the order of ``applied``."""
    return tuple(_differences("", applied, live))


def _differences(path: str, applied: Any, live: Any) -> Iterator[str]:
    if isinstance(applied, dict) and isinstance(live, dict):
        for key, value in applied.items():
            where = f"{path}.{key}" if path else str(key)
            if key in live:
                yield from _differences(where, value, live[key])
            elif not _is_empty(value):
                yield f"{where} was removed"
    elif isinstance(applied, list) and isinstance(live, list):
        yield from _list_differences(path, applied, live)
    elif applied != live and not (_is_empty(applied) and _is_empty(live)):
        yield f"{path} is {_short(live)} instead of {_short(applied)}"


def _list_differences(path: str, applied: list[Any], live: list[Any]) -> Iterator[str]:
    key = _merge_key(applied)
    if key is None:
        if len(applied) == len(live) and all(isinstance(item, dict) for item in (*applied, *live)):
            for index, (item, found) in enumerate(zip(applied, live, strict=True)):
                yield from _differences(f"{path}[{index}]", item, found)
        elif applied != live:
            yield f"{path} is {_short(live)} instead of {_short(applied)}"
        return
    found = {item.get(key): item for item in live if isinstance(item, dict)}
    for item in applied:
        where = f"{path}[{item[key]}]"
        if item[key] in found:
            yield from _differences(where, item, found[item[key]])
        else:
            yield f"{where} was removed"


def _merge_key(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _KEYS if all(key in item for item in items)), None)


def _is_empty(value: Any) -> bool:
    """The server leaves out empty values, so absent and empty mean the same. An explicit False or 0 is
    kept by the server: losing ``allowPrivilegeEscalation: false`` is a change."""
    return value is None or value in ("", {}, [])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
