"""``storefleet try SOURCE``: the agent's whole pipeline on a newcomer's own camera, without a broker.

Without a configuration it first watches for a few seconds and proposes zones from what it sees.
"""

import importlib.resources
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from rich.console import Console
from rich.live import Live

from agent.camera_url import redact
from agent.config_watch import read_config_file
from agent.domain.detection import Detection
from agent.domain.model_fit import missing_classes
from agent.domain.propose import propose_zones
from agent.envelope import Origin
from agent.errors import CameraError, ModelError, PermanentError
from agent.first_config import camera_url, first_config, to_text
from agent.pipeline import Pipeline
from agent.ports import Detector, Frame, FrameSource, Image, Inspector, Outbox
from agent.try_screen import Screen, event_line, zone_rows
from contract.errors import ConfigError
from contract.messages import EventAck
from contract.store_config import Camera, StoreConfig, load_store_config

LEARN_FRAMES = 12
LEARN_S = 4.0
"""Zones are proposed from the frames of this time, or from ``LEARN_FRAMES`` if those take longer."""
FIRST_FRAME_S = 15.0
TURN_S = 0.01


class Writer(Protocol):
    """Takes annotated frames."""

    def write(self, image: Image) -> None: ...

    def close(self) -> None: ...


class OneTimeSource(FrameSource, Protocol):
    @property
    def ended(self) -> bool:
        """True when a file has been played to its end."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters of a trial; the composition root fills it."""

    open_detector: Callable[[Path], Detector]
    open_source: Callable[[str, float], OneTimeSource]
    """Of a URL and the frames a second wanted."""
    make_inspector: Callable[[], Inspector]
    make_outbox: Callable[[Origin], Outbox]
    new_id: Callable[[], UUID]
    open_writer: Callable[[Path, float], Writer]
    """Of a path and the frames a second."""
    annotate: Callable[[Image, Sequence[Detection], str], Image]


@dataclass(frozen=True, slots=True)
class Request:
    source: str = field(repr=False)
    model: Path | None
    config: Path | None
    save: Path | None
    write_config: Path | None
    duration: float
    as_json: bool
    force: bool = False
    """Whether ``write_config`` may replace a file."""


class Trial:
    """One run of the command, until the time, the file or the user ends it."""

    def __init__(self, request: Request, parts: Parts, console: Console, stop: threading.Event) -> None:
        self._request = request
        self._parts = parts
        self._console = console
        self._url = camera_url(request.source)
        self._screen = Screen(f"storefleet try {redact(request.source)}")
        self._end = time.monotonic() + request.duration if request.duration else float("inf")
        self._last_frame = 0
        self._stop = stop

    def run(self) -> None:
        """Raises ``AgentError`` or ``ConfigError``."""
        request = self._request
        if request.write_config and request.write_config.exists() and not request.force:
            raise PermanentError(f"{request.write_config} exists already; --force replaces it")
        config = load_config(request.config, self._url) if request.config else None
        detector = self._parts.open_detector(request.model or shipped_model())
        if config:
            refuse_misfit(detector, config)
        fps = config.cameras[0].fps if config else Camera.model_fields["fps"].default
        with ExitStack() as stack:
            self._source = self._parts.open_source(self._url, fps)
            stack.callback(self._source.close)
            self._writer = self._parts.open_writer(request.save, fps) if request.save else None
            if self._writer:
                stack.callback(self._writer.close)
            self._live: Live | None = None
            if not request.as_json:
                if not self._console.is_terminal:  # there, Live ends its last picture without a new line
                    stack.callback(self._console.line)
                self._live = stack.enter_context(Live(console=self._console, refresh_per_second=5))
            first = self._first_frame()
            config = config or self._propose(detector, first)
            self._watch(config, detector)

    def _first_frame(self) -> Frame:
        limit = time.monotonic() + FIRST_FRAME_S
        while (frame := self._source.latest(0)) is None:
            health = self._source.health()
            if self._stop.is_set():
                raise CameraError("stopped before the first picture came")
            if time.monotonic() > limit or self._source.ended:
                raise CameraError(
                    f"no picture within {FIRST_FRAME_S:.0f} s: {health.error or 'the file is empty'}"
                )
            self._show_waiting(f"opening the camera … {health.error}")
            time.sleep(0.05)
        return frame

    def _propose(self, detector: Detector, first: Frame) -> StoreConfig:
        """A configuration from the first seconds; also written to the file that was asked for."""
        seen: list[Sequence[Detection]] = []
        started = time.monotonic()
        while time.monotonic() - started < LEARN_S or len(seen) < LEARN_FRAMES:
            if self._over() or time.monotonic() - started > 5 * LEARN_S:
                break
            frame = self._next_frame()
            if frame is not None:
                seen.append(detector.detect(frame.image))
                self._save(frame.image, seen[-1], "learning the shelf")
            self._show_waiting(f"watching the shelf to propose zones: {len(seen)} frames")
        height, width = first.image.shape[:2]
        size = (width, height)
        config = first_config(self._url, size, propose_zones(seen, size))
        note = f"proposed {len(config.zones)} zones from {len(seen)} frames"
        if self._request.write_config:
            write_text(self._request.write_config, to_text(config))
            note += f", written to {self._request.write_config}"
        if not config.zones:
            note += "; nothing that the model knows stands still here"
        self._screen.note = note
        zones = [zone.model_dump(mode="json") for zone in config.zones]
        self._tell({"proposed_zones": zones, "note": note})
        return config

    def _watch(self, config: StoreConfig, detector: Detector) -> None:
        camera = config.cameras[0]
        info = detector.info
        origin = Origin(config.store, "trial", info.version, info.digest)
        outbox = self._parts.make_outbox(origin)
        pipeline = Pipeline(
            config,
            detector,
            outbox,
            make_inspector=lambda camera: self._parts.make_inspector(),
            new_id=self._parts.new_id,
        )
        report = pipeline.reports[0]
        quiet_since = time.monotonic()
        frames = events_seen = 0
        while not self._over():
            frame, health, now = self._next_frame(), self._source.health(), time.time()
            if frame is not None:
                frames += 1
                events = pipeline.process(camera.id, frame, health, now)
                quiet_since = time.monotonic()
                self._save(
                    frame.image, report.detections, report.condition.status if report.condition else ""
                )
            elif time.monotonic() - quiet_since > 0.5:
                events = pipeline.silence(camera.id, health, now)
                quiet_since = time.monotonic()
            else:
                continue
            events_seen += len(events)
            for event in events:
                self._screen.events.append(event_line(event))
                self._tell({"event": json.loads(event.to_bytes())})
            forget_shown(outbox)
            if self._live:
                self._live.update(self._screen.live(pipeline, report, health, now))
        zones = [
            {"zone": row.zone, "sku": row.sku, "facings": row.facings, "level": row.level}
            for row in zone_rows(pipeline, camera.id)
        ]
        took = report.meter.percentile_ms(0.5)
        self._tell({"frames": frames, "events": events_seen, "inference_ms_p50": took, "zones": zones})

    def _next_frame(self) -> Frame | None:
        frame = self._source.latest(self._last_frame)
        if frame is None:
            time.sleep(TURN_S)
        else:
            self._last_frame = frame.number
        return frame

    def _over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._end or self._source.ended

    def _save(self, image: Image, detections: Sequence[Detection], caption: str) -> None:
        if self._writer:
            self._writer.write(self._parts.annotate(image, detections, caption))

    def _show_waiting(self, text: str) -> None:
        if self._live:
            self._live.update(self._screen.waiting(text))

    def _tell(self, line: dict[str, object]) -> None:
        if self._request.as_json:
            self._console.file.write(json.dumps(line, default=str) + "\n")
            self._console.file.flush()


def forget_shown(outbox: Outbox) -> None:
    """Drop the events that wait: nobody else wants them, and a trial may run for days."""
    status = outbox.status()
    if status.pending:
        outbox.commit(EventAck(stream_id=status.stream_id, committed_sequence=status.last_sequence))


def load_config(path: Path, url: str) -> StoreConfig:
    """The configuration, reduced to the camera at ``url`` (else its first) read from there. Raises
    ``PermanentError``."""
    try:
        config = load_store_config(read_config_file(path))
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise PermanentError(f"{path}: {error}") from error
    if not config.cameras:
        raise PermanentError(f"{path} has no camera; run without --config to have zones proposed")
    camera = next((camera for camera in config.cameras if camera.url == url), config.cameras[0])
    return config.model_copy(
        update={
            "cameras": (camera.model_copy(update={"url": url}),),
            "zones": config.zones_of(camera.id),
        }
    )


def refuse_misfit(detector: Detector, config: StoreConfig) -> None:
    """Raises ``ModelError`` when the model does not know what the zones hold."""
    missing = missing_classes(detector.info.names, {zone.sku for zone in config.zones})
    if missing:
        raise ModelError(
            f"the model does not know {', '.join(missing)}; it knows {', '.join(detector.info.names)}"
        )


def shipped_model() -> Path:
    """Where the model that comes with Storefleet lies. Raises ``ModelError``."""
    advice = "the shipped model is not installed; give your own exported one with --model"
    try:
        path = Path(str(importlib.resources.files("shipped_model") / "shelf.zip"))
    except ModuleNotFoundError as error:
        raise ModelError(advice) from error
    if not path.is_file():
        raise ModelError(advice)
    return path


def write_text(path: Path, text: str) -> None:
    """Raises ``PermanentError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror}") from error
