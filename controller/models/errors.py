"""Errors of model work.

ModelsError
├── DatasetError       a dataset directory that cannot be used
├── CheckpointError    training weights that cannot be loaded or exported
├── ArtifactError      a file that is not a usable model artifact
├── NotStored          the store has no such artifact or manifest
└── MissingExtra       the command needs packages that are not installed
"""


class ModelsError(Exception):
    """Base of everything raised here. The text says what was wrong and what to do."""


class DatasetError(ModelsError):
    """The dataset directory lacks something or describes something impossible."""


class CheckpointError(ModelsError):
    """The training weights cannot be read, or turning them into an artifact failed."""


class ArtifactError(ModelsError):
    """The file is not an exported detector: wrong format, truncated, too large, or without metadata."""


class NotStored(ModelsError):
    """Nothing with this digest is in the model store."""


class MissingExtra(ModelsError):
    """Packages of the ``models`` extra are not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"needs {package}: pip install 'storefleet[models]'")
