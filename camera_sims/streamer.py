"""The port between a store's feed and the ways to stream its cameras."""

from typing import Protocol

from camera_sims.faults import Image


class Streamer(Protocol):
    """Streams pictures of cameras, named ``store/camera``, to whoever connects.

    ``send`` and ``repeat`` are for one thread per camera. All but ``close`` raise ``SimulatorError`` when
    streaming has broken down.
    """

    def audience(self, camera: str) -> int:
        """0 while nobody watches, else a number that changes when a new audience has come."""
        ...

    def send(self, camera: str, image: Image, *, fresh: bool = False, damage: bool = False) -> None:
        """Stream a picture (BGR, height x width x 3). ``fresh``: as one that needs no earlier picture;
        ``damage``: with some of its encoded bytes replaced."""
        ...

    def repeat(self, camera: str) -> None:
        """Stream the last fresh picture again, byte for byte where the protocol allows."""
        ...

    def close(self) -> None: ...
