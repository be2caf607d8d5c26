"""What a release is, and whether a store can run it.

A release binds a signed model manifest to an agent image. Together with a store's configuration it
says completely what a camera node has to run. Refusals are values: a sentence for an operator.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contract.signing import Signed
from contract.workload import Env, ModelManifest

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::\d+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_TAG = r"(?::[\w][\w.-]{0,127})?"
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_PATH}(?:/{_PATH})*{_TAG}(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
"""Grammar of an image reference: https://pkg.go.dev/github.com/distribution/reference"""

_SETTING = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.ASCII)
MAX_SETTING_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Release:
    """``signed`` is the manifest exactly as it was signed; ``manifest`` is its decoded payload."""

    name: str
    image: str
    manifest: ModelManifest
    signed: Signed
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment of the agent beyond ``contract.workload.Env``."""


def name_refusal(name: str) -> str | None:
    """Why ``name`` cannot name a release, or None. It becomes a Kubernetes label value."""
    if _NAME.fullmatch(name):
        return None
    return (
        f"release name {name[:80]!r}: use a-z, 0-9, '-' and '.', at most 63, first and last a letter or digit"
    )


def image_refusal(image: str) -> str | None:
    """Why ``image`` is no image reference, or None."""
    if len(image) <= 512 and _IMAGE.fullmatch(image):
        return None
    return (
        f"image {image[:200]!r} is not an image reference; expected registry/name:tag or "
        "registry/name@sha256:… in lower case"
    )


def setting_refusal(name: str, value: str) -> str | None:
    """Why a release cannot set this variable of the agent's environment, or None."""
    if not _SETTING.fullmatch(name):
        return f"setting {name[:80]!r}: a name is of A-Z, 0-9 and '_', not first a digit, at most 128"
    if name in set(Env):
        return f"setting {name}: the centre sets it itself"
    if name == "PATH" or name.startswith(("LD_", "PYTHON")):
        return f"setting {name}: it would run other code than the image's; change the image"
    if len(value) > MAX_SETTING_CHARS or not value.isprintable():
        return f"setting {name}: a value is one line of at most {MAX_SETTING_CHARS} characters"
    return None


def is_pinned(image: str) -> bool:
    """Whether the reference names exactly one image (by digest), not whatever a tag points at today."""
    return "@sha256:" in image


def fit_refusal(store: str, skus: Sequence[str], release: Release) -> str | None:
    """Why ``release`` cannot run in a store whose planogram has these SKUs, or None."""
    known = set(release.manifest.names)
    missing = [sku for sku in skus if sku not in known]
    if not missing:
        return None
    shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    model = f"{release.manifest.name}:{release.manifest.version}"
    return (
        f"store {store}: model {model} of release {release.name} has no class for {shown}; "
        "train a model with these SKUs or take them out of the store's planogram"
    )
