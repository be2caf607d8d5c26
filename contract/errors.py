"""Errors of the contract package.

ContractError
├── TopicError        a topic that is not one of ours
├── MessageError      a payload that is not a valid message
├── ConfigError       a store configuration that cannot be used; carries every problem found
└── SignatureError    a digest or signature that does not check out
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ContractError(Exception):
    """Base of everything this package raises."""


class TopicError(ContractError):
    """The topic does not belong to the Storefleet topic space."""


class MessageError(ContractError):
    """The payload is not a valid message; the text names the field and what was expected."""


class SignatureError(ContractError):
    """The bytes do not match the digest, or the signature does not match the key."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where (YAML path and 1-based line, 0 = unknown) and what."""

    path: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}" if self.line else ""
        prefix = ", ".join(part for part in (where, self.path) if part)
        return f"{prefix}: {self.message}" if prefix else self.message


class ConfigError(ContractError):
    """A store configuration was refused. ``problems`` lists all of them, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))
