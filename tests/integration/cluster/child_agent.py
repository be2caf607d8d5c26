"""What the local cluster runs in its tests instead of the real agent: a program that keeps the same
contract (environment, files, node lock, health file) and little else.

``CHILD_MODE`` chooses how it misbehaves: ``never_ready``, ``crash``, ``hang`` (stops writing health) or
``deaf`` (ignores SIGTERM). Who watched the cameras when is appended to ``watch.log`` in the data directory.
"""

import fcntl
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from contract.workload import AgentHealth, Env, Phase

MODE = os.environ.get("CHILD_MODE", "")
data = Path(os.environ[Env.DATA_DIR])
rollout = UUID(os.environ[Env.ROLLOUT_ID])


def fetch() -> None:
    for name in (Env.CONFIG_FILE, Env.MODEL_MANIFEST_FILE, Env.TRUSTED_KEYS_FILE, Env.MQTT_PASSWORD_FILE):
        Path(os.environ[name]).read_text()
    (data / "model.bin").write_text("fetched")


def write_health(phase: Phase) -> None:
    path = Path(os.environ[Env.HEALTH_FILE])
    health = AgentHealth(pid=os.getpid(), at=datetime.now(UTC), phase=phase, rollout_id=rollout)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(health.to_bytes())
    temporary.replace(path)


def note(what: str) -> None:
    with (data / "watch.log").open("a") as log:
        log.write(f"{time.time()} {what} {rollout} {os.getpid()} {os.environ[Env.DEVICE]}\n")


def run() -> None:
    assert (data / "model.bin").read_text() == "fetched"
    stop = False

    def on_term(_number: int, _frame: object) -> None:
        nonlocal stop
        stop = MODE != "deaf"

    signal.signal(signal.SIGTERM, on_term)
    if MODE == "crash":
        print("no camera could be opened", flush=True)
        sys.exit(3)
    lock = os.open(data / "node.lock", os.O_RDWR | os.O_CREAT)
    active = False
    beats = 0
    while not stop:
        if not active and MODE != "never_ready":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                active = False
            else:
                active = True
                note("begin")
        beats += 1
        if MODE != "hang" or beats < 3:
            write_health("starting" if MODE == "never_ready" else "active" if active else "standby")
        time.sleep(0.05)
    if active:
        note("end")


if __name__ == "__main__":
    {"fetch": fetch, "run": run}[sys.argv[1]]()
