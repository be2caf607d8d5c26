"""The newest frames of one camera in memory shared by its worker and the agent.

Three slots in a ring: the writer never touches the newest finished slot, so a reader has at least one
whole frame interval to copy it. Each slot carries a sequence number that is odd while the slot is being
written (a seqlock); a reader that was overtaken sees it change and reads again. Nothing is ever waited
for, so neither side can hang the other. The memory is anonymous (memfd): it has no name, needs no
clean-up after a crash, and the pages of a slot that no frame fills are never allocated.

Layout, little-endian: a header page (u64 newest frame number, u64 frames read, f64 time of the last
read), then per slot a page (u64 sequence, u64 number, f64 captured_at, u32 width, u32 height) and room
for the largest frame, rows packed, BGR.
"""

import mmap
import os
import struct
from dataclasses import dataclass

import numpy as np

from agent.ports import Frame, Image

MAX_WIDTH = 3840
MAX_HEIGHT = 2160
SLOTS = 3
_PAGE = 4096
_ROOM = -(-MAX_WIDTH * MAX_HEIGHT * 3 // _PAGE) * _PAGE
_STRIDE = _PAGE + _ROOM
SIZE = _PAGE + SLOTS * _STRIDE
_HEADER = struct.Struct("<QQd")
_SLOT = struct.Struct("<QQdII")
_NUMBER = struct.Struct("<Q")
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Progress:
    newest: int
    """Number of the newest frame, 0 before the first."""
    read: int
    """Frames read from the camera so far, those included that nobody looked at."""
    read_at: float
    """When the last one was read, seconds since the epoch; 0.0 before the first."""


def create() -> int:
    """A file descriptor of new, empty shared frames."""
    fd = os.memfd_create("camera-frames", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd


def fits(width: int, height: int) -> bool:
    """Whether a frame of this size has room: 3840x2160 or less, or its upright twin."""
    return 0 < width * height <= MAX_WIDTH * MAX_HEIGHT and max(width, height) <= MAX_WIDTH


class FrameWriter:
    """The worker's side. One writer at a time; a new one carries on where a killed one stopped."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)
        self._newest, self._read, self._read_at = _HEADER.unpack_from(self._memory, 0)

    def count_read(self, now: float) -> None:
        """A frame was read at ``now``, whether or not it will be published."""
        self._read += 1
        self._read_at = now
        self._write_header()

    def publish(self, image: Image, captured_at: float) -> int:
        """Make ``image`` the newest frame; returns its number."""
        height, width = image.shape[:2]
        number: int = self._newest + 1
        at = _PAGE + (number % SLOTS) * _STRIDE
        sequence: int = _NUMBER.unpack_from(self._memory, at)[0] | 1
        _NUMBER.pack_into(self._memory, at, sequence)
        _SLOT.pack_into(self._memory, at, sequence, number, captured_at, width, height)
        room = np.frombuffer(self._memory, np.uint8, width * height * 3, at + _PAGE)
        np.copyto(room.reshape(height, width, 3), image)
        _NUMBER.pack_into(self._memory, at, sequence + 1)
        self._newest = number
        self._write_header()
        return number

    def _write_header(self) -> None:
        _HEADER.pack_into(self._memory, 0, self._newest, self._read, self._read_at)


class FrameReader:
    """The agent's side. Reads only; safe from any thread."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE, prot=mmap.PROT_READ)

    def progress(self) -> Progress:
        return Progress(*_HEADER.unpack_from(self._memory, 0))

    def latest(self, after: int) -> Frame | None:
        """A copy of the newest whole frame if its number is above ``after``."""
        for _ in range(_ATTEMPTS):
            newest = self.progress().newest
            if newest <= after:
                return None
            at = _PAGE + (newest % SLOTS) * _STRIDE
            sequence, number, captured_at, width, height = _SLOT.unpack_from(self._memory, at)
            if sequence % 2 or number != newest or not fits(width, height):
                continue
            shared = np.frombuffer(self._memory, np.uint8, width * height * 3, at + _PAGE)
            image = shared.reshape(height, width, 3).copy()
            if _NUMBER.unpack_from(self._memory, at)[0] == sequence:
                return Frame(image, captured_at, number)
        return None
