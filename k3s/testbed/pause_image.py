"""Compiles ``pause.c`` and packs it into an OCI image archive: the testbed's one image, made on the spot."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from k3s.testbed.commands import run
from k3s.testbed.errors import TestbedError

PAUSE_IMAGE = "storefleet.io/testbed/pause:1"
SOURCE = Path(__file__).with_name("pause.c")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def build_pause(directory: Path) -> tuple[Path, Path]:
    """The program and the image archive, in ``directory``; made once for each state of the source."""
    content = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    program, archive = directory / f"pause-{content}", directory / f"pause-{content}.tar"
    if not archive.exists():
        directory.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-static", "-Os", "-s", "-o", program, SOURCE])
        archive.write_bytes(oci_archive(PAUSE_IMAGE, {"pause": program.read_bytes()}, ["/pause"]))
    return program, archive


def oci_archive(name: str, programs: dict[str, bytes], entrypoint: list[str]) -> bytes:
    """An image of one layer that holds executable files in its root, as an OCI archive (tar)."""
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise TestbedError(f"the testbed runs on {', '.join(ARCHITECTURES)}, not on {platform.machine()}")
    layer = _tar(programs, mode=0o755)
    configuration = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(configuration, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
    )
    described = _descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"io.containerd.image.name": name}}],
    }
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, configuration, manifest)}
    return _tar(
        {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs},
        mode=0o644,
    )


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
