"""Real Kubernetes clusters, one for each store, on one machine: for developers and for tests.

Needs root and a few Debian packages. Example::

    from k3s.testbed import Options, Testbed

    with Testbed(Options(name="mine", stores=("berlin-01", "paris-02"), nodes=(1, 2))) as stores:
        berlin, paris = stores
        paris.load_image(Path("agent.tar"))
        paris.nodes[1].kill("node")
        berlin.cut()
"""

from k3s.testbed.errors import TestbedError
from k3s.testbed.node import Node
from k3s.testbed.pause_image import PAUSE_IMAGE
from k3s.testbed.progress import Progress
from k3s.testbed.store import Store
from k3s.testbed.testbed import Options, Testbed

__all__ = ["PAUSE_IMAGE", "Node", "Options", "Progress", "Store", "Testbed", "TestbedError"]
