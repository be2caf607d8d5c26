"""Records simulated stores into video files, faster than real time.

The same feed as for live streams, ticked in scene time instead of at the pace of a clock. Scene time in
a file runs at ``speed`` too: each picture is ``speed / fps`` seconds of the scene after the one before.
"""

import os
import time
from pathlib import Path

from camera_sims.faults import FaultBoard
from camera_sims.options import SceneFactory, SimOptions
from camera_sims.run_info import FILE_NAME, RunInfo
from camera_sims.schedule import Schedule
from camera_sims.store import SimStore, open_scenes
from camera_sims.video_file import FileStreamer


def record(options: SimOptions, duration_s: float, scene_factory: SceneFactory) -> RunInfo:
    """Write ``{store}/{camera}.mkv``, ``store.yaml`` and ``truth.jsonl`` below ``options.out``.

    ``duration_s``: length of each video. Raises ``SimulatorError`` if one cannot be written.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / FILE_NAME).unlink(missing_ok=True)
    start = time.time()
    scenes = open_scenes(options, scene_factory, start)
    files: dict[str, Path] = {}
    for name, scene in scenes.items():
        (options.out / name).mkdir(exist_ok=True)
        for camera in scene.camera_ids:
            files[f"{name}/{camera}"] = (options.out / name / f"{camera}.mkv").resolve()
    board = FaultBoard(tuple(files))
    schedule = Schedule(options.faults, board)
    streamer = FileStreamer(files, options.fps, options.out / "h264_server.log")
    try:
        stores = [
            SimStore(
                name,
                scene,
                {camera: files[f"{name}/{camera}"].as_uri() for camera in scene.camera_ids},
                options,
                streamer,
                board,
                {},
            )
            for name, scene in scenes.items()
        ]
        for picture in range(max(1, round(duration_s * options.fps))):
            elapsed = picture / options.fps
            schedule.advance(elapsed, elapsed)
            for store in stores:
                store.tick(elapsed, start + elapsed * options.speed)
        for store in stores:
            store.close(start + duration_s * options.speed)
    finally:
        streamer.close()
    info = RunInfo(
        protocol="file",
        seed=options.seed,
        fps=options.fps,
        speed=options.speed,
        scene_start=start,
        started=start,
        control_url=None,
        pids=(os.getpid(),),
        stores=tuple(store.info() for store in stores),
    )
    info.write(options.out)
    return info
