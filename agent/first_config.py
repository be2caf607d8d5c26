"""A first store configuration from a camera's address and the zones proposed for it."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from agent.camera_url import redact
from agent.domain.propose import ProposedZone
from agent.errors import CameraError
from contract.names import gtin_check_digit
from contract.store_config import CAMERA_SCHEMES, Camera, Product, StoreConfig, Zone

PASSWORD_REFERENCE = "${CAMERA_PASSWORD}"  # noqa: S105 - the name of a variable
_HOST_AND_PORT = re.compile(r"(?:\[[^]]*\]|[^:]*)(?::\d*)?")
_GTIN_LINE = re.compile(r"(?m)^([ -]*gtin: )'?(\d+)'?$")
_SECRET_PARAMETER = re.compile(r"(?i)([?&](?:pass(?:word|wd)?|pwd|token|auth|key|secret)=)[^&#]*")

HEADER = """\
# Written by `storefleet try`: zones as proposed from what the camera saw. Check before use:
# - capacity is what fits between the outermost facings seen, too small if those at the ends were gone;
# - GTINs are placeholders from the range for use within a company (GS1 prefix 2); put in the real ones.
"""
VARIABLE_HINT = "# - the camera's password is read from the environment variable CAMERA_PASSWORD.\n"


def camera_url(source: str) -> str:
    """The camera URL for what people type: ``0`` (a webcam), a path, or a URL. Raises ``CameraError``."""
    if source.isdecimal():
        return f"device:{source}"
    if urlsplit(source).scheme in CAMERA_SCHEMES:
        return source
    path = Path(source).expanduser()
    try:
        found = path.is_file()
        if found:
            path.open("rb").close()
    except OSError as error:
        raise CameraError(f"cannot read {redact(source)!r}: {error.strerror}") from error
    if path.suffix and "://" not in source and not path.exists():
        raise CameraError(
            f"the file {redact(source)!r} does not exist; give a video file, a webcam's index "
            "such as 0, or a URL such as rtsp://user:password@10.0.4.11/stream"
        )
    if not found:
        raise CameraError(
            f"{redact(source)!r} is neither a file nor a camera: give a video file, a webcam's index "
            "such as 0, or a URL such as rtsp://user:password@10.0.4.11/stream"
        )
    return f"file:{quote(str(path.resolve()))}"


def without_password(url: str) -> str:
    """``url`` with its password (in front of ``@`` or as a parameter) replaced by a reference."""
    url = _SECRET_PARAMETER.sub(rf"\g<1>{PASSWORD_REFERENCE}", url)
    head, scheme, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        place_at = authority.rindex("@")
    elif _HOST_AND_PORT.fullmatch(authority):
        return url  # a later "@" belongs to the path
    else:
        place_at = rest.rfind("@")  # a password with a raw "/"
    user, colon, _ = rest[: max(place_at, 0)].partition(":")
    place = rest[place_at + 1 :]
    if not (scheme and colon):
        return url
    return f"{head}://{user}:{PASSWORD_REFERENCE}@{place}"


def first_config(
    url: str, frame_size: tuple[int, int], proposed: Sequence[ProposedZone], *, store: str = "my-store"
) -> StoreConfig:
    """A configuration with one camera; ``frame_size`` is width and height in pixels."""
    skus = sorted({zone.sku for zone in proposed})
    counts: dict[str, int] = {}
    zones = []
    for zone in proposed:
        counts[zone.sku] = counts.get(zone.sku, 0) + 1
        left, top, right, bottom = (round(side, 1) for side in zone.box)
        zones.append(
            Zone(
                id=f"{_name(zone.sku)}-{counts[zone.sku]}",
                camera="camera-1",
                sku=zone.sku,
                capacity=zone.capacity,
                polygon=((left, top), (right, top), (right, bottom), (left, bottom)),
            )
        )
    return StoreConfig(
        version=1,
        store=store,
        planogram=tuple(
            Product(sku=sku, gtin=_placeholder_gtin(number), name=sku.replace("-", " ").replace("_", " "))
            for number, sku in enumerate(skus, start=1)
        ),
        cameras=(Camera(id="camera-1", url=without_password(url), frame_size=frame_size),),
        zones=tuple(zones),
    )


def to_text(config: StoreConfig) -> str:
    """The YAML file, with hints on what to check."""
    hint = VARIABLE_HINT if any(PASSWORD_REFERENCE in camera.url for camera in config.cameras) else ""
    quoted = _GTIN_LINE.sub(r"\1'\2'", config.to_yaml())  # YAML quotes only those that look octal
    return HEADER + hint + quoted


def _placeholder_gtin(number: int) -> str:
    """GS1 General Specifications, section 2.1.11: prefixes 20 to 29 are free for use within a company."""
    digits = f"02{number:011d}"
    return f"{digits}{gtin_check_digit(digits)}"


def _name(sku: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", sku).strip("-")[:56] or "zone"
