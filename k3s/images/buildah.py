"""Runs buildah with storage of its own below the cache, so that nobody's images are touched."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k3s.testbed.commands import run

CERTIFICATES = Path("/etc/ssl/certs")
BUILD_TIMEOUT_S = 1800.0
STEP_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Buildah:
    """``cache``: directory that holds the storage; made when missing. Raises TestbedError throughout."""

    cache: Path

    def run(self, *arguments: str | Path, timeout_s: float = STEP_TIMEOUT_S, log: Path | None = None) -> str:
        storage: list[str | Path] = ["--root", self.cache / "storage", "--runroot", self.cache / "run"]
        command: list[str | Path] = ["buildah", *storage, "--storage-driver", "overlay", *arguments]
        return run(command, timeout_s=timeout_s, log=log)

    def build(self, context: Path, target: str, tag: str, arguments: dict[str, str], log: Path) -> None:
        """``docker build``, with the host's network and its certificate authorities.

        Docker's image format, because OCI's has no HEALTHCHECK.
        """
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        mounts = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []
        isolation = ["--isolation", "chroot", "--network", "host"]
        self.run(
            *["build", *isolation, "--format", "docker", "--layers", *mounts, *given],
            *["--target", target, "--tag", tag],
            "--file",
            context / "Dockerfile",
            context,
            timeout_s=BUILD_TIMEOUT_S,
            log=log,
        )

    def images(self) -> list[str]:
        """Identifiers of all that is stored, the layers in between included."""
        return self.run("images", "--all", "--quiet", "--no-trunc").split()

    def has(self, tag: str) -> bool:
        stored = json.loads(self.run("images", "--json") or "null") or []
        return any(tag in (image.get("names") or ()) for image in stored)

    def inspect(self, tag: str) -> dict[str, Any]:
        """Docker's view of an image: ``config`` with ``User``, ``Labels``, ``Healthcheck`` and so on."""
        described: dict[str, Any] = json.loads(self.run("inspect", "--type", "image", tag))["Docker"]
        return described

    @contextmanager
    def mounted(self, tag: str) -> Iterator[Path]:
        """The root file system of a fresh container of an image (``scratch`` too), and gone afterwards."""
        with self.container(tag) as name:
            yield Path(self.run("mount", name).strip())

    @contextmanager
    def container(self, tag: str) -> Iterator[str]:
        """A fresh container's name."""
        name = self.run("from", *(() if tag == "scratch" else ("--pull-never",)), tag).strip()
        try:
            yield name
        finally:
            self.run("rm", name)

    def commit(self, container: str, tag: str) -> None:
        self.run("commit", "--quiet", "--format", "docker", container, tag)

    def export(self, tag: str, archive: Path) -> None:
        """Write an OCI archive that carries the image's name."""
        part = archive.with_suffix(".part")
        part.unlink(missing_ok=True)
        self.run("push", "--quiet", tag, f"oci-archive:{part}:{tag}")
        part.replace(archive)

    def clear(self, *, keep: Sequence[str] = ()) -> None:
        """Remove all images but ``keep``."""
        kept = {
            image["id"]
            for image in json.loads(self.run("images", "--json") or "null") or []
            if set(image.get("names") or ()) & set(keep)
        }
        for image in self.images():
            if image not in kept and image in self.images():  # removing one takes its nameless parents along
                self.run("rmi", "--force", image)
