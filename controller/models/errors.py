"""Errors of model work, part of the tree in ``controller.errors``.

PermanentError
├── DatasetError          a dataset directory that cannot be used
├── CheckpointError       training weights that cannot be loaded or exported
├── MissingExtra          the command needs packages that are not installed
├── DamagedArtifact       what lies in the model store is not what was put there
├── NotFoundError
│   └── NotStored         the model store has no such artifact
└── InvalidError
    └── ArtifactError     a file that is not a usable model artifact
"""

from controller.errors import InvalidError, NotFoundError, PermanentError


class DatasetError(PermanentError):
    """The dataset directory lacks something or describes something impossible."""


class CheckpointError(PermanentError):
    """The training weights cannot be read, or turning them into an artifact failed."""


class DamagedArtifact(PermanentError):
    """A stored artifact no longer has its digest; it is not handed out."""


class NotStored(NotFoundError):
    """Nothing with this digest is in the model store."""


class ArtifactError(InvalidError):
    """The file is not an exported detector: wrong format, truncated, too large, or without metadata."""


class MissingExtra(PermanentError):
    """Packages of the ``models`` extra are not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"needs {package}: pip install 'storefleet[models]'")
