"""Pictures from bytes: the frames of a golden set."""

import cv2
import numpy as np

from agent.errors import ModelError
from agent.ports import Image


def decode_picture(data: bytes, size: tuple[int, int]) -> Image:
    """A JPEG or PNG of ``size`` (width, height), whose header was looked at before. Raises ``ModelError``."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ModelError(f"a picture of the golden set cannot be decoded: {error.err}") from error
    if image is None:
        raise ModelError("a picture of the golden set cannot be decoded; make the set again")
    picture = np.asarray(image, np.uint8)
    if picture.shape != (size[1], size[0], 3):
        found = f"{picture.shape[1]}x{picture.shape[0]}"
        raise ModelError(f"a picture of the golden set is {found}, not {size[0]}x{size[1]}")
    return picture
