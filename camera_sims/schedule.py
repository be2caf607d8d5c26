"""Faults planned before a run: ``store/camera:fault:at:seconds``."""

from dataclasses import dataclass

from camera_sims.errors import SimulatorError
from camera_sims.faults import Fault, FaultBoard


@dataclass(frozen=True)
class PlannedFault:
    """``camera`` (as ``store/camera``) has ``fault`` from ``at`` for ``seconds``, in seconds of the run."""

    camera: str
    fault: Fault
    at: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "PlannedFault":
        """Read ``sim-1/cam-1:black:20:10``. Raises ``SimulatorError`` saying what is wrong."""
        usage = (
            f"{text!r} is not a planned fault: write store/camera:fault:at:seconds, sim-1/cam-1:black:20:10"
        )
        parts = text.split(":")
        if len(parts) != 4 or parts[0].count("/") != 1:
            raise SimulatorError(usage)
        try:
            planned = cls(parts[0], Fault(parts[1]), float(parts[2]), float(parts[3]))
        except ValueError as error:
            names = ", ".join(fault for fault in Fault if fault is not Fault.NONE)
            raise SimulatorError(f"{usage} (faults: {names})") from error
        if planned.fault is Fault.NONE or not (0 <= planned.at < 1e9 and 0 < planned.seconds < 1e9):
            raise SimulatorError(usage)
        return planned


class Schedule:
    """Asks ``board`` for each planned fault when its time has come."""

    def __init__(self, planned: tuple[PlannedFault, ...], board: FaultBoard) -> None:
        self._due = sorted(planned, key=lambda one: one.at, reverse=True)
        self._board = board

    def advance(self, elapsed: float, now: float) -> None:
        """``elapsed``: seconds since the run began; ``now``: the same moment on the board's clock."""
        while self._due and self._due[-1].at <= elapsed:
            one = self._due.pop()
            self._board.ask(one.camera, one.fault, now, one.seconds)
