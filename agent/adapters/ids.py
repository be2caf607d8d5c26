"""Event ids: UUIDv7 (RFC 9562), so that ids sort by time of creation. Python 3.11 has none of its own."""

from uuid import UUID

import uuid_utils.compat


def new_event_id() -> UUID:
    """A new UUIDv7 from the wall clock and the operating system's randomness."""
    return uuid_utils.compat.uuid7()
