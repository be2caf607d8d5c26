"""What a shadow run costs the live loop, and whether it keeps to its budget of processor time.

The agent's own loop, pipeline and detector watch simulated cameras, in turns without and with a candidate in
its process beside them. Frame age is from the moment a frame exists to the moment its events are stored. The
candidate's processor time is read from the system, not from its own report, which stands beside it.

    python -m benchmarks.shadow --seconds 20 --rounds 2 --budget 20 --json shadow.json
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from agent.adapters.ids import new_event_id
from agent.adapters.memory import MemoryOutbox
from agent.adapters.model_file import open_detector
from agent.adapters.opencv.inspect import CvInspector
from agent.adapters.opencv.threads import use_one_thread
from agent.adapters.shadow_process import ShadowProcess
from agent.domain.golden import percentile
from agent.envelope import Origin
from agent.loop import Loop
from agent.pipeline import Pipeline
from agent.ports import Frame, Image, SourceHealth
from agent.shadow import ShadowRunner, Tools
from agent.sources import Sources
from camera_sims.shop import Shop
from contract.events import Event
from contract.shadow import ShadowOrder, ShadowTelemetry
from contract.signing import sign, verify
from contract.store_config import Camera
from contract.workload import ModelManifest

STORE = "bench-1"
PICTURES = 40
"""Of each camera, drawn beforehand and played over and over."""
START_WITHIN_S = 90.0


class PlayedCamera:
    """Implements ``agent.ports.FrameSource``: a picture every ``1 / fps`` seconds, as cameras give it."""

    def __init__(self, pictures: Sequence[Image], fps: float) -> None:
        self._pictures = pictures
        self._fps = fps
        self._start = time.time()

    def latest(self, after: int) -> Frame | None:
        number = 1 + int((time.time() - self._start) * self._fps)
        if number <= after:
            return None
        picture = self._pictures[number % len(self._pictures)]
        return Frame(picture, self._start + (number - 1) / self._fps, number)

    def health(self) -> SourceHealth:
        return SourceHealth(True, self._fps, time.time(), 0)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Phase:
    seconds: float = 0.0
    ages_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    frames: int = 0


class WatchedPipeline(Pipeline):
    """Notes how old each frame is when all that it proved is stored."""

    phase: Phase | None = None

    def process(self, camera: str, frame: Frame, health: SourceHealth, now: float) -> list[Event]:
        events = super().process(camera, frame, health, now)
        if self.phase is not None:
            self.phase.ages_ms.append((time.time() - frame.captured_at) * 1000)
        return events


def candidate_cpu_s() -> float:
    """Processor time of the candidate's process so far; 0 when there is none."""
    total = 0.0
    for child in psutil.Process().children():
        try:
            if "agent.cli_shadow" in child.cmdline():
                times = child.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def measure(options: argparse.Namespace, model: Path, candidate: Path) -> dict[str, Any]:
    """The figures. Raises ``TimeoutError`` when the candidate looks at no frame in time."""
    use_one_thread()
    shop = Shop(options.seed, STORE, options.cameras, activity=2.0)
    played = {}
    for name in shop.camera_ids:
        played[name] = [shop.frame(name, 1.0 + n / options.fps) for n in range(PICTURES)]
    config = shop.config({name: f"rtsp://127.0.0.1/{name}" for name in shop.camera_ids}, options.fps)
    detector = open_detector(model, threads=options.threads)
    origin = Origin(STORE, "node-1", "1", detector.info.digest, None)
    outbox = MemoryOutbox(origin, clock=time.time, new_id=new_event_id)
    key, stop = Ed25519PrivateKey.generate(), threading.Event()
    info = open_detector(candidate, threads=1).info
    manifest = ModelManifest(
        digest=info.digest, size_bytes=candidate.stat().st_size, name="shelf", version="2",
        format="onnx" if candidate.suffix == ".onnx" else "openvino", task="detect", names=info.names,
        image_size=info.image_size,
    )  # fmt: skip
    tools = Tools(
        believe=lambda signed: verify(signed, [key.public_key()]).encode(),
        bring=lambda _: candidate,
        start=lambda path, wanted: ShadowProcess(path, wanted, "auto", memory_mb=768),
        clock=time.time,
        monotonic=time.monotonic,
        thread_time=time.thread_time,
    )
    runner = ShadowRunner(STORE, tools, stop)
    pipeline = WatchedPipeline(
        config,
        detector,
        outbox,
        make_inspector=lambda _: CvInspector(),
        new_id=new_event_id,
        shadow=runner,
    )

    def open_source(camera: Camera) -> PlayedCamera:
        return PlayedCamera(played[camera.id], options.fps)

    sources = Sources(open_source)
    sources.apply(config.cameras)
    loop = Loop(config, pipeline, sources, clock=time.time, monotonic=time.monotonic)
    turning = threading.Thread(target=loop.run, args=(stop,), daemon=True)
    until = datetime.now(UTC) + timedelta(hours=1)
    wanted = ShadowOrder(store=STORE, model=manifest, cpu_percent=options.budget, until=until)
    order = sign(wanted.model_dump_json(), key).to_bytes()
    without, beside = Phase(), Phase()
    runner.start()
    turning.start()
    try:
        time.sleep(5.0)  # until the cameras are known to be online
        for _ in range(options.rounds):
            runner.obey(b"")
            time.sleep(1.0)
            _watch(pipeline, without, options.seconds)
            before = _frames(runner)
            runner.obey(order)
            _await_frames(runner, before)
            counted, spent = _frames(runner), candidate_cpu_s()
            _watch(pipeline, beside, options.seconds)
            beside.cpu_s += candidate_cpu_s() - spent
            beside.frames += _frames(runner) - counted
        report = runner.report()
    finally:
        stop.set()
        turning.join()
        runner.close()
    if report is None:
        raise TimeoutError("the candidate reported nothing")
    return _figures(options, without, beside, report)


def _watch(pipeline: WatchedPipeline, phase: Phase, seconds: float) -> None:
    began = time.monotonic()
    pipeline.phase = phase
    time.sleep(seconds)
    pipeline.phase = None
    phase.seconds += time.monotonic() - began


def _frames(runner: ShadowRunner) -> int:
    report = runner.report()
    return report.frames if report else 0


def _await_frames(runner: ShadowRunner, before: int) -> None:
    end = time.monotonic() + START_WITHIN_S
    while _frames(runner) <= before:
        if time.monotonic() > end:
            raise TimeoutError(f"the candidate looked at no frame within {START_WITHIN_S:g} s")
        time.sleep(0.1)


def _figures(
    options: argparse.Namespace, without: Phase, beside: Phase, report: ShadowTelemetry
) -> dict[str, Any]:
    compared = report.matched + report.only_current + report.only_candidate
    return {
        "cameras": options.cameras,
        "fps_wanted": options.fps * options.cameras,
        "fps_without": round(len(without.ages_ms) / without.seconds, 3),
        "fps_with": round(len(beside.ages_ms) / beside.seconds, 3),
        "frame_age_ms_p50_without": round(percentile(without.ages_ms, 0.5), 1),
        "frame_age_ms_p50_with": round(percentile(beside.ages_ms, 0.5), 1),
        "frame_age_ms_p95_without": round(percentile(without.ages_ms, 0.95), 1),
        "frame_age_ms_p95_with": round(percentile(beside.ages_ms, 0.95), 1),
        "budget_cpu_percent": options.budget,
        "shadow_cpu_percent": round(100 * beside.cpu_s / beside.seconds, 2),
        "reported_cpu_percent": round(report.cpu_percent, 2),
        "shadow_frames": beside.frames,
        "shadow_fps": round(beside.frames / beside.seconds, 3),
        "shadow_cpu_ms": round(report.cpu_ms or 0.0, 1),
        "detections_compared": compared,
        "disagreement": round((report.only_current + report.only_candidate) / compared, 4)
        if compared
        else 0.0,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadow", description=__doc__)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--fps", type=float, default=5.0, help="of each camera")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=2, help="phases without and with, in turns")
    parser.add_argument("--budget", type=float, default=20.0, help="percent of one core")
    parser.add_argument("--threads", type=int, default=1, help="of the live detector")
    parser.add_argument("--seed", type=int, default=940_000)
    parser.add_argument("--candidate", type=Path, help="default: the shipped model in its ONNX form")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    shipped = files("shipped_model")
    with as_file(shipped / "shelf.zip") as model, as_file(shipped / "shelf.onnx") as other:
        result = measure(options, model, options.candidate or other)
    table = Table("figure", "value", box=None)
    for name, value in result.items():
        table.add_row(name, str(value))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
