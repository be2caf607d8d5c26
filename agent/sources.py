"""The open cameras of this process: opens, keeps and closes them as the configuration says."""

import threading
from collections.abc import Callable, Iterable, Mapping

from agent.errors import CameraError
from agent.ports import Frame, FrameSource, SourceHealth
from contract.store_config import Camera

OpenSource = Callable[[Camera], FrameSource]
"""Raises ``CameraError`` for a camera that can never be opened as configured."""


class UnusableSource:
    """Stands for a camera that cannot be opened as configured; says why to whoever asks."""

    def __init__(self, error: CameraError) -> None:
        self._health = SourceHealth(False, 0.0, None, 0, str(error))

    def latest(self, after: int) -> Frame | None:
        return None

    def health(self) -> SourceHealth:
        return self._health

    def close(self) -> None:
        """Nothing was opened."""


class Sources:
    """Open sources by camera id. ``apply`` belongs to one thread."""

    def __init__(self, open_source: OpenSource) -> None:
        self._open = open_source
        self._cameras: dict[str, Camera] = {}
        self._sources: dict[str, FrameSource] = {}

    @property
    def by_camera(self) -> Mapping[str, FrameSource]:
        return self._sources

    def apply(self, cameras: Iterable[Camera]) -> set[str]:
        """Make the open sources fit ``cameras``; an unchanged camera keeps its very source. Returns the ids
        of those that were opened or closed."""
        wanted = {camera.id: camera for camera in cameras}
        changed = {
            camera_id
            for camera_id in wanted.keys() | self._cameras.keys()
            if wanted.get(camera_id) != self._cameras.get(camera_id)
        }
        sources = dict(self._sources)
        leaving = [sources.pop(camera_id) for camera_id in changed if camera_id in sources]
        for camera_id in sorted(changed & wanted.keys()):
            try:
                sources[camera_id] = self._open(wanted[camera_id])
            except CameraError as error:
                sources[camera_id] = UnusableSource(error)
        self._cameras, self._sources = wanted, sources
        _close(leaving)  # not waited for: closing one camera must not delay the others
        return changed

    def close(self) -> None:
        """Close all of them at once and wait until they are."""
        leaving, self._sources, self._cameras = list(self._sources.values()), {}, {}
        for thread in _close(leaving):
            thread.join()


def _close(sources: Iterable[FrameSource]) -> list[threading.Thread]:
    threads = [threading.Thread(target=source.close, name="closing a camera") for source in sources]
    for thread in threads:
        thread.start()
    return threads
