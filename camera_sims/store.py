"""One simulated store while it runs: its scene, its feed, its configuration and its truth file."""

import json
from collections.abc import Mapping
from pathlib import Path

from camera_sims.errors import SimulatorError
from camera_sims.faults import FaultBoard, FaultChange
from camera_sims.feed import StoreFeed
from camera_sims.gate import Gate
from camera_sims.options import SceneFactory, SimOptions, StoreScene
from camera_sims.run_info import CameraInfo, StoreInfo
from camera_sims.streamer import Streamer

TRUTH_PERIOD_S = 0.5
"""Truth reaches the file within about this long."""


def open_scenes(options: SimOptions, factory: SceneFactory, start: float) -> dict[str, StoreScene]:
    """The scene of every store, by name. Raises ``SimulatorError`` if a planned fault names no camera."""
    scenes = {name: factory(options, name, start) for name in options.store_names}
    known = {f"{name}/{camera}" for name, scene in scenes.items() for camera in scene.camera_ids}
    for planned in options.faults:
        if planned.camera not in known:
            raise SimulatorError(f"no camera {planned.camera!r}: this run has {', '.join(sorted(known))}")
    return scenes


class SimStore:
    """Used by one thread at a time. Writes ``store.yaml`` and ``truth.jsonl`` in its own directory.

    To the records of ``camera_sims.truth`` the latter adds the faults, ``{"record": "fault", "time",
    "camera", "fault", "began"}``: in between no observer could see what the other records tell.
    """

    def __init__(
        self,
        name: str,
        scene: StoreScene,
        urls: Mapping[str, str],
        options: SimOptions,
        streamer: Streamer,
        board: FaultBoard,
        gates: Mapping[str, Gate],
    ) -> None:
        self.name = name
        self._scene = scene
        self._urls = urls
        self._directory = (options.out / name).resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        config = scene.config(urls, options.fps)
        (self._directory / "store.yaml").write_text(config.to_yaml())
        self._truth = self._truth_path.open("w", encoding="utf-8")
        self._written_at = float("-inf")
        self.feed = StoreFeed(name, scene.camera_ids, scene, streamer, board, gates, self._record_fault)

    @property
    def _truth_path(self) -> Path:
        return self._directory / "truth.jsonl"

    def tick(self, now: float, at: float) -> None:
        """Do what is due at ``now`` (any steady clock), which is ``at`` in the scene."""
        self.feed.tick(now, at)
        if now - self._written_at >= TRUTH_PERIOD_S:
            self._write_truth(at)
            self._written_at = now

    def close(self, at: float) -> None:
        """Complete the truth up to ``at`` and close its file."""
        self._write_truth(at)
        self._truth.close()

    def info(self) -> StoreInfo:
        return StoreInfo(
            store=self.name,
            config=self._directory / "store.yaml",
            truth=self._truth_path,
            cameras=tuple(CameraInfo(id=camera, url=url) for camera, url in self._urls.items()),
        )

    def _write_truth(self, until: float) -> None:
        self._truth.writelines(line + "\n" for line in self._scene.truth(until))
        self._truth.flush()

    def _record_fault(self, camera: str, change: FaultChange, at: float) -> None:
        record = {
            "record": "fault",
            "time": round(at, 3),
            "camera": camera,
            "fault": change.fault,
            "began": change.began,
        }
        self._truth.write(json.dumps(record) + "\n")
