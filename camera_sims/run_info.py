"""What a running simulator says about itself: ``sim.json`` in its directory, and its control API."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault

FILE_NAME = "sim.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraInfo(_Part):
    id: str
    url: str
    """As in the store's configuration: a password only as an environment reference."""


class StoreInfo(_Part):
    store: str
    config: Path
    truth: Path
    cameras: tuple[CameraInfo, ...]


class RunInfo(_Part):
    """``sim.json``. Paths are absolute; ``pids`` are the run's processes, its own first."""

    version: Literal[1] = 1
    protocol: Literal["rtsp", "mjpeg", "file"]
    seed: int
    fps: float
    speed: float
    scene_start: float
    """Scene time at ``started``, in seconds since the epoch."""
    started: float
    """Wall-clock time of ``scene_start``, in seconds since the epoch."""
    control_url: str | None
    """``None`` for recorded files, which are complete when this is written."""
    pids: tuple[int, ...]
    stores: tuple[StoreInfo, ...]

    def write(self, directory: Path) -> None:
        """Write ``sim.json`` in one step: whoever sees it sees all of it."""
        partial = directory / f"{FILE_NAME}.partial"
        partial.write_text(self.model_dump_json(indent=2) + "\n")
        partial.replace(directory / FILE_NAME)


def read_run_info(directory: Path) -> RunInfo:
    """Read ``sim.json`` of ``directory``. Raises ``SimulatorError`` when there is none that can be read."""
    path = directory / FILE_NAME
    try:
        return RunInfo.model_validate_json(path.read_text())
    except OSError as error:
        raise SimulatorError(
            f"no simulator has run in {directory} ({error.strerror}): start one with: "
            f"storefleet sim run --out {directory}"
        ) from error
    except ValidationError as error:
        raise SimulatorError(f"{path} is not a run of this version: {error.errors()[0]['msg']}") from error


class FaultRequest(_Part):
    """Body of ``POST /cameras/{store}/{camera}/fault``."""

    fault: Fault
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """How long; without it, until another request."""


class CameraState(_Part):
    store: str
    camera: str
    url: str
    fault: Fault
    """The fault asked for; it takes effect within one frame period."""
    remaining_s: float | None
    """Seconds until it ends by itself."""
    watched: bool
    pictures: int


class RunState(_Part):
    """Answer of ``GET /state``."""

    scene_time: float
    """Seconds since the epoch."""
    cameras: tuple[CameraState, ...]
