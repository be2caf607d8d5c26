"""The shop without its goods and people: wall, floor, posters, clutter, the empty gondola.

Everything here is what a detector must *not* report, so there is plenty of lettering, coloured boxes and
round things among it.
"""

import cv2
import numpy as np

from camera_sims.planogram import (
    BOARD_HEIGHT,
    GONDOLA,
    HEADER_HEIGHT,
    PLANE_HEIGHT,
    PLANE_WIDTH,
    SHELF_PITCH,
    SHELVES,
    SIDE,
    Gondola,
)
from camera_sims.prints import Colour, Image

SIGNS = (
    "FRESH",
    "SALE",
    "DRINKS",
    "SNACKS",
    "OFFER",
    "NEW",
    "AISLE 4",
    "PANTRY",
    "-20 %",
    "BREAKFAST",
)


def draw_backdrop(gondola: Gondola, rng: np.random.Generator) -> Image:
    """The shelf plane's picture of the empty gondola, ``PLANE_HEIGHT`` x ``PLANE_WIDTH``."""
    base = rng.integers(90, 215)
    wall: Colour = _shade((int(base), int(base), int(base)), rng, 18)
    image = np.full((PLANE_HEIGHT, PLANE_WIDTH, 3), wall, np.uint8)
    image[760:] = _shade((95, 100, 105), rng, 30)
    for _ in range(int(rng.integers(3, 8))):
        _clutter(image, rng)
    _draw_gondola(image, rng)
    for zone in gondola.zones:
        for place in range(0, zone.capacity, 2):
            _price_tag(image, zone.slot_x(place), zone.floor + BOARD_HEIGHT / 2, rng)
    texture = rng.normal(0, 3, (PLANE_HEIGHT // 2, PLANE_WIDTH // 2)).astype(np.float32)
    grain = np.asarray(cv2.resize(texture, (PLANE_WIDTH, PLANE_HEIGHT)), np.float32)
    return np.asarray(np.clip(image + grain[:, :, None], 0, 255), np.uint8)


def _shade(colour: Colour, rng: np.random.Generator, spread: int) -> Colour:
    b, g, r = (int(np.clip(c + rng.integers(-spread, spread + 1), 5, 250)) for c in colour)
    return b, g, r


def _random_colour(rng: np.random.Generator) -> Colour:
    b, g, r = (int(c) for c in rng.integers(20, 240, 3))
    return b, g, r


def _clutter(image: Image, rng: np.random.Generator) -> None:
    """A poster, a stack of cartons or a round sign beside, above or below the gondola."""
    x, y = int(rng.integers(0, PLANE_WIDTH)), int(rng.integers(0, PLANE_HEIGHT))
    w, h = int(rng.integers(40, 170)), int(rng.integers(40, 190))
    colour = _random_colour(rng)
    match int(rng.integers(3)):
        case 0:
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, -1)
            _lettering(image, rng, x + 6, y + h // 2, w - 12, _random_colour(rng))
        case 1:
            cv2.rectangle(image, (x, y), (x + w, y + h), (95, 140, 175), -1)
            cv2.rectangle(image, (x, y), (x + w, y + h), (60, 95, 125), 2)
            cv2.rectangle(image, (x + w // 2 - 6, y), (x + w // 2 + 6, y + h), (120, 165, 195), -1)
        case _:
            cv2.circle(image, (x, y), w // 2, colour, -1, cv2.LINE_AA)
            _lettering(image, rng, x - w // 3, y + 8, 2 * w // 3, (240, 240, 240))


def _lettering(image: Image, rng: np.random.Generator, x: int, y: int, width: int, colour: Colour) -> None:
    text = str(rng.choice(SIGNS))
    (natural, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
    scale = max(0.3, width / natural)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, colour, 2, cv2.LINE_AA)


def _draw_gondola(image: Image, rng: np.random.Generator) -> None:
    left, top, right, bottom = GONDOLA
    grey = int(rng.integers(105, 205))
    panel = _shade((grey, grey, grey), rng, 12)
    frame = _shade((grey - 45, grey - 45, grey - 45), rng, 20)
    board = _shade((grey + 25, grey + 25, grey + 25), rng, 15)
    cv2.rectangle(image, (left, top), (right, bottom), panel, -1)
    if rng.random() < 0.5:
        step = int(rng.integers(14, 30))
        for y in range(top + HEADER_HEIGHT, bottom, step):
            for x in range(left + SIDE, right - SIDE, step):
                image[y : y + 3, x : x + 3] = (image[y : y + 3, x : x + 3] * 0.72).astype(np.uint8)
    for shelf in range(SHELVES):
        ceiling = top + HEADER_HEIGHT + shelf * SHELF_PITCH
        fade = np.linspace(0.55, 1.0, 70, dtype=np.float32)[:, None, None]
        under = image[ceiling : ceiling + 70, left:right]
        under[:] = (under * fade).astype(np.uint8)
        floor = ceiling + SHELF_PITCH - BOARD_HEIGHT
        cv2.rectangle(image, (left, floor - 4), (right, floor + 6), _shade(board, rng, 4), -1)
        cv2.rectangle(image, (left, floor + 6), (right, floor + BOARD_HEIGHT), board, -1)
        cv2.line(image, (left, floor + BOARD_HEIGHT), (right, floor + BOARD_HEIGHT), frame, 3)
    for x in (left, right - SIDE):
        cv2.rectangle(image, (x, top), (x + SIDE, bottom), frame, -1)
    header = _random_colour(rng)
    cv2.rectangle(image, (left, top), (right, top + HEADER_HEIGHT - 4), header, -1)
    for x in range(left + 60, right - 260, 380):
        _lettering(image, rng, x, top + 29, int(rng.integers(90, 130)), (240, 240, 240))


def _price_tag(image: Image, x: float, y: float, rng: np.random.Generator) -> None:
    special = rng.random() < 0.2
    colour: Colour = (60, 225, 250) if special else (245, 245, 240)
    left, top = round(x - 19), round(y - 9)
    cv2.rectangle(image, (left, top), (left + 38, top + 19), colour, -1)
    price = f"{int(rng.integers(0, 6))}.{int(rng.integers(10, 99))}"
    cv2.putText(
        image,
        price,
        (left + 3, top + 14),
        cv2.FONT_HERSHEY_DUPLEX,
        0.42,
        (30, 30, 30),
        1,
        cv2.LINE_AA,
    )
