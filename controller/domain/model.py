"""A model artifact that the centre knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    digest: str
    """``sha256:…`` of the artifact's bytes."""
    name: str
    version: str
    format: str
    size_bytes: int
    manifest: Mapping[str, Any]
    """A ``contract.signing.Signed`` as JSON; its payload is a ``contract.workload.ModelManifest``."""
    created_at: datetime
    created_by: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
