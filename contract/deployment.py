"""What a store shall run and what it says of it, for stores that the centre cannot reach: over MQTT.

The centre publishes a ``Signed`` retained on ``…/{store}/deployer/desired``; the store's deployer answers
with a retained ``ReportedState`` on ``…/{store}/deployer/reported``. The signed text is the base64 of the
zlib-compressed JSON of a ``DesiredState``: compressed, because a configuration of many zones is larger
than a message may be; signed outside of the compression, so that nothing is unpacked that the centre did
not write. Unpacking is bounded all the same.

Generations count what the centre published for one store and only ever rise: a deployer refuses an
older one, whoever sends it, so that an old signed state cannot be played back.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field, TypeAdapter, model_validator

from contract.base import Message, UtcTime, decode, decode_within
from contract.errors import MessageError
from contract.names import Digest, Name
from contract.signing import Signed, verify

MAX_DESIRED_BYTES = 384 * 1024
"""Largest message on the ``desired`` topic, for which the broker has to let 512 KB pass. A store
configuration of 1 MB, the most that Kubernetes keeps in a ConfigMap, takes about 250 KB of it."""

MAX_UNPACKED_BYTES = 4 * 1024 * 1024
"""A signed state that would unpack to more is refused before it has."""

MAX_GENERATION = 2**53 - 1
"""JSON numbers are exact up to here."""

Generation = Annotated[int, Field(ge=0, le=MAX_GENERATION)]
Words = Annotated[str, Field(max_length=2000)]
Sentences = Annotated[tuple[Words, ...], Field(max_length=100)]
Count = Annotated[int, Field(ge=0, le=100_000)]


class DesiredState(Message):
    """What one store shall run: the workload's Kubernetes objects, or nothing."""

    store: Name
    generation: Annotated[int, Field(ge=1, le=MAX_GENERATION)]
    """Rises with everything that the centre publishes for this store."""
    rollout_id: UUID | None = None
    """Absent when nothing shall run."""
    namespace: Name
    daemon_set: dict[str, Any] | None = None
    """``apps/v1`` DaemonSet as JSON; absent when nothing shall run."""
    config_map: dict[str, Any] | None = None
    """``v1`` ConfigMap that it mounts."""
    issued_at: UtcTime

    @model_validator(mode="after")
    def _all_or_nothing(self) -> "DesiredState":
        parts = (self.rollout_id, self.daemon_set, self.config_map)
        if len({part is None for part in parts}) != 1:
            raise ValueError("rollout_id, daemon_set and config_map belong together")
        return self


class ObservedWorkload(Message):
    """What the store's cluster says of its workload. Counts are camera nodes."""

    rollout_id: str | None = Field(default=None, max_length=64)
    """Absent: nothing runs."""
    generation: Generation = 0
    """The cluster's, of the DaemonSet."""
    observed_generation: Generation = 0
    desired: Count = 0
    ready: Count = 0
    updated: Count = 0
    images: Sentences = ()
    problems: Sentences = ()
    drift: Sentences = ()
    """What was changed in the store; the deployer takes it back by itself."""
    degraded: Sentences = ()


class Trouble(Message):
    """Why the deployer could not do or see what it should."""

    error: Words
    permanent: bool = False
    """Someone has to act; the words say who and how."""


class ReportedState(Message):
    """Retained; also the deployer's heartbeat. Deployer → centre."""

    store: Name
    at: UtcTime
    interval_s: Annotated[float, Field(gt=0, le=3600)]
    """Seconds until the next one at the latest."""
    deployer_version: Annotated[str, Field(max_length=64)] = ""
    generation: Generation = 0
    """Of the newest desired state that was accepted; 0: none yet."""
    digest: Digest | None = None
    """sha256 of the accepted state's signed text: which one it was."""
    refused_digest: Digest | None = None
    """Of the newest state that was refused, until another one comes."""
    refusal: Words = ""
    workload: ObservedWorkload = ObservedWorkload()
    trouble: Trouble | None = None
    status: Literal["running", "stopped"] = "running"
    """``stopped``: the deployer was told to end; agents go on by themselves."""


SIGNED_ADAPTER = TypeAdapter(Signed)
DESIRED_ADAPTER = TypeAdapter(DesiredState)
REPORTED_ADAPTER = TypeAdapter(ReportedState)


def pack(state: DesiredState) -> str:
    """The text to sign."""
    return base64.b64encode(zlib.compress(state.to_bytes(), 9)).decode()


def decode_envelope(payload: bytes) -> Signed:
    """A message of the ``desired`` topic, nothing checked or unpacked yet. Raises ``MessageError``."""
    return decode_within(SIGNED_ADAPTER, payload, MAX_DESIRED_BYTES)


def open_desired(signed: Signed, trusted: Iterable[Ed25519PublicKey]) -> DesiredState:
    """What one of the ``trusted`` keys signed. Raises ``SignatureError``, ``MessageError``."""
    return unpack(verify(signed, trusted))


def unpack(text: str) -> DesiredState:
    """Undo ``pack``. Raises ``MessageError``; never takes more than ``MAX_UNPACKED_BYTES``."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(base64.b64decode(text, validate=True), MAX_UNPACKED_BYTES)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise MessageError(f"not a packed desired state: {error}") from error
    if not unpacker.eof:
        raise MessageError(f"cut off, or unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return decode_within(DESIRED_ADAPTER, raw, MAX_UNPACKED_BYTES)


def decode_reported(payload: bytes) -> ReportedState:
    """Raises ``MessageError``."""
    return decode(REPORTED_ADAPTER, payload)
