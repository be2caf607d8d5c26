"""What the agent's services need from the outside world. Adapters implement these Protocols.

Times are seconds since the Unix epoch (``float``) as given by the agent's clock.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from agent.domain.detection import Detection, FrameStats
from agent.domain.reference_view import Drawing
from agent.domain.sharing import Kind, Ledger, Record
from contract.events import Event, EventBase
from contract.messages import DeliveryTelemetry, EventAck
from contract.shadow import ShadowTelemetry

Image = npt.NDArray[np.uint8]
"""Height x width x 3, BGR, 8 bits."""
Thumbnail = npt.NDArray[np.uint8]
"""Height x width, grey, 8 bits: a whole frame scaled down."""


@dataclass(frozen=True, slots=True)
class Frame:
    image: Image
    captured_at: float
    """When the frame was read from the camera."""
    number: int
    """Counts the frames of one source, from 1, across reconnects."""


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How reading goes, whatever the pictures show."""

    connected: bool
    fps_read: float
    """Frames read per second over the last few seconds."""
    last_frame_at: float | None
    decode_errors: int
    """Decoder complaints during the last 2 s."""
    error: str = ""
    """Why it is not connected, in words for an operator, without credentials."""


class FrameSource(Protocol):
    """One camera. Never blocks: reading happens elsewhere."""

    def latest(self, after: int) -> Frame | None:
        """The newest frame if its number is above ``after``, else None."""

    def health(self) -> SourceHealth: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Read from the model's own metadata."""

    names: tuple[str, ...]
    """Class names by class id."""
    image_size: tuple[int, int]
    """Height and width of the network's input in pixels."""
    task: str
    runtime: str
    """``openvino``, ``onnxruntime`` or ``ultralytics``."""
    digest: str
    """``sha256:…`` of the artifact."""
    version: str


class Detector(Protocol):
    @property
    def info(self) -> ModelInfo: ...

    def detect(self, image: Image) -> list[Detection]:
        """Objects in one frame, boxes in pixels of ``image``. Raises ``ModelError``."""


class Inspector(Protocol):
    """Measures ``FrameStats``. Keeps the reference view and the previous frame of one camera."""

    def inspect(self, image: Image) -> FrameStats: ...

    def adopt_reference(self, image: Image) -> Thumbnail:
        """Take ``image`` as the view that zones were drawn on; returns what ``restore_reference`` takes."""

    def restore_reference(self, thumbnail: Thumbnail) -> bool:
        """Take up again what an earlier inspector adopted; False, and nothing done, when it was one of
        another make, whose thumbnails do not compare."""


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceView:
    """What a camera showed when its zones were drawn."""

    thumbnail: Thumbnail
    drawing: Drawing
    """The zones that it stands for."""
    adopted_at: float


class ReferenceViews(Protocol):
    """Reference views on disk, one per camera."""

    def load(self, camera: str) -> ReferenceView | None:
        """None when there is none that can be used; why not is logged."""

    def save(self, camera: str, view: ReferenceView) -> None:
        """Replace the camera's view, durably and as a whole. Raises ``TransientError`` when the disk
        refuses; then the former one is still there."""

    def keep_only(self, cameras: Collection[str]) -> None:
        """Forget the views of all other cameras. Raises ``TransientError``."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before the outbox gives it its sequence number."""

    id: UUID
    kind: type[EventBase]
    camera: str
    zone: str | None
    at: float
    """Capture time of the frame that proved it."""
    data: Any
    """An instance of the data model of ``kind``."""
    epoch: int | None = None
    """Of the camera, where nodes share cameras."""


class Outbox(Protocol):
    """Events on disk until the centre has committed them, and the state they came from."""

    def append(self, drafts: Sequence[EventDraft], state: bytes) -> list[Event]:
        """Store events and ``state`` in one transaction. Raises ``TransientError`` when the disk is
        full; then nothing was stored."""

    def pending(self, after: int, limit: int) -> Sequence[EventBase]:
        """Uncommitted events with ``sequence > after`` in order, at most ``limit``. Those of a release that
        knew other types come as they were stored; the centre decides about them."""

    def commit(self, ack: EventAck) -> int:
        """Forget what the centre has committed; returns how many. Acks of other streams, and of sequences
        that were never given out, do nothing."""

    def begin_stream(self) -> None:
        """Go on as a new stream, whose first events are those that wait. For an outbox that lost its last
        events (a power cut on a disk that lied, an old backup): their numbers are taken at the centre, which
        would drop whatever came under them. Raises ``TransientError`` when the disk is full."""

    def status(self) -> "OutboxStatus": ...


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    stream_id: UUID
    last_sequence: int
    pending: int
    state: bytes | None
    """The state stored by the last ``append``; None in a new outbox."""


class Broker(Protocol):
    """The MQTT connection. Publishing only enqueues; callbacks only enqueue."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> bool:
        """Hand a message to the client; False when not connected (QoS 0 messages are then dropped)."""

    @property
    def connected(self) -> bool: ...

    def take(self, timeout: float) -> "Incoming | None":
        """The next thing that happened on the connection, or None after ``timeout`` seconds."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """``kind`` is ``connected``, ``disconnected`` (``detail`` says why) or ``message``."""

    kind: str
    detail: str = ""
    topic: str = ""
    payload: bytes = b""


class Artifact(Protocol):
    """What a signed manifest says of a file that is to be fetched: a model, or a golden set."""

    @property
    def digest(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ArtifactStream:
    """Bytes of an artifact from ``start`` on. Taking the next chunk may raise what ``open`` raises."""

    start: int
    chunks: Iterator[bytes]


class ArtifactSource(Protocol):
    """The centre, or another node of the store."""

    @property
    def name(self) -> str: ...

    def open(self, digest: str, offset: int) -> AbstractContextManager[ArtifactStream]:
        """The artifact from byte ``offset`` on, or from the start if the source cannot skip. Nothing of
        it is proven. Raises ``SourceBusy``, ``TransientError``, ``ModelError`` when the source does not have
        it, ``PermanentError`` when it refuses us."""


class Part(Protocol):
    """An artifact on its way to the disk."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes) -> None:
        """Append. Raises ``TransientError`` when the disk refuses."""

    def restart(self) -> None:
        """Forget what came so far."""


class ArtifactCache(Protocol):
    """Models and golden sets on the node's disk, by digest."""

    def holds(self, manifest: Artifact) -> bool:
        """Whether the artifact is here, after reading all of it. A damaged one is removed."""

    def make_room(self, manifest: Artifact, keep: Collection[str], *, within_limit: bool) -> None:
        """Remove models used long ago, as far as the artifact needs it; never one that is in use, the last
        good one, or of the digests ``keep``. Raises ``TransientError`` when that is not enough: for the
        disk, and with ``within_limit`` also for the cache's own limit."""

    def receive(self, manifest: Artifact, *, resumable: bool) -> AbstractContextManager[Part | None]:
        """Where to write the artifact; nobody else writes it meanwhile. None: somebody did while we waited.
        When the block ends well, what was written is checked and adopted: raises ``ModelError`` if it is
        not the artifact. ``resumable``: what came before a break stays for the next time."""

    def digests(self) -> list[str]:
        """Whole models, those used last first."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What this node can give its neighbours of one artifact."""

    path: Path | None = None
    """The checked artifact, if it is here."""
    under_way: bool = False
    """It is being fetched from the centre just now."""


class Staging(Protocol):
    """Fetches models ahead of time, in the background."""

    def obey(self, order: bytes) -> None:
        """Take a ``StagingOrder`` as it came from the broker. Returns at once; a bad one is logged."""

    def cached(self) -> list[str]:
        """Digests of the models on this node."""

    def delivery(self) -> DeliveryTelemetry: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What a candidate model says of one frame."""

    detections: Sequence[Detection]
    took_ms: float
    cpu_s: float
    """Processor time of the inference."""


class Candidate(Protocol):
    """A candidate model, loaded, where it can do no harm."""

    def look(self, image: Image) -> Look:
        """Raises ``TransientError`` when it crashed, hangs or talks rubbish, ``ModelError`` when it cannot be
        used at all."""

    def cpu_s(self) -> float:
        """Processor time spent since this was asked the last time, loading included."""

    def close(self) -> None: ...


class Shadow(Protocol):
    """Tries a candidate model on a sample of live frames, in the background."""

    def obey(self, order: bytes) -> None:
        """Take a signed ``ShadowOrder`` as it came from the broker, empty: none any more. Returns at once."""

    def offer(self, camera: str, image: Image, detections: Sequence[Detection]) -> None:
        """A frame of a camera that is online, with what the current model sees in it. Nobody may write to
        ``image`` afterwards. Returns at once."""

    def report(self) -> ShadowTelemetry | None: ...


class CameraLeases(Protocol):
    """The records by which the nodes of a store share its cameras. Every call ends within a few seconds.

    Both raise ``TransientError``, or ``PermanentError`` when someone has to act: a right is missing, say.
    """

    def read(self) -> Ledger:
        """All records as they were between call and return: those of members no earlier than those of
        cameras, so that who takes a camera up again and is seen to is also seen to be alive."""

    def write(self, kind: Kind, record: Record) -> Record | None:
        """Replace the record of ``record.version`` (empty: create it), durably for cameras; returns it with
        its new version. None: somebody else changed it meanwhile; nothing of ours counts any more."""
