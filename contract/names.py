"""Identifiers and vocabulary shared by every message (see ``docs/glossary.md``)."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""A DNS label (RFC 1123): safe as an MQTT topic level, a Kubernetes name and a path segment."""

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
Sku = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9_.]{0,63}$")]
Gtin = Annotated[str, StringConstraints(pattern=r"^\d{14}$")]
"""GTIN-14, left-padded with zeros (GS1 General Specifications, section 3.3.2)."""

_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether ``text`` may be used as a store, device, camera or zone name."""
    return _NAME.fullmatch(text) is not None


def gtin_check_digit(digits: str) -> int:
    """Check digit of the first 13 digits of a GTIN-14 (GS1 General Specifications, section 7.9)."""
    total = sum(int(d) * (3 if i % 2 == 0 else 1) for i, d in enumerate(digits[:13]))
    return -total % 10


class StockLevel(StrEnum):
    """What is known about one zone. ``UNKNOWN`` is never treated as empty."""

    UNKNOWN = "unknown"
    STOCKED = "stocked"
    LOW = "low"
    OUT_OF_STOCK = "out_of_stock"


class CameraStatus(StrEnum):
    """How a camera is doing. Only ``ONLINE`` is evidence about stock."""

    ONLINE = "online"
    STALLED = "stalled"
    """Connected, but frames are frozen, late, undecodable or have stopped."""
    DARK = "dark"
    BLOCKED = "blocked"
    """The lens is covered or shows nothing."""
    MOVED = "moved"
    """The view or its geometry no longer matches the reference that zones were drawn on."""
    OFFLINE = "offline"
    """Cannot be opened, or the connection is gone."""


class UnknownReason(StrEnum):
    """Why a zone's stock is unknown."""

    STARTING = "starting"
    CAMERA_UNHEALTHY = "camera_unhealthy"
    STALE_FRAME = "stale_frame"
    OCCLUDED = "occluded"
