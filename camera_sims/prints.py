"""What is printed on each package: colour fields, a figure, lettering.

A detector must tell products apart by their print and not by their colour alone: lamps tint them.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""Height x width x 3, BGR, 8 bits."""
Colour = tuple[int, int, int]
"""Blue, green, red."""

WHITE: Colour = (245, 245, 245)
BLACK: Colour = (25, 22, 20)
GOLD: Colour = (70, 175, 215)


def _rect(image: Image, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    h, w = image.shape[:2]
    cv2.rectangle(
        image,
        (round(x0 * w), round(y0 * h)),
        (round(x1 * w), round(y1 * h)),
        colour,
        -1,
    )


def _oval(
    image: Image,
    x: float,
    y: float,
    rx: float,
    ry: float,
    colour: Colour,
    angle: float = 0,
) -> None:
    h, w = image.shape[:2]
    axes = (max(1, round(rx * w)), max(1, round(ry * w)))
    cv2.ellipse(
        image,
        (round(x * w), round(y * h)),
        axes,
        angle,
        0,
        360,
        colour,
        -1,
        cv2.LINE_AA,
    )


def _poly(image: Image, points: list[tuple[float, float]], colour: Colour) -> None:
    h, w = image.shape[:2]
    corners = np.array([(round(x * w), round(y * h)) for x, y in points], np.int32)
    cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)


def _text(image: Image, text: str, y: float, size: float, colour: Colour, bold: int = 0) -> None:
    """Centred lettering; ``size`` is its width as a share of the front."""
    h, w = image.shape[:2]
    font = cv2.FONT_HERSHEY_DUPLEX
    thickness = bold or max(2, w // 50)
    (natural, tall), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = size * w / natural
    origin = (round((1 - size) / 2 * w), round(y * h + tall * scale / 2))
    cv2.putText(image, text, origin, font, scale, colour, thickness, cv2.LINE_AA)


def _cola(image: Image) -> None:
    image[:] = (35, 25, 200)
    _poly(image, [(0, 0.52), (0.3, 0.44), (0.7, 0.60), (1, 0.5), (1, 0.62), (0.7, 0.72), (0.3, 0.56),
                  (0, 0.64)], WHITE)  # fmt: skip
    _text(image, "COLA", 0.30, 0.72, WHITE, 9)
    _text(image, "ORIGINAL", 0.82, 0.55, WHITE)


def _lemon(image: Image) -> None:
    image[:] = (60, 200, 225)
    _rect(image, 0, 0.68, 1, 1, (70, 150, 60))
    _oval(image, 0.5, 0.44, 0.33, 0.33, (240, 250, 250))
    _oval(image, 0.5, 0.44, 0.28, 0.28, (80, 225, 245))
    for turn in range(0, 180, 36):
        _oval(image, 0.5, 0.44, 0.28, 0.012, (240, 250, 250), turn)
    _text(image, "LEMON", 0.17, 0.7, (40, 110, 40), 8)
    _text(image, "soda", 0.80, 0.5, WHITE, 6)


def _energy(image: Image) -> None:
    image[:] = (45, 30, 28)
    _poly(image, [(0.62, 0.22), (0.25, 0.55), (0.47, 0.55), (0.36, 0.82), (0.78, 0.46), (0.54, 0.46)],
          (60, 255, 150))  # fmt: skip
    _rect(image, 0, 0.88, 1, 0.92, (60, 255, 150))
    _text(image, "VOLT", 0.14, 0.75, (60, 255, 150), 8)


def _water(image: Image) -> None:
    image[:] = (235, 215, 185)
    _rect(image, 0, 0, 1, 0.11, (190, 90, 20))
    _rect(image, 0, 0.42, 1, 0.78, (200, 110, 30))
    _poly(
        image,
        [
            (0, 0.72),
            (0.3, 0.56),
            (0.45, 0.65),
            (0.7, 0.5),
            (1, 0.7),
            (1, 0.78),
            (0, 0.78),
        ],
        WHITE,
    )
    _text(image, "AQUA", 0.48, 0.7, WHITE, 6)
    for y in (0.84, 0.89, 0.94):
        _rect(image, 0, y, 1, y + 0.008, (200, 180, 150))


def _orange(image: Image) -> None:
    image[:] = (20, 135, 245)
    _rect(image, 0, 0, 1, 0.11, (50, 140, 40))
    _rect(image, 0, 0.44, 1, 0.84, (225, 240, 250))
    _oval(image, 0.5, 0.69, 0.24, 0.24, (10, 130, 250))
    _oval(image, 0.62, 0.60, 0.12, 0.05, (50, 150, 40), -30)
    _text(image, "ORANGE", 0.50, 0.8, (30, 100, 220), 6)


def _cereal(image: Image) -> None:
    image[:] = (45, 195, 245)
    _rect(image, 0, 0, 1, 0.27, (150, 55, 35))
    _text(image, "CORN", 0.09, 0.62, (80, 225, 255), 9)
    _text(image, "FLAKES", 0.20, 0.72, WHITE, 7)
    _oval(image, 0.5, 0.67, 0.38, 0.22, WHITE)
    _oval(image, 0.5, 0.63, 0.32, 0.13, (40, 150, 235))
    for x, y in ((0.35, 0.62), (0.5, 0.65), (0.63, 0.61), (0.45, 0.59), (0.57, 0.67)):
        _oval(image, x, y, 0.06, 0.03, (30, 110, 200), 25)
    _text(image, "375 g", 0.93, 0.3, (60, 60, 60))


def _tea(image: Image) -> None:
    image[:] = (75, 115, 40)
    _rect(image, 0.06, 0.08, 0.94, 0.92, (190, 225, 205))
    _oval(image, 0.40, 0.40, 0.19, 0.08, (60, 140, 50), -35)
    _oval(image, 0.62, 0.40, 0.19, 0.08, (50, 110, 40), 215)
    _text(image, "GREEN", 0.66, 0.55, (50, 90, 30), 6)
    _text(image, "TEA", 0.82, 0.32, (50, 90, 30), 6)


def _pasta(image: Image) -> None:
    image[:] = (115, 45, 20)
    _text(image, "PENNE", 0.14, 0.76, WHITE, 8)
    _rect(image, 0, 0.25, 1, 0.29, (40, 40, 215))
    _oval(image, 0.5, 0.62, 0.37, 0.45, (120, 205, 240))
    for i in range(7):
        y = 0.42 + 0.065 * i
        _poly(
            image,
            [(0.25, y), (0.7, y - 0.03), (0.74, y + 0.01), (0.29, y + 0.04)],
            (75, 165, 215),
        )
    _text(image, "500 g", 0.94, 0.3, WHITE)


def _chips(image: Image) -> None:
    image[:] = (30, 75, 225)
    _rect(image, 0, 0, 1, 0.07, (200, 200, 205))
    _rect(image, 0, 0.93, 1, 1, (200, 200, 205))
    _oval(image, 0.5, 0.30, 0.42, 0.26, (40, 215, 250))
    _text(image, "CHIPS", 0.30, 0.66, (25, 30, 170), 9)
    for x, y, turn in (
        (0.32, 0.62, 20),
        (0.6, 0.60, -25),
        (0.48, 0.72, 5),
        (0.70, 0.76, 40),
    ):
        _oval(image, x, y, 0.17, 0.11, (95, 200, 245), turn)
        _oval(image, x, y, 0.12, 0.07, (70, 170, 225), turn)
    _text(image, "PAPRIKA", 0.87, 0.6, WHITE, 6)


def _coffee(image: Image) -> None:
    image[:] = (35, 50, 80)
    _rect(image, 0, 0, 1, 0.08, (25, 35, 55))
    _rect(image, 0.1, 0.16, 0.9, 0.42, GOLD)
    _text(image, "CAFE", 0.29, 0.62, (30, 40, 65), 8)
    for x, turn in ((0.35, 30), (0.63, -30)):
        _oval(image, x, 0.63, 0.14, 0.20, (30, 75, 135), turn)
        _oval(image, x, 0.63, 0.02, 0.18, (20, 40, 70), turn)
    _rect(image, 0, 0.83, 1, 0.86, GOLD)
    _text(image, "ROAST", 0.92, 0.5, GOLD, 6)


def _milk(image: Image) -> None:
    image[:] = (240, 238, 232)
    _rect(image, 0, 0, 1, 0.2, (190, 120, 40))
    _text(image, "MILK", 0.31, 0.74, (170, 80, 20), 9)
    _oval(image, 0.30, 0.55, 0.18, 0.13, BLACK, 20)
    _oval(image, 0.70, 0.66, 0.20, 0.12, BLACK, -25)
    _poly(image, [(0, 0.84), (0.4, 0.76), (1, 0.86), (1, 1), (0, 1)], (80, 170, 70))
    _text(image, "1 L", 0.93, 0.24, WHITE, 6)


def _jam(image: Image) -> None:
    image[:] = (40, 20, 110)
    _rect(image, 0, 0, 1, 0.17, (235, 235, 240))
    for i in range(0, 10, 2):
        _rect(image, i / 10, 0, i / 10 + 0.1, 0.17, (50, 40, 190))
    _rect(image, 0.08, 0.38, 0.92, 0.86, (225, 235, 240))
    _poly(
        image,
        [(0.34, 0.55), (0.66, 0.55), (0.62, 0.68), (0.5, 0.82), (0.38, 0.68)],
        (50, 40, 215),
    )
    _oval(image, 0.5, 0.54, 0.13, 0.04, (60, 140, 60))
    _text(image, "JAM", 0.45, 0.34, (60, 30, 100), 5)


PRINTS: dict[str, Callable[[Image], None]] = {
    "cola-can": _cola,
    "lemon-can": _lemon,
    "energy-can": _energy,
    "water-bottle": _water,
    "orange-bottle": _orange,
    "cereal-box": _cereal,
    "tea-box": _tea,
    "pasta-box": _pasta,
    "chips-bag": _chips,
    "coffee-bag": _coffee,
    "milk-carton": _milk,
    "jam-jar": _jam,
}
