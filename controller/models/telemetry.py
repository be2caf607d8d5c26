"""Keeps OpenVINO from reporting its use to a web analytics service.

``import openvino`` sends an event by default, from a thread, unless the package that does so cannot
be imported. A shop's model work is nobody else's business, and a firewalled machine would wait for it.
"""

import sys


def forbid_telemetry() -> None:
    """Call before the first import of ``openvino`` or ``nncf``; harmless when called again."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: import fails
