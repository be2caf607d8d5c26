"""One store's cameras, planogram and zones: the YAML file that travels with a release.

Polygons are in pixels of the camera's ``frame_size`` (x to the right, y down). A camera whose
stream has another size is reported ``moved``: the zones were not drawn on that view.

Example::

    version: 1
    store: berlin-01
    planogram:
      - {sku: cola-can, gtin: "04012345678901", name: Cola 330 ml}
    cameras:
      - id: aisle-1
        url: rtsp://viewer:${AISLE_1_PASSWORD}@10.0.4.11/stream
        frame_size: [1280, 720]
    zones:
      - id: a1-cola
        camera: aisle-1
        sku: cola-can
        capacity: 6
        polygon: [[100, 80], [420, 80], [420, 230], [100, 230]]
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import ConfigDict, Field, ValidationError

from contract.base import Message
from contract.names import Gtin, Name, Sku, gtin_check_digit
from contract.yaml_file import Loc, YamlFile

MAX_CONFIG_BYTES = 1024 * 1024
CAMERA_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https", "file", "device"})
"""``device:0`` is a local webcam by index."""

_ENV_REFERENCE = re.compile(r"\$\{[A-Z][A-Z0-9_]*\}")

Point = tuple[float, float]


class ConfigPart(Message):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Product(ConfigPart):
    """One SKU of the planogram. ``sku`` is also the detector's class name."""

    sku: Sku
    gtin: Gtin
    name: Annotated[str, Field(min_length=1, max_length=200)]


class Camera(ConfigPart):
    id: Name
    url: Annotated[str, Field(max_length=2048)]
    """RTSP, HTTP (MJPEG), ``file:`` or ``device:N``. Passwords only as ``${ENVIRONMENT_VARIABLE}``."""
    frame_size: tuple[Annotated[int, Field(ge=64, le=7680)], Annotated[int, Field(ge=64, le=4320)]]
    """Width and height in pixels of the view that the zones were drawn on."""
    fps: Annotated[float, Field(gt=0, le=30)] = 5.0
    """How many frames a second to look at."""


class Zone(ConfigPart):
    """A stretch of shelf that should hold one SKU."""

    id: Name
    camera: Name
    sku: Sku
    capacity: Annotated[int, Field(ge=1, le=500)]
    """Facings when full."""
    low_at: Annotated[int, Field(ge=0)] | None = None
    """Low stock at this many facings or fewer; default: a third of capacity, at least 1, below capacity."""
    polygon: Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]

    @property
    def low_threshold(self) -> int:
        """Below the capacity by default: a full zone is never low."""
        default = min(max(1, self.capacity // 3), self.capacity - 1)
        return default if self.low_at is None else self.low_at


class Policy(ConfigPart):
    """When a change on the shelf becomes an event. Seconds of the camera's clock."""

    dwell_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    """A count must hold this long, seen unobstructed, before it is believed."""
    occlusion_unknown_s: Annotated[float, Field(gt=0)] = 60.0
    """A zone hidden for longer than this becomes unknown; until then its stock is held."""
    stale_s: Annotated[float, Field(gt=0)] = 2.0
    """A frame older than this is no evidence."""
    settle_s: Annotated[float, Field(ge=0)] = 0.7
    """Time after an occlusion ends before the zone counts as seen again."""
    restock_margin: Annotated[int, Field(ge=0, le=50)] = 1
    """Hysteresis: a low zone is stocked again at ``low_at + restock_margin`` facings or more, and
    never below ``low_at + 1``."""
    retract_within_s: Annotated[float, Field(ge=0)] = 20.0
    """A low or out-of-stock alert disproved within this time, with nobody at the shelf in between,
    is retracted instead of reported as restocked."""


class StoreConfig(ConfigPart):
    version: Literal[1]
    store: Name
    timezone: str = "UTC"
    planogram: Annotated[tuple[Product, ...], Field(max_length=5000)]
    cameras: Annotated[tuple[Camera, ...], Field(max_length=256)]
    zones: Annotated[tuple[Zone, ...], Field(max_length=10_000)] = ()
    policy: Policy = Policy()

    def zones_of(self, camera: str) -> tuple[Zone, ...]:
        return tuple(zone for zone in self.zones if zone.camera == camera)

    def gtin_of(self, sku: str) -> str | None:
        return next((product.gtin for product in self.planogram if product.sku == sku), None)

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON: equal for equal meaning, whatever the YAML looked like."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def to_yaml(self) -> str:
        text: str = yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)
        return text


def load_store_config(text: str | bytes) -> StoreConfig:
    """Parse and check a store configuration. Raises ``ConfigError`` naming every problem with its line."""
    file = YamlFile(text, MAX_CONFIG_BYTES, "version, store, planogram, cameras, zones")
    try:
        config = StoreConfig.model_validate(file.raw)
    except ValidationError as error:
        found = [(e["loc"], e["msg"]) for e in error.errors(include_url=False, include_input=False)]
        raise file.refusal(found) from error
    problems = list(_semantic_problems(config))
    if problems:
        raise file.refusal(problems)
    return config


def _semantic_problems(config: StoreConfig) -> Iterator[tuple[Loc, str]]:
    """What the field types cannot say: references, duplicates, geometry, secrets."""
    skus = {product.sku for product in config.planogram}
    cameras = {camera.id: camera for camera in config.cameras}
    yield from _duplicates("planogram", "sku", [p.sku for p in config.planogram])
    yield from _duplicates("cameras", "id", [c.id for c in config.cameras])
    yield from _duplicates("zones", "id", [z.id for z in config.zones])
    for i, product in enumerate(config.planogram):
        if int(product.gtin[13]) != gtin_check_digit(product.gtin):
            expected = gtin_check_digit(product.gtin)
            yield ("planogram", i, "gtin"), f"check digit of {product.gtin} should be {expected}"
    for i, camera in enumerate(config.cameras):
        yield from ((("cameras", i, "url"), text) for text in _url_problems(camera.url))
    for i, zone in enumerate(config.zones):
        where: Loc = ("zones", i)
        if zone.sku not in skus:
            yield (*where, "sku"), f"zone {zone.id}: SKU {zone.sku!r} is not in the planogram"
        if zone.low_threshold >= zone.capacity and zone.capacity > 1:
            yield (*where, "low_at"), f"zone {zone.id}: low_at must be below the capacity {zone.capacity}"
        view = cameras.get(zone.camera)
        if view is None:
            yield (*where, "camera"), f"zone {zone.id}: camera {zone.camera!r} does not exist"
            continue
        width, height = view.frame_size
        if not all(0 <= x <= width and 0 <= y <= height for x, y in zone.polygon):
            yield (*where, "polygon"), f"zone {zone.id}: polygon leaves the {width}x{height} frame"
        if _crosses_itself(zone.polygon):
            yield (*where, "polygon"), f"zone {zone.id}: polygon crosses itself; list corners in order"
        elif _area(zone.polygon) < 16:
            yield (*where, "polygon"), f"zone {zone.id}: polygon has next to no area"


def _duplicates(section: str, key: str, values: Sequence[str]) -> Iterator[tuple[Loc, str]]:
    counts = Counter(values)
    seen: set[str] = set()
    for i, value in enumerate(values):
        if counts[value] > 1 and value in seen:
            yield (section, i, key), f"{key} {value!r} is used {counts[value]} times in {section}"
        seen.add(value)


def _url_problems(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError as error:
        yield f"not a URL: {error}"
        return
    if parts.scheme not in CAMERA_SCHEMES:
        yield f"unknown scheme {parts.scheme!r}: use one of {', '.join(sorted(CAMERA_SCHEMES))}"
    elif parts.scheme in {"rtsp", "rtsps", "http", "https"} and not parts.hostname:
        yield "the URL names no host"
    if password and not _ENV_REFERENCE.fullmatch(password):
        yield "holds a password: put it in a secret and write ${CAMERA_PASSWORD} instead"


def _area(polygon: Sequence[Point]) -> float:
    """Area in square pixels (shoelace formula)."""
    pairs = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def _crosses_itself(polygon: Sequence[Point]) -> bool:
    edges = list(zip(polygon, (*polygon[1:], polygon[0]), strict=True))
    n = len(edges)
    return any(
        _segments_cross(*edges[i], *edges[j])
        for i in range(n)
        for j in range(i + 2, n)
        if not (i == 0 and j == n - 1)
    )


def _segments_cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
