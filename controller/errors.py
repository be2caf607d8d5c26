"""Errors of the controller.

ControllerError
├── TransientError        may work when tried again, after ``retry_after`` seconds
└── PermanentError        will not work until someone changes something; the text says what
    ├── NotFoundError     the named thing does not exist
    ├── ConflictError     the named thing exists already, or is in the wrong state for this
    ├── InvalidError      the input was refused; ``problems`` lists everything wrong with it
    └── ClientError       the controller's HTTP API refused a request of the command line
"""

from collections.abc import Sequence


class ControllerError(Exception):
    """Base of everything the controller raises. The text says what was wrong and what to do."""


class TransientError(ControllerError):
    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait before trying again."""


class PermanentError(ControllerError):
    """Trying again is of no use."""


class NotFoundError(PermanentError):
    """The named thing does not exist."""


class ConflictError(PermanentError):
    """The named thing exists already, or its state does not allow this."""


class InvalidError(PermanentError):
    """The input was refused."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        """Every problem found, each with its place."""


class ClientError(PermanentError):
    """The controller answered a request of the command line with a refusal."""

    def __init__(self, message: str, status: int = 0, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.problems = tuple(problems)
