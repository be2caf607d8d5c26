"""What a detector reports about one frame."""

from dataclasses import dataclass

PERSON = "person"
"""The class name of people; never a SKU."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One object. ``xyxy`` is left, top, right, bottom in pixels of the full camera frame (x to the
    right, y down); ``confidence`` is in [0, 1]; ``label`` is the class name, a SKU or ``person``."""

    xyxy: tuple[float, float, float, float]
    confidence: float
    class_id: int
    label: str

    @property
    def centre(self) -> tuple[float, float]:
        x1, y1, x2, y2 = self.xyxy
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True, slots=True)
class FrameStats:
    """What the picture itself says about the camera, measured on a grey thumbnail of the frame."""

    luma_mean: float
    """Mean brightness, 0 (black) to 255."""
    luma_std: float
    """Standard deviation of brightness over the picture."""
    edge_density: float
    """Share of pixels on an edge, 0 to 1."""
    changed: float
    """Mean absolute difference to the camera's previous inspected frame, 0 to 255. Exactly 0 only
    for a frozen picture: every real sensor has noise."""
    shift_px: float | None
    """How far the picture moved against the reference view, in pixels of the full frame; None when
    the two cannot be matched or there is no reference yet."""
    match: float | None
    """How well the picture matches the reference view, 0 (not at all) to 1; None without reference."""
