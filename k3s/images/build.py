"""Builds images from the Dockerfile and keeps the archives in a cache, found again by what went into them.

The cache is ``$XDG_CACHE_HOME/storefleet/images`` (``~/.cache/...``): buildah's storage, whose layers make
the next build short, and the finished archives. A lock lets several checkouts share it.
"""

import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from k3s.images.buildah import CERTIFICATES, Buildah
from k3s.images.dockerfile import inputs_of, read_stages
from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError
from k3s.testbed.packages import IMAGES
from k3s.testbed.progress import Progress
from k3s.testbed.requirements import require

CHECKOUT = Path(__file__).resolve().parents[2]
TESTED = ("agent", "controller", "sim")
"""The targets that tests build. ``trainer`` builds the same way, but brings PyTorch with CUDA (7 GB)."""
BASE_SUITE = "bookworm"
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
"""What stands in for the official Python image, which a machine without a registry cannot pull."""
ARCHIVES_KEPT = 2
IMAGES_KEPT = 200
DEBOOTSTRAP_TIMEOUT_S = 600.0


def reference(target: str) -> str:
    """The name that a built image carries and that pods use."""
    return f"localhost/storefleet/{target}:test"


def stored_name(archive: Path) -> str:
    """What the image of an archive is called in the cache's storage, where ``reference`` moves on."""
    target, _, key = archive.stem.rpartition("-")
    return _stored(target, key)


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "storefleet" / "images"


def build_images(
    targets: Iterable[str] = TESTED,
    *,
    cache: Path | None = None,
    checkout: Path = CHECKOUT,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """An OCI archive for each target of the Dockerfile; its image is called ``reference(target)``.

    Seconds when nothing changed, about a minute for the first one. Safe to call from several processes.

    Raises:
        TestbedError: not root, a missing package, or a build that failed (with the end of its log).
    """
    cache = cache or default_cache()
    progress = progress or Progress(quiet=True)
    stages = read_stages((checkout / "Dockerfile").read_text())
    wanted = {target: input_key(checkout, inputs_of(stages, target)) for target in targets}
    if os.geteuid() != 0:
        raise TestbedError("building images needs root: containers and mounts are made")
    require(IMAGES, "building images")
    with _locked(cache):
        buildah = Buildah(cache)
        for target, key in wanted.items():
            archive = _archive(cache, target, key)
            if archive.exists() and buildah.has(_stored(target, key)):
                archive.touch()  # the oldest are removed first
                continue
            base = _build_base(buildah, progress)
            with progress.step(f"image {target}", slow=True):
                _build(buildah, checkout, target, key, base)
            with progress.step(f"archive of image {target}"):
                archive.parent.mkdir(exist_ok=True)
                buildah.run("tag", _stored(target, key), reference(target))
                buildah.export(reference(target), archive)
            _forget_old(buildah, cache, target)
        return {target: _archive(cache, target, key) for target, key in wanted.items()}


def input_key(checkout: Path, paths: Iterable[str]) -> str:
    """Of the contents of everything that goes into an image; 16 hexadecimal digits."""
    total = hashlib.sha256(f"{platform.machine()} {BASE_SUITE} {BASE_PACKAGES}".encode())
    for path in ("Dockerfile", ".dockerignore", *paths):
        place = checkout / path
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(f"\n{file.relative_to(checkout)} {file.stat().st_mode & 0o111}\n".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def _build(buildah: Buildah, checkout: Path, target: str, key: str, base: str) -> None:
    arguments = {"BASE": base, "REVISION": f"inputs-{key}"}
    authorities = CERTIFICATES / "ca-certificates.crt"
    if authorities.exists():
        arguments["PIP_CERT"] = str(authorities)
    log = buildah.cache / f"{target}.log"
    log.unlink(missing_ok=True)
    buildah.build(checkout, target, _stored(target, key), arguments, log)


def _build_base(buildah: Buildah, progress: Progress) -> str:
    key = hashlib.sha256(f"{platform.machine()} {BASE_PACKAGES}".encode()).hexdigest()[:8]
    tag = f"localhost/storefleet/base:{BASE_SUITE}-{key}"
    if not buildah.has(tag):
        with progress.step("base image from the Debian archive", slow=True):
            _debootstrap(buildah, tag)
    return tag


def base_reference(buildah: Buildah) -> str:
    """Of the base image; made when missing. For measurements."""
    return _build_base(buildah, Progress(quiet=True))


def _debootstrap(buildah: Buildah, tag: str) -> None:
    log = buildah.cache / "base.log"
    log.unlink(missing_ok=True)
    with buildah.container("scratch") as container:
        root = Path(buildah.run("mount", container).strip())
        include = f"--include={','.join(BASE_PACKAGES)}"
        run(
            ["debootstrap", "--variant=minbase", include, BASE_SUITE, root],
            timeout_s=DEBOOTSTRAP_TIMEOUT_S,
            log=log,
        )
        for leftover in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            for entry in (root / leftover).iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        buildah.run("umount", container)
        buildah.commit(container, tag)


def _stored(target: str, key: str) -> str:
    return f"localhost/storefleet/{target}:{key}"


def _archive(cache: Path, target: str, key: str) -> Path:
    return cache / "archives" / f"{target}-{key}.tar"


def _forget_old(buildah: Buildah, cache: Path, target: str) -> None:
    archives = sorted((cache / "archives").glob(f"{target}-*.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-ARCHIVES_KEPT]:
        archive.unlink()
    if len(buildah.images()) > IMAGES_KEPT:
        buildah.clear()


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
