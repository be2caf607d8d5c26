"""How many cores OpenCV may use in the agent's own process."""

import cv2


def use_one_thread() -> None:
    """Keep OpenCV off the cores that the detector and the camera workers need.

    Thumbnails are too small to gain from several: an inspection of a 1280x720 frame took 3.0 ms of processor
    time with one thread and 3.3 ms with two.
    """
    cv2.setNumThreads(1)
