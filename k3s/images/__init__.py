"""The project's container images, built on a machine without a registry: for the testbed and for tests.

Needs root, buildah and debootstrap. Elsewhere ``docker build`` does (see ``Dockerfile``). Example::

    from k3s.images import build_images, reference

    archive = build_images(["agent"])["agent"]
    store.load_image(archive)                   # the image is then called reference("agent")
"""

from k3s.images.archive import manifest_digest
from k3s.images.build import TESTED, build_images, reference

__all__ = ["TESTED", "build_images", "manifest_digest", "reference"]
