"""The simulated shop as the scene that a run streams."""

from collections.abc import Mapping

from camera_sims.faults import Image
from camera_sims.options import SimOptions
from camera_sims.shop import Shop
from contract.store_config import StoreConfig

AGENT_FPS = 5.0
"""Pictures a second that an agent is told to look at, if the camera gives so many."""


class ShopScene:
    """Hands a ``Shop`` to the runner."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._storyteller = shop.storyteller()
        self.camera_ids = shop.camera_ids

    def frame(self, camera: str, at: float) -> Image:
        return self._shop.frame(camera, at)

    def config(self, urls: Mapping[str, str], fps: float) -> StoreConfig:
        return self._shop.config(urls, min(fps, AGENT_FPS))

    def truth(self, until: float) -> list[str]:
        return [record.to_json() for record in self._storyteller.advance(until)]


def build_shop(options: SimOptions, store: str, start: float) -> ShopScene:
    """The shop of ``store``, the N-th of the run, with seed ``options.seed + N - 1``."""
    number = options.store_names.index(store)
    shop = Shop(
        options.seed + number,
        store,
        options.cameras,
        activity=options.activity,
        start=start,
        lighting=options.lighting,
    )
    return ShopScene(shop)
