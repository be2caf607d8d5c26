"""Errors of the simulated stores.

SimulatorError
├── SceneError      asked of the scene what it does not have: an unknown camera, time running backwards
└── DatasetError    a dataset that cannot be written as asked
"""


class SimulatorError(Exception):
    """Base of everything this package raises. The text says what was wrong and what to do."""


class SceneError(SimulatorError):
    """The scene has no such camera, or its time was asked to run backwards."""


class DatasetError(SimulatorError):
    """The dataset cannot be written as asked."""
