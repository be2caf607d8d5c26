"""How large an image is, what makes it so, and how long its program takes to start.

Sizes are of the files as unpacked, in MB of 10^6 bytes; a hard link counts once. Times are from calling
the container runtime to the end of the command in the container, which has a read-only root file system.
"""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k3s.images.build import CHECKOUT, base_reference, build_images, stored_name
from k3s.images.buildah import Buildah
from k3s.images.container import Container, image_config
from k3s.testbed.errors import TestbedError

MB = 1e6
SITE_PACKAGES = "opt/storefleet/lib/python3*/site-packages"
STARTS: dict[str, dict[str, Sequence[str]]] = {
    "agent": {
        "container alone": ("true",),
        "health probe": ("storefleet", "agent", "health", "--file", "/tmp/none"),  # noqa: S108
        "all imports of 'agent run'": ("python3", "-c", "import agent.cli_run"),
    },
    "controller": {
        "container alone": ("true",),
        "controller --help": ("storefleet", "controller", "--help"),
    },
    "sim": {"container alone": ("true",), "sim --help": ("storefleet", "sim", "--help")},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one image. ``components``: MB by what it belongs to, largest first; ``starts``: median seconds."""

    target: str
    total_mb: float
    base_mb: float
    components: Mapping[str, float]
    starts: Mapping[str, float]

    @property
    def above_base_mb(self) -> float:
        return self.total_mb - self.base_mb


def measure(target: str, *, cache: Path, checkout: Path = CHECKOUT, repeats: int = 5) -> Measured:
    """Build the image if need be and measure it.

    Raises:
        TestbedError: it cannot be built, or does not start.
    """
    name = stored_name(build_images([target], cache=cache, checkout=checkout)[target])
    buildah = Buildah(cache)
    with buildah.mounted(base_reference(buildah)) as base:
        base_mb = tree_mb(base)
    with buildah.mounted(name) as root:
        container = Container(root, image_config(buildah, name))
        return Measured(
            target,
            tree_mb(root),
            base_mb,
            components_of(root),
            {
                what: _median_start(container, words, repeats)
                for what, words in STARTS.get(target, {}).items()
            },
        )


def tree_mb(root: Path) -> float:
    """Of all files below, without leaving the file system."""
    seen: dict[int, int] = {}
    for path in _files(root):
        status = path.lstat()
        seen[status.st_ino] = status.st_size
    return sum(seen.values()) / MB


def components_of(root: Path, *, smallest_mb: float = 3.0) -> dict[str, float]:
    """MB of each installed package (with the libraries it bundles); the small ones together."""
    sizes: dict[str, float] = {}
    for site in root.glob(SITE_PACKAGES):
        for entry in site.iterdir():
            name = entry.name.split(".")[0].replace("opencv_python_headless", "cv2")
            sizes[name] = sizes.get(name, 0.0) + tree_mb(entry)
    large = {name: size for name, size in sizes.items() if size >= smallest_mb}
    ordered = dict(sorted(large.items(), key=lambda item: -item[1]))
    return {**ordered, "all others": sum(sizes.values()) - sum(large.values())}


def _files(root: Path) -> Iterator[Path]:
    if root.is_symlink() or root.is_file():
        yield root
        return
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def _median_start(container: Container, words: Sequence[str], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.monotonic()
        done = container.run(words)
        seconds.append(time.monotonic() - began)
        if done.returncode > 1:  # 1 is what a probe says without an agent
            raise TestbedError(f"'{' '.join(words)}' failed in the image: {done.stderr[-400:]}")
    return statistics.median(seconds)
