"""A store's cluster on this machine: the DaemonSet's pods as supervised processes.

One supervisor process a node reads what should run from a file and writes what does run to another.
The controller only writes and reads these files, so agents go on when it is killed. Files of a store
``S`` with node ``N`` under the run directory::

    S/desired.json                    DaemonSet and ConfigMap, written by the controller
    S/nodes/N/observed.json           what runs, written by the supervisor
    S/nodes/N/supervisor.lock, .log   held as long as the supervisor lives
    S/nodes/N/host/…                  the node's directories behind claims; survive pods
    S/nodes/N/pods/P/                 one pod: pod.json, config and secret files, emptyDirs
    S/nodes/N/logs/P.log              output of a pod's processes

Not reproduced from Kubernetes: resource limits, security contexts, images.
"""
