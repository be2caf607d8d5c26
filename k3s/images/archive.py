"""Reads OCI image archives."""

import json
import tarfile
from pathlib import Path

from k3s.testbed.errors import TestbedError


def manifest_digest(archive: Path) -> str:
    """``sha256:…`` of the one image in an OCI archive, by which a release may name it.

    Raises:
        TestbedError: the file is not such an archive.
    """
    try:
        with tarfile.open(archive) as tar:
            index = tar.extractfile("index.json")
            if index is None:
                raise TestbedError(f"{archive} is not an OCI archive: index.json is not a file")
            manifests = json.load(index)["manifests"]
            (manifest,) = manifests
            return str(manifest["digest"])
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise TestbedError(f"{archive} is not an OCI archive of one image: {error}") from error
