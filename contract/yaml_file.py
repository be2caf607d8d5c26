"""YAML that people write: plain, no anchors, no repeated keys, every problem with its line and column."""

from collections.abc import Sequence
from typing import Any

import yaml

from contract.errors import ConfigError, Problem

Loc = tuple[int | str, ...]
"""The way to a value: keys of mappings and indices of lists."""


class YamlFile:
    """One document. ``raw`` is what it says; ``refusal`` knows where."""

    def __init__(self, text: str | bytes, max_bytes: int, expected: str) -> None:
        """``expected`` completes "expected a mapping with …". Raises ``ConfigError``."""
        if len(text) > max_bytes:
            raise ConfigError([Problem("", f"larger than {max_bytes} bytes")])
        try:
            loader = _PlainLoader(text)
            self._root = loader.get_single_node()
            raw = loader.construct_document(self._root) if self._root is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise ConfigError([Problem("", f"not valid YAML: {error.problem}", line, column)]) from error
        except (yaml.YAMLError, UnicodeError, RecursionError, ValueError) as error:
            raise ConfigError([Problem("", f"not valid YAML: {error}")]) from error
        if not isinstance(raw, dict):
            raise ConfigError([Problem("", f"expected a mapping with {expected}")])
        self.raw: dict[Any, Any] = raw

    def refusal(self, found: Sequence[tuple[Loc, str]]) -> ConfigError:
        """The error that names all of ``found`` with their places in the text."""
        return ConfigError(
            [Problem(path_of(loc), message, *_locate(self._root, loc)) for loc, message in found]
        )


def path_of(loc: Loc) -> str:
    """``zones[3].polygon``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without anchors, aliases and repeated keys.

    Aliases let a few bytes stand for gigabytes, and a repeated key would silently hide what the first
    one said.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            problem = "anchors and aliases are not allowed here; write the values out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} is given twice"
                    raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


def _locate(node: Any, loc: Loc) -> tuple[int, int]:
    """Line and column (1-based) of the deepest YAML node on the way to ``loc``; (0, 0) if unknown.

    A word that is no key is passed over: the name of a variant, which the checker puts into its paths.
    """
    for part in loc:
        child = None
        if isinstance(node, yaml.MappingNode):
            child = next((v for k, v in node.value if k.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = node.value[part]
        if child is not None:
            node = child
    if node is None:
        return 0, 0
    return node.start_mark.line + 1, node.start_mark.column + 1
