"""Errors of the agent.

AgentError
├── TransientError    may work when tried again, after ``retry_after`` seconds
│   └── SourceBusy    a neighbour that fetches the model itself just now, or serves others
└── PermanentError    will not work until someone changes something; the text says what
    ├── ModelError    a model file that cannot be used
    └── CameraError   a camera that cannot be used as configured
"""


class AgentError(Exception):
    """Base of everything the agent raises. The text says what was wrong and what to do."""


class TransientError(AgentError):
    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait before trying again."""


class SourceBusy(TransientError):
    """Soon this source will have the artifact, or time for us."""


class PermanentError(AgentError):
    """Trying again is of no use."""


class ModelError(PermanentError):
    """The model is missing, truncated, of a wrong digest or signature, or of a wrong task or classes."""


class CameraError(PermanentError):
    """The camera cannot be used as configured."""
