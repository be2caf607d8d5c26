"""What the simulated shops sell.

Company prefix 952 in the GTINs is the one that GS1 sets aside for demonstrations (GS1 General
Specifications, section 1.4), so that no number here belongs to a real product.
"""

from dataclasses import dataclass
from enum import StrEnum

from contract.names import gtin_check_digit
from contract.store_config import Product

PERSON = "person"
"""Class name of people in the dataset; never a SKU."""


class Shape(StrEnum):
    CAN = "can"
    BOTTLE = "bottle"
    BOX = "box"
    BAG = "bag"
    CARTON = "carton"
    JAR = "jar"


@dataclass(frozen=True, slots=True)
class Package:
    """One SKU. ``width`` and ``height`` are the size of its front on the shelf, in pixels of the
    rectified shelf picture (about one pixel of a 1280x720 frame)."""

    sku: str
    name: str
    number: int
    shape: Shape
    width: int
    height: int

    @property
    def gtin(self) -> str:
        body = f"0952{self.number:09d}"
        return f"{body}{gtin_check_digit(body)}"

    def product(self) -> Product:
        return Product(sku=self.sku, gtin=self.gtin, name=self.name)


CATALOGUE: tuple[Package, ...] = (
    Package("cola-can", "Cola 330 ml", 1001, Shape.CAN, 58, 100),
    Package("lemon-can", "Lemon soda 330 ml", 1002, Shape.CAN, 58, 100),
    Package("energy-can", "Energy drink 500 ml", 1003, Shape.CAN, 56, 132),
    Package("water-bottle", "Still water 750 ml", 1101, Shape.BOTTLE, 54, 162),
    Package("orange-bottle", "Orange juice 1 l", 1102, Shape.BOTTLE, 60, 152),
    Package("cereal-box", "Corn flakes 375 g", 1201, Shape.BOX, 78, 136),
    Package("tea-box", "Green tea 20 bags", 1202, Shape.BOX, 74, 84),
    Package("pasta-box", "Penne 500 g", 1203, Shape.BOX, 66, 124),
    Package("chips-bag", "Paprika chips 175 g", 1301, Shape.BAG, 80, 120),
    Package("coffee-bag", "Roast coffee 250 g", 1302, Shape.BAG, 64, 128),
    Package("milk-carton", "Milk 1 l", 1401, Shape.CARTON, 62, 142),
    Package("jam-jar", "Strawberry jam 340 g", 1501, Shape.JAR, 64, 86),
)
"""Order is the class id of the dataset; ``PERSON`` comes last."""

CLASS_NAMES: tuple[str, ...] = (*(package.sku for package in CATALOGUE), PERSON)
BY_SKU: dict[str, Package] = {package.sku: package for package in CATALOGUE}
