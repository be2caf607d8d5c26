"""The fronts of the packages, drawn once per process: silhouette, print, light on the material."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from camera_sims.catalogue import BY_SKU, Package, Shape
from camera_sims.prints import PRINTS, Image

OVERSAMPLING = 3
"""Fronts are drawn this many times larger than they stand on the shelf."""


@dataclass(frozen=True, slots=True)
class Front:
    """``image`` is BGR, ``alpha`` 0 to 1 (float32), both ``OVERSAMPLING`` times shelf size; ``outline``
    holds points (x, y) of the silhouette's convex hull in the same pixels."""

    image: Image
    alpha: npt.NDArray[np.float32]
    outline: npt.NDArray[np.float32]


@lru_cache(maxsize=64)
def front(sku: str) -> Front:
    package = BY_SKU[sku]
    width, height = package.width * OVERSAMPLING, package.height * OVERSAMPLING
    image = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [_silhouette(package, width, height)], 255)
    PRINTS[sku](image)
    shaded = np.clip(image * _shading(package.shape, width, height), 0, 255).astype(np.uint8)
    if package.shape in (Shape.CAN, Shape.JAR):
        _metal(shaded, package.shape)
    hull = cv2.convexHull(cv2.findNonZero(mask)).reshape(-1, 2).astype(np.float32)
    alpha = np.asarray(cv2.GaussianBlur(mask, (3, 3), 0), np.float32) / np.float32(255)
    return Front(shaded, alpha, hull)


def _silhouette(package: Package, w: int, h: int) -> npt.NDArray[np.int32]:
    match package.shape:
        case Shape.CAN:
            inset, lip = 0.09, 0.05
            points = [(inset, 0), (1 - inset, 0), (1, lip), (1, 1 - lip), (1 - inset, 1), (inset, 1),
                      (0, 1 - lip), (0, lip)]  # fmt: skip
        case Shape.BOTTLE:
            neck = 0.17
            points = [(0.5 - neck, 0), (0.5 + neck, 0), (0.5 + neck, 0.13), (0.9, 0.28), (1, 0.34),
                      (1, 0.97), (0.95, 1), (0.05, 1), (0, 0.97), (0, 0.34), (0.1, 0.28),
                      (0.5 - neck, 0.13)]  # fmt: skip
        case Shape.BAG:
            points = [(0.02, 0), (0.98, 0), (0.96, 0.06), (1, 0.3), (0.98, 0.7), (1, 0.94), (0.97, 1),
                      (0.03, 1), (0, 0.94), (0.02, 0.7), (0, 0.3), (0.04, 0.06)]  # fmt: skip
        case Shape.CARTON:
            points = [
                (0.1, 0),
                (0.9, 0),
                (0.9, 0.05),
                (1, 0.2),
                (1, 1),
                (0, 1),
                (0, 0.2),
                (0.1, 0.05),
            ]
        case Shape.JAR:
            points = [(0.08, 0), (0.92, 0), (0.92, 0.16), (1, 0.26), (1, 0.95), (0.94, 1), (0.06, 1),
                      (0, 0.95), (0, 0.26), (0.08, 0.16)]  # fmt: skip
        case Shape.BOX:
            points = [(0, 0), (1, 0), (1, 1), (0, 1)]
    return np.array([(round(x * (w - 1)), round(y * (h - 1))) for x, y in points], np.int32)


def _shading(shape: Shape, w: int, h: int) -> npt.NDArray[np.float32]:
    """Brightness factor per pixel: round packages darken to the sides and shine left of the middle."""
    x = np.linspace(-1, 1, w, dtype=np.float32)
    y = np.linspace(0, 1, h, dtype=np.float32)
    if shape in (Shape.CAN, Shape.BOTTLE, Shape.JAR):
        row = 1.0 - 0.55 * np.abs(x) ** 3 + 0.28 * np.exp(-(((x + 0.45) / 0.16) ** 2))
        column = np.ones(h, np.float32)
    elif shape is Shape.BAG:
        row = 0.95 - 0.25 * np.abs(x) ** 4 + 0.12 * np.sin(x * 9 + 0.6)
        column = 1.0 + 0.10 * np.sin(y * 23) * np.exp(-(((y - 0.1) / 0.25) ** 2)) - 0.12 * y**3
    else:
        row = 1.03 - 0.10 * (x + 1) / 2
        column = 1.04 - 0.14 * y
    factor = np.outer(column, row).astype(np.float32)
    if shape in (Shape.BOX, Shape.CARTON):
        edge = max(2, w // 40)
        factor[:, -edge:] *= 0.62
        factor[:edge] *= 1.12
        factor[-edge:] *= 0.7
    return factor[:, :, None]


def _metal(image: Image, shape: Shape) -> None:
    """Rims of a can, or the shadow under a jar's lid."""
    h = image.shape[0]
    if shape is Shape.CAN:
        rim = round(h * 0.045)
        for rows in (slice(0, rim), slice(h - rim, h)):
            image[rows] = (image[rows] * 0.2 + np.array((190, 188, 185)) * 0.8).astype(np.uint8)
        image[rim : rim + 3] = (image[rim : rim + 3] * 0.5).astype(np.uint8)
    else:
        line = round(h * 0.17)
        image[line : line + 5] = (image[line : line + 5] * 0.45).astype(np.uint8)
