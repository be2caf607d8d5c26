"""``storefleet try SOURCE``: the agent's whole pipeline on a newcomer's own camera, without a broker.

Without a configuration it first watches for a few seconds and proposes zones from what it sees.
"""

import importlib.resources
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from agent.domain.detection import Detection
from agent.domain.model_fit import missing_classes
from agent.domain.propose import propose_zones
from agent.errors import AgentError, CameraError, ModelError, PermanentError
from agent.ports import Detector, Frame, Image
from agent.try_screen import Screen, event_line, zone_rows
from contract.errors import ConfigError
from contract.store_config import Camera, StoreConfig, load_store_config

LEARN_FRAMES = 12
LEARN_S = 4.0
"""Zones are proposed from the frames of this time, or from ``LEARN_FRAMES`` if those take longer."""
FIRST_FRAME_S = 15.0
TURN_S = 0.01

Show = Callable[[], None]


def try_command(
    source: Annotated[
        str, typer.Argument(help="RTSP or HTTP URL, a webcam's index such as 0, or a video file.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="Your own exported model; default: the shipped one.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Store configuration with the camera's zones.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write annotated frames: .mp4 or .avi for a video, else a directory.")
    ] = None,
    write_config: Annotated[
        Path | None, typer.Option(help="Write a first configuration with the proposed zones.")
    ] = None,
    duration: Annotated[
        float, typer.Option(min=0.0, help="Seconds to run; 0: until Ctrl-C or the end.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of a live view.")
    ] = False,
) -> None:
    """Try the agent on your own camera: detections and events live in the terminal.

    Example: storefleet try rtsp://viewer:PASSWORD@10.0.4.11/stream --write-config store.yaml
    """
    request = Request(source, model, config, save, write_config, duration, as_json)
    try:
        _Trial(request, Console()).run()
    except (AgentError, ConfigError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@dataclass(frozen=True, slots=True)
class Request:
    source: str = field(repr=False)
    model: Path | None
    config: Path | None
    save: Path | None
    write_config: Path | None
    duration: float
    as_json: bool


class _Trial:
    """One run of the command; the adapters are built here, as this is a program of its own."""

    def __init__(self, request: Request, console: Console) -> None:
        from agent.camera_url import redact
        from agent.first_config import camera_url

        self._request = request
        self._console = console
        self._url = camera_url(request.source)
        self._screen = Screen(f"storefleet try {redact(request.source)}")
        self._end = time.monotonic() + request.duration if request.duration else float("inf")
        self._last_frame = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Until the time, the file or the user ends it. Raises ``AgentError`` or ``ConfigError``."""
        from agent.adapters.model_file import open_detector
        from agent.adapters.opencv.annotate import AnnotatedWriter
        from agent.adapters.opencv.source import CameraSource

        request = self._request
        config = load_config(request.config, self._url) if request.config else None
        detector = open_detector(request.model or shipped_model())
        if config:
            refuse_misfit(detector, config)
        fps = config.cameras[0].fps if config else Camera.model_fields["fps"].default
        with ExitStack() as stack:
            self._source = CameraSource(self._url, fps, loop=False)
            stack.callback(self._source.close)
            self._writer = stack.enter_context(AnnotatedWriter(request.save, fps)) if request.save else None
            self._live: Live | None = None
            if not request.as_json:
                self._live = stack.enter_context(Live(console=self._console, refresh_per_second=5))
            signal.signal(signal.SIGINT, lambda *_: self._stop.set())
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
        from agent.first_config import first_config, to_text

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
        from agent.adapters.ids import new_event_id
        from agent.adapters.memory import MemoryOutbox
        from agent.adapters.opencv.inspect import CvInspector
        from agent.envelope import Origin
        from agent.pipeline import Pipeline

        camera = config.cameras[0]
        info = detector.info
        origin = Origin(config.store, "trial", info.version, info.digest)
        outbox = MemoryOutbox(origin, clock=time.time, new_id=new_event_id)
        pipeline = Pipeline(
            config, detector, outbox, make_inspector=lambda camera: CvInspector(), new_id=new_event_id
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
                events = []
            events_seen += len(events)
            for event in events:
                self._screen.events.append(event_line(event))
                self._tell({"event": json.loads(event.to_bytes())})
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
            from agent.adapters.opencv.annotate import annotate

            self._writer.write(annotate(image, detections, caption=caption))

    def _show_waiting(self, text: str) -> None:
        if self._live:
            self._live.update(self._screen.waiting(text))

    def _tell(self, line: dict[str, object]) -> None:
        if self._request.as_json:
            typer.echo(json.dumps(line, default=str))


def load_config(path: Path, url: str) -> StoreConfig:
    """The configuration, reduced to the camera at ``url`` (else its first) read from there. Raises
    ``ConfigError``, ``PermanentError``."""
    try:
        config = load_store_config(path.read_bytes())
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from error
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
    path = Path(str(importlib.resources.files("shipped_model") / "shelf.zip"))
    if not path.is_file():
        raise ModelError("the shipped model is not installed; give your own exported one with --model")
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
