"""Registers the marker of tests that start real clusters: ``-m "not kubernetes"`` leaves them out."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kubernetes: starts real Kubernetes clusters; needs root")
