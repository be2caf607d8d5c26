"""Runs simulated stores: scene, streams, faults, control endpoint and truth files together.

In this process with ``SimRun``, or as a child process by ``storefleet sim run --out DIR`` and then
``control.SimClient(DIR)``; either way a reader starts from ``DIR/sim.json``. Example::

    with SimRun(SimOptions(out=Path("run"), stores=1, cameras=2)) as run:
        run.set_fault("sim-1", "cam-1", Fault.BLACK, seconds=10)

Each store has one thread, which renders, streams and writes truth in turn: a store's scene then needs
no locks, and the heavy parts (OpenCV, NumPy, writing to the encoder) run outside Python's global lock.
"""

import math
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from camera_sims.control import ControlServer
from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault, FaultBoard
from camera_sims.gate import Gate
from camera_sims.mjpeg import MjpegStreamer
from camera_sims.options import SceneFactory, SimOptions
from camera_sims.rtsp import RtspStreamer
from camera_sims.run_info import FILE_NAME, CameraState, RunInfo, RunState
from camera_sims.schedule import Schedule
from camera_sims.store import SimStore, open_scenes


class SimRun:
    """Simulated stores that stream while the ``with`` block lasts.

    Raises ``SimulatorError`` from ``__enter__`` when something cannot start, and from ``wait`` when
    something broke down meanwhile, which ends the run.
    """

    def __init__(self, options: SimOptions, scene_factory: SceneFactory) -> None:
        self._options = options
        self._scene_factory = scene_factory
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(options.stores, thread_name_prefix="store")
        self._paces: list[Future[None]] = []
        self._stores: list[SimStore] = []
        self._gates: dict[str, Gate] = {}
        self._streamer: RtspStreamer | MjpegStreamer | None = None
        self._control: ControlServer | None = None
        self.info: RunInfo
        """What ``sim.json`` says."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has been asked to end (``request_stop``): then True, else False.

        Raises ``SimulatorError`` when the run broke down.
        """
        stopped = self._stopping.wait(timeout_s)
        for pace in self._paces:
            failure = pace.exception() if pace.done() else None
            if failure is not None:
                raise SimulatorError(f"the simulation broke down: {failure}") from failure
        return stopped

    def request_stop(self) -> None:
        """Make ``wait`` return. For signal handlers."""
        self._stopping.set()

    def set_fault(self, store: str, camera: str, fault: Fault, seconds: float | None = None) -> None:
        """Give a camera a fault, instead of any other it has. Raises ``KeyError`` for an unknown camera."""
        self._board.ask(f"{store}/{camera}", fault, time.monotonic(), seconds)

    def state(self) -> RunState:
        now = time.monotonic()
        faults = self._board.state()
        pictures = {key: count for store in self._stores for key, count in store.feed.pictures().items()}
        watched = {key for store in self._stores for key in store.feed.watched()}
        cameras = []
        for key, active in faults.items():
            store, camera = key.split("/")
            until = active.until if active else None
            cameras.append(
                CameraState(
                    store=store,
                    camera=camera,
                    url=self._url(key),
                    fault=active.fault if active else Fault.NONE,
                    remaining_s=None if until is None else round(max(0.0, until - now), 2),
                    watched=key in watched,
                    pictures=pictures[key],
                )
            )
        return RunState(scene_time=self._scene_time(now), cameras=tuple(cameras))

    def _start(self) -> None:
        options = self._options
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / FILE_NAME).unlink(missing_ok=True)
        self._started, self._begun = time.time(), time.monotonic()
        scenes = open_scenes(options, self._scene_factory, self._started)
        keys = tuple(f"{store}/{camera}" for store, scene in scenes.items() for camera in scene.camera_ids)
        self._board = FaultBoard(keys)
        schedule = Schedule(options.faults, self._board)
        self._streamer = self._open_streamer(keys)
        for key in keys:
            self._gates[key] = Gate(options.bind, self._streamer.upstream)
        for store, scene in scenes.items():
            urls = {camera: self._url(f"{store}/{camera}") for camera in scene.camera_ids}
            self._stores.append(
                SimStore(
                    store,
                    scene,
                    urls,
                    options,
                    self._streamer,
                    self._board,
                    self._gates,
                )
            )
        self._control = ControlServer(self)
        self._schedule = schedule
        for one in self._stores:
            pace = self._pool.submit(self._pace, one)
            pace.add_done_callback(lambda _: self._stopping.set())
            self._paces.append(pace)
        self.info = self._describe(self._control.url)
        self.info.write(options.out)

    def _open_streamer(self, cameras: tuple[str, ...]) -> RtspStreamer | MjpegStreamer:
        options = self._options
        if options.protocol == "mjpeg":
            return MjpegStreamer(cameras, options.credentials)
        return RtspStreamer(cameras, options.fps, options.credentials, options.out / "h264_server.log")

    def _stop(self) -> None:
        self._stopping.set()
        self._pool.shutdown()
        if self._control is not None:
            self._control.close()
        for gate in self._gates.values():
            gate.close()
        if self._streamer is not None:
            self._streamer.close()
        for store in self._stores:
            store.close(self._scene_time(time.monotonic()))

    def _scene_time(self, now: float) -> float:
        return self._started + (now - self._begun) * self._options.speed

    def _pace(self, store: SimStore) -> None:
        """Tick ``store`` at the run's frame rate; a tick that comes too late is left out, not made up for."""
        period = 1 / self._options.fps
        due = self._begun
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            if store is self._stores[0]:
                self._schedule.advance(now - self._begun, now)
            store.tick(now, self._scene_time(now))
            done = time.monotonic()
            due = self._begun + period * (math.floor((done - self._begun) / period) + 1)

    def _url(self, key: str) -> str:
        options = self._options
        scheme = "http" if options.protocol == "mjpeg" else "rtsp"
        user = f"{options.username}:${{{options.password_env}}}@" if options.username else ""
        return f"{scheme}://{user}{options.reachable_host}:{self._gates[key].port}/{key}"

    def _describe(self, control_url: str) -> RunInfo:
        options = self._options
        pids = [os.getpid()]
        if isinstance(self._streamer, RtspStreamer):
            pids.append(self._streamer.pid)
        return RunInfo(
            protocol=options.protocol,
            seed=options.seed,
            fps=options.fps,
            speed=options.speed,
            scene_start=self._started,
            started=self._started,
            control_url=control_url,
            pids=tuple(pids),
            stores=tuple(store.info() for store in self._stores),
        )
