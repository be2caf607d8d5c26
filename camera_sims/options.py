"""What a simulated run can be asked for, and what it needs of the scene of each store."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from camera_sims.appearance import Lighting
from camera_sims.errors import SimulatorError
from camera_sims.faults import FILE_FAULTS, Image
from camera_sims.schedule import PlannedFault
from contract.names import is_name
from contract.store_config import StoreConfig

Transport = Literal["rtsp", "mjpeg", "file"]
ANY_ADDRESS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not the default
PASSWORD_ENV = "CAMERA_PASSWORD"  # noqa: S105 - the name of a variable


class StoreScene(Protocol):
    """One store's scene: ``camera_sims.shop.Shop``, or a stand-in. Times are seconds since the epoch."""

    @property
    def camera_ids(self) -> tuple[str, ...]: ...

    def frame(self, camera: str, at: float) -> Image:
        """The view of ``camera``: BGR, 720 x 1280 x 3."""
        ...

    def config(self, urls: Mapping[str, str], fps: float) -> StoreConfig: ...

    def truth(self, until: float) -> Iterable[str]:
        """Truth records up to ``until`` that were not given before, each one line of JSON."""
        ...


@dataclass(frozen=True)
class SimOptions:
    """Stores are named ``{prefix}-1``, ``{prefix}-2`` and so on.

    Raises ``SimulatorError`` when it cannot be run like this.
    """

    out: Path
    stores: int = 2
    cameras: int = 2
    seed: int = 7
    activity: float = 1.0
    """How busy the shop is: 1 is an ordinary afternoon, 0 an empty shop."""
    lighting: Lighting = "day"
    speed: float = 1.0
    """Seconds of scene time per second."""
    fps: float = 10.0
    """Pictures per second of wall-clock time (of scene time in files)."""
    protocol: Transport = "rtsp"
    bind: str = "127.0.0.1"
    """Address that cameras listen on. Where it is a wildcard, URLs name 127.0.0.1."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_env: str = PASSWORD_ENV
    """The environment variable that URLs in store configurations refer to for the password."""
    faults: tuple[PlannedFault, ...] = ()
    prefix: str = "sim"

    def __post_init__(self) -> None:
        if self.username and not self.password:
            raise SimulatorError(f"a user name needs a password: set {self.password_env} in the environment")
        if self.stores < 1 or self.cameras < 1:
            raise SimulatorError("a run needs at least one store and one camera")
        if not (0 < self.fps <= 30 and 0 < self.speed <= 1000):
            raise SimulatorError("fps must be above 0 and at most 30, speed above 0 and at most 1000")
        for name in self.store_names:
            if not is_name(name):
                raise SimulatorError(f"{name!r} is no store name: use a-z, 0-9 and -, at most 63 characters")
        if self.protocol == "file":
            for planned in self.faults:
                if planned.fault not in FILE_FAULTS:
                    known = ", ".join(sorted(FILE_FAULTS))
                    raise SimulatorError(
                        f"a recorded file cannot have the fault {planned.fault}: use {known}"
                    )

    @property
    def store_names(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}-{number}" for number in range(1, self.stores + 1))

    @property
    def credentials(self) -> tuple[str, str] | None:
        return (self.username, self.password) if self.username and self.password else None

    @property
    def reachable_host(self) -> str:
        host = "127.0.0.1" if self.bind in ANY_ADDRESS else self.bind
        return f"[{host}]" if ":" in host else host


SceneFactory = Callable[[SimOptions, str, float], StoreScene]
"""Makes the scene of a store, by name, which begins at the given time (seconds since the epoch)."""
