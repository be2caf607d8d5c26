"""The base class of every message, and how bytes become one."""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from contract.errors import MessageError

MAX_MESSAGE_BYTES = 64 * 1024
"""A message larger than this is refused unread. The largest honest one is telemetry: about 0.4 KB a camera
and 25 bytes for each class that it tells of, so 10 KB with 16 cameras of 10 classes each."""


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:  # 0001-01-01T00:00:00+14:00 is before the first representable instant
        raise ValueError("out of range in UTC") from error


UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A time with a zone, kept in UTC."""


class Message(BaseModel):
    """Immutable, tolerant of fields it does not know (a newer peer may send them)."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, ser_json_bytes="base64")

    def to_bytes(self) -> bytes:
        """The message as UTF-8 JSON."""
        return self.model_dump_json(exclude_none=True).encode()


T = TypeVar("T")


def decode(adapter: TypeAdapter[T], payload: bytes) -> T:
    """Parse ``payload`` (UTF-8 JSON, at most ``MAX_MESSAGE_BYTES``). Raises ``MessageError``."""
    return decode_within(adapter, payload, MAX_MESSAGE_BYTES)


def decode_within(adapter: TypeAdapter[T], payload: bytes, limit: int) -> T:
    """``decode`` for the few messages that may be of another size."""
    if len(payload) > limit:
        raise MessageError(f"{len(payload)} bytes; a message has at most {limit}")
    try:
        return adapter.validate_json(payload)
    except ValidationError as error:
        raise MessageError(describe(error)) from error
    except RecursionError as error:
        raise MessageError("nested too deeply") from error


def describe(error: ValidationError) -> str:
    """The first few validation problems as one line that names the fields, without their values."""
    shown: list[dict[str, Any]] = [dict(e) for e in error.errors(include_url=False, include_input=False)]
    parts = [f"{'.'.join(str(p) for p in e['loc']) or 'message'}: {e['msg']}" for e in shown[:3]]
    more = f" (and {len(shown) - 3} more)" if len(shown) > 3 else ""
    return "; ".join(parts) + more
