"""One simulated store.

Example::

    shop = Shop(seed=7, store="berlin-01", cameras=2, activity=3, start=time.time())
    picture = shop.frame("cam-1", time.time())
    config = shop.config({"cam-1": "rtsp://127.0.0.1:8554/cam-1", "cam-2": "rtsp://127.0.0.1:8554/cam-2"})
    records = shop.truth(until=time.time())
"""

import threading
from collections.abc import Mapping

import numpy as np

from camera_sims.appearance import Lighting, Look, invent_look
from camera_sims.catalogue import CATALOGUE
from camera_sims.errors import SceneError
from camera_sims.planogram import FRAME_HEIGHT, FRAME_WIDTH, Gondola, plan_gondola
from camera_sims.prints import Image
from camera_sims.render import Renderer
from camera_sims.shoppers import Script
from camera_sims.stockbook import Stock
from camera_sims.truth import TruthRecord
from camera_sims.witness import Witness
from contract.names import is_name
from contract.store_config import Camera, Policy, StoreConfig

_LAYOUT, _LOOK, _STORY, _BACKDROP = range(4)


class View:
    """One camera of a shop: its gondola, its script and its renderer. Owned by one ``Shop``."""

    def __init__(
        self,
        gondola: Gondola,
        look: Look,
        lighting: Lighting,
        script: Script,
        seed: tuple[int, ...],
    ) -> None:
        self.gondola = gondola
        self.script = script
        self.now = 0.0
        self._look = look
        self._lighting: Lighting = lighting
        self._seed = seed
        self._renderer: Renderer | None = None

    def advance(self, t: float) -> None:
        changes = self.script.advance(t)
        self.now = t
        if self._renderer is not None and changes:
            self._renderer.update(changes, self.script.contents)

    def picture(self) -> Image:
        """What the camera sees at the time last advanced to."""
        if self._renderer is None:
            self._renderer = Renderer(
                self.gondola,
                self._look,
                self._lighting,
                self.script.contents,
                self._seed,
            )
        poses = [visit.pose(self.now) for visit in self.script.present(self.now)]
        return self._renderer.frame(self.now, poses)


class Storyteller:
    """Tells the truth about a shop as time goes on. For one thread at a time."""

    def __init__(self, witnesses: list[Witness]) -> None:
        self._witnesses = witnesses

    def advance(self, until: float) -> list[TruthRecord]:
        """The records up to epoch time ``until`` that were not told before, in order of time."""
        records = [record for witness in self._witnesses for record in witness.advance(until)]
        return sorted(records, key=lambda record: record.time)


class Shop:
    """A store whose whole story follows from ``seed`` and ``activity``.

    ``activity`` scales how often people come (1: one every 24 s per camera; 0: nobody). ``start`` is the
    time (seconds since the epoch) of scene time zero. ``stock="varied"`` starts from any stock and with
    misplaced packages, as datasets want it. Raises ``SceneError`` for arguments out of range.
    """

    def __init__(
        self,
        seed: int,
        store: str,
        cameras: int = 2,
        *,
        activity: float = 1.0,
        start: float = 0.0,
        lighting: Lighting = "day",
        policy: Policy | None = None,
        stock: Stock = "usual",
    ) -> None:
        if not is_name(store):
            raise SceneError(f"store {store!r}: use a-z, 0-9 and '-', at most 63 characters")
        if cameras < 1 or activity < 0 or seed < 0:
            raise SceneError("a shop has at least one camera, and neither seed nor activity below 0")
        self.seed, self.store, self.activity, self.start = seed, store, activity, start
        self.policy = policy or Policy()
        self.camera_ids: tuple[str, ...] = tuple(f"cam-{i + 1}" for i in range(cameras))
        self._stock: Stock = stock
        self._lighting: Lighting = lighting
        self._gondolas = {camera: self._plan(camera) for camera in self.camera_ids}
        self._views = {camera: self.view(camera) for camera in self.camera_ids}
        self._locks = {camera: threading.Lock() for camera in self.camera_ids}

    def frame(self, camera: str, at: float) -> Image:
        """The scene at epoch time ``at``, 720x1280x3 BGR uint8; before ``start`` it is the scene at
        ``start``. ``at`` must not go back for the same camera. Raises ``SceneError``."""
        view = self._views.get(camera)
        if view is None:
            raise SceneError(f"no camera {camera!r}; there are {', '.join(self.camera_ids)}")
        t = max(0.0, at - self.start)
        with self._locks[camera]:
            if t < view.now:
                raise SceneError(
                    f"camera {camera!r} is already {view.now - t:.3f} s later; time only goes forward"
                )
            view.advance(t)
            return view.picture()

    def config(self, urls: Mapping[str, str], fps: float = 5) -> StoreConfig:
        """The store's configuration with each camera's URL. Raises ``SceneError`` if one has none."""
        missing = [camera for camera in self.camera_ids if camera not in urls]
        if missing:
            raise SceneError(f"no URL for {', '.join(missing)}")
        return StoreConfig(
            version=1,
            store=self.store,
            planogram=tuple(package.product() for package in CATALOGUE),
            cameras=tuple(
                Camera(
                    id=camera,
                    url=urls[camera],
                    frame_size=(FRAME_WIDTH, FRAME_HEIGHT),
                    fps=fps,
                )
                for camera in self.camera_ids
            ),
            zones=tuple(zone for camera in self.camera_ids for zone in self._gondolas[camera].zone_configs()),
            policy=self.policy,
        )

    def truth(self, until: float) -> list[TruthRecord]:
        """What a perfect observer records and reports from ``start`` to epoch time ``until``, in order of
        time, worked out anew at every call: to follow a running shop, keep a ``storyteller``."""
        return self.storyteller().advance(until)

    def storyteller(self) -> "Storyteller":
        """A perfect observer of all cameras, from scene time zero. Independent of ``frame``."""
        return Storyteller(
            [Witness(self._gondolas[c], self.script(c), self.policy, self.start) for c in self.camera_ids]
        )

    def gondola(self, camera: str) -> Gondola:
        return self._gondolas[camera]

    def script(self, camera: str) -> Script:
        """A new telling of the camera's story, from scene time zero."""
        return Script(
            self._gondolas[camera],
            self._seed(camera, _STORY),
            self.activity,
            self._stock,
        )

    def view(self, camera: str) -> View:
        """A view of its own for ``camera``, from scene time zero, independent of ``frame``."""
        look = invent_look(np.random.default_rng(self._seed(camera, _LOOK)))
        return View(
            self._gondolas[camera],
            look,
            self._lighting,
            self.script(camera),
            self._seed(camera, _BACKDROP),
        )

    def _plan(self, camera: str) -> Gondola:
        return plan_gondola(camera, np.random.default_rng(self._seed(camera, _LAYOUT)))

    def _seed(self, camera: str, purpose: int) -> tuple[int, ...]:
        return self.seed, self.camera_ids.index(camera), purpose
