"""The shops of a simulated fleet, drawn from a seed: their names, where they are, what stands in them.

The same seed gives the same fleet, and a larger fleet begins with the smaller one.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.store_config import Camera, Product, StoreConfig, Zone

REGIONS: Mapping[str, str] = {
    "berlin": "Europe/Berlin",
    "london": "Europe/London",
    "new-york": "America/New_York",
    "sao-paulo": "America/Sao_Paulo",
    "tokyo": "Asia/Tokyo",
}
"""Region → its time zone."""
HARDWARE = ("nuc-12", "n100", "jetson-orin")
CAMERA_MODELS = ("axis-m3085", "hik-2143", "reolink-820")
CAMERA = "shelf-1"
SKU = "cola-can"


@dataclass(frozen=True, slots=True)
class Shop:
    name: str
    timezone: str
    labels: Mapping[str, str]
    config: StoreConfig = field(repr=False)

    @property
    def node(self) -> str:
        """Of its one camera node, and so of its device."""
        return f"{self.name}-node"


def draw_shops(count: int, seed: int) -> tuple[Shop, ...]:
    return tuple(_shop(number, seed) for number in range(1, count + 1))


def _shop(number: int, seed: int) -> Shop:
    chance = random.Random(f"{seed}/{number}")
    name = f"store-{number:04}"
    region = chance.choice(tuple(REGIONS))
    labels = {
        "region": region,
        "hardware": chance.choice(HARDWARE),
        "camera_model": chance.choice(CAMERA_MODELS),
    }
    timezone = REGIONS[region]
    config = StoreConfig(
        version=1,
        store=name,
        timezone=timezone,
        planogram=(Product(sku=SKU, gtin="04012345678901", name="Cola 330 ml"),),
        cameras=(Camera(id=CAMERA, url="rtsp://10.0.4.11/stream", frame_size=(1280, 720)),),
        zones=(
            Zone(
                id="cola",
                camera=CAMERA,
                sku=SKU,
                capacity=6,
                polygon=((100.0, 80.0), (420.0, 80.0), (420.0, 230.0), (100.0, 230.0)),
            ),
        ),
    )
    return Shop(name, timezone, labels, config)
