"""Runs a program of an image the way a store's node does: the image's user, its root file system read-only.

Straight with runc, which is what containerd calls, so that images can be tried and measured without a
cluster. No network, no capabilities; ``/tmp`` and the data directory are the only places to write.
"""

import json
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k3s.images.buildah import Buildah

DATA = "/var/lib/storefleet"
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Container:
    """A mounted image that programs can be run in, one after the other.

    ``root`` is its root file system, ``config`` the image's (Docker's keys), ``mounts`` host directories
    by the place where the program finds them, read-only.
    """

    root: Path
    config: Mapping[str, Any]
    mounts: Mapping[str, Path] = field(default_factory=dict)

    def run(
        self, arguments: Sequence[str] = (), *, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``arguments``, or the image's own command, to its end."""
        words = list(arguments) or [*(self.config.get("Entrypoint") or ()), *self.config["Cmd"]]
        given = [*self.config["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        with tempfile.TemporaryDirectory(prefix="storefleet-runc-") as directory:
            bundle = Path(directory)
            (bundle / "config.json").write_text(json.dumps(self._specification(words, given)))
            return subprocess.run(
                ["runc", "--root", directory + "/state", "run", "--bundle", directory, uuid.uuid4().hex],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )

    def _specification(self, words: list[str], environment: list[str]) -> dict[str, Any]:
        user, _, group = str(self.config["User"]).partition(":")
        owner = [f"uid={user}", f"gid={group}"]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": int(user), "gid": int(group)},
                "args": words,
                "env": environment,
                "cwd": self.config.get("WorkingDir") or "/",
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.root), "readonly": True},
            "hostname": "store",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]},
                _tmpfs("/dev", "mode=755", "size=64k"),
                _tmpfs("/dev/shm", "mode=1777", "size=64m"),  # noqa: S108 - in the container
                _tmpfs("/tmp", "mode=1777", "size=64m"),  # noqa: S108
                _tmpfs(DATA, "mode=750", "size=64m", *owner),
                *(
                    {"destination": place, "type": "bind", "source": str(source), "options": ["rbind", "ro"]}
                    for place, source in self.mounts.items()
                ),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            },
        }


def _tmpfs(place: str, *options: str) -> dict[str, Any]:
    return {
        "destination": place,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", *options],
    }


def image_config(buildah: Buildah, tag: str) -> dict[str, Any]:
    """What an image says about itself: ``User``, ``Env``, ``Cmd``, ``Labels``, ``Healthcheck`` ..."""
    config: dict[str, Any] = buildah.inspect(tag)["config"]
    return config
