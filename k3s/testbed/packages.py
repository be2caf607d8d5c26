"""The Debian packages that the testbed needs.

``python3 k3s/testbed/packages.py`` prints their names, so that a set-up script need not repeat the list. It
runs before anything is installed, so this module imports nothing but the standard library.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package; it is there when ``program`` is. ``why`` is for people."""

    name: str
    program: str
    why: str

    @property
    def present(self) -> bool:
        return (
            Path(self.program).exists() if self.program.startswith("/") else bool(shutil.which(self.program))
        )


CNI_BIN = "/usr/lib/cni"
GO = "/usr/lib/go-1.19/bin/go"
REFLECT2 = "/usr/share/gocode/src/github.com/modern-go/reflect2"

RUN = (
    Package("iproute2", "ip", "network namespaces and links"),
    Package("openssl", "openssl", "certificates"),
    Package("gcc", "gcc", "the sandbox image's one program"),
    Package("libc6-dev", "/usr/include/signal.h", "the same"),
    Package("containerd", "containerd", "runs the containers"),
    Package("runc", "runc", "the same"),
    Package("containernetworking-plugins", f"{CNI_BIN}/ptp", "the pods' network"),
    Package("etcd-server", "etcd", "the control plane's store"),
)
"""To run stores."""

BUILD = (
    Package("golang-1.19-go", GO, "compiles Kubernetes"),
    Package("make", "make", "the same"),
    Package("rsync", "rsync", "the same"),
    Package("golang-github-modern-go-reflect2-dev", REFLECT2, "replaces a library that this Go breaks"),
)
"""To build Kubernetes from Debian's source, besides."""

IMAGES = (
    Package("buildah", "buildah", "builds container images without a daemon"),
    Package("debootstrap", "debootstrap", "makes a base image from the Debian archive"),
)
"""To build container images for the stores; the testbed itself does not need them."""


if __name__ == "__main__":
    sys.stdout.write("".join(f"{package.name}\n" for package in (*RUN, *BUILD, *IMAGES)))
