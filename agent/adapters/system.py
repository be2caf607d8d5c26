"""Load, memory, disk and temperature of the device, through psutil."""

from pathlib import Path

import psutil

from contract.messages import DeviceTelemetry

MB = 1024 * 1024


class SystemProbe:
    """Measures the whole device, and the memory of this process and its camera workers."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process = psutil.Process()
        psutil.cpu_percent(interval=None)  # The first value is meaningless; later ones span the calls.

    def measure(self) -> DeviceTelemetry:
        return DeviceTelemetry(
            cpu_percent=psutil.cpu_percent(interval=None),
            memory_mb=self._resident_bytes() / MB,
            memory_percent=psutil.virtual_memory().percent,
            disk_free_mb=_free_bytes(self._data_dir) / MB,
            temperature_c=_temperature(),
        )

    def _resident_bytes(self) -> int:
        total: int = self._process.memory_info().rss
        for child in self._process.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:
                continue  # It ended in between.
        return total


def _free_bytes(path: Path) -> int:
    existing = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
    free: int = psutil.disk_usage(str(existing)).free
    return free


def _temperature() -> float | None:
    """The hottest sensor in °C; None where the device has none."""
    readings = [r.current for sensors in psutil.sensors_temperatures().values() for r in sensors]
    return max(readings, default=None)
