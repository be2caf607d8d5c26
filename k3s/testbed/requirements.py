"""Which of the packages that the testbed needs are missing, and the command that installs them."""

from k3s.testbed.errors import TestbedError
from k3s.testbed.packages import Package


def missing(packages: tuple[Package, ...]) -> tuple[str, ...]:
    return tuple(package.name for package in packages if not package.present)


def require(packages: tuple[Package, ...], purpose: str) -> None:
    """Raises TestbedError with the one command that installs what is missing."""
    absent = missing(packages)
    if absent:
        raise TestbedError(
            f"{purpose} needs packages that are not installed. As root:\n"
            f"    apt-get update && apt-get install --no-install-recommends {' '.join(absent)}\n"
            "(containerd and etcd need not run as services: the testbed starts its own.)"
        )
