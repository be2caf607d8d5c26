"""One pod as processes: its init containers one after another, then its container, restarted for ever.

A pod is stepped by its supervisor a few times a second and never blocks. Its record on disk lets the
next supervisor start it again, as a kubelet does after a power cut.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contract.errors import ContractError
from contract.workload import HEALTH_STALE_S, AgentHealth, Env, decode_health
from controller.adapters.local import pod_files
from controller.adapters.local.layout import NodeDir, make_private, read_json, write_json
from controller.domain.workload import STORE_DIR
from controller.errors import PermanentError

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
STEADY_S = 30.0
"""A container that ran this long starts again with the first delay."""
LOG_MAX_BYTES = 10_000_000
LAST_WORDS_BYTES = 65_536
"""Enough for a line with an exception in it."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class PodRecord:
    """What must be known to start the pod again. ``template`` is the DaemonSet's pod template."""

    name: str
    template_hash: str
    rollout_id: str
    template: dict[str, Any]
    config_map: dict[str, Any]
    was_ready: bool = False


@dataclass
class Pod:
    record: PodRecord
    node: NodeDir
    secrets: Path | None
    process: subprocess.Popen[bytes] | None = None
    init_done: int = 0
    """How many init containers have succeeded in this life of the pod."""
    restarts: int = 0
    failures: int = 0
    """Restarts in a row without a steady run between them."""
    problem: str = ""
    blocked: bool = False
    """``problem`` stays until a person does something."""
    ready: bool = False
    pids: list[int] = field(default_factory=list)
    _started: float = 0.0
    _next_start: float = 0.0
    _kill_at: float | None = None
    _health_file: Path | None = None
    _health_seen: float | None = None

    @classmethod
    def load(cls, directory: Path, node: NodeDir, secrets: Path | None) -> "Pod | None":
        """The pod of a directory that an earlier supervisor left; None when it left no record."""
        record = read_json(directory / "pod.json")
        return cls(PodRecord(**record), node, secrets) if record else None

    @property
    def directory(self) -> Path:
        return self.node.pods / self.record.name

    @property
    def terminating(self) -> bool:
        return self._kill_at is not None

    @property
    def gone(self) -> bool:
        return self.terminating and self.process is None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def save(self) -> None:
        write_json(self.directory / "pod.json", asdict(self.record))

    def step(self, now: float) -> None:
        """``now`` is monotonic seconds."""
        if self.process is not None:
            code = self.process.poll()
            if code is not None:
                self._ended(code, now)
            elif self._kill_at is not None and now >= self._kill_at:
                self._signal(signal.SIGKILL)
        if self.terminating:
            self.ready = False
        elif self.process is None and now >= self._next_start:
            self._start(now)
        elif self.process is not None and self.init_done == len(self._inits):
            self._check(now)

    def terminate(self, now: float) -> None:
        """Ask the pod to go; it is killed when its grace period is over."""
        if not self.terminating:
            self._kill_at = now + float(self._spec.get("terminationGracePeriodSeconds", 30))
            self._signal(signal.SIGTERM)

    def remove_files(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.record.template["spec"]
        return spec

    @property
    def _inits(self) -> list[dict[str, Any]]:
        return list(self._spec.get("initContainers", ()))

    @property
    def _container(self) -> dict[str, Any]:
        container: dict[str, Any] = self._spec["containers"][0]
        return container

    def _start(self, now: float) -> None:
        """Start the next init container, or the container. A failure is a problem to retry, as in a
        pod that waits for its secret."""
        starting_init = self.init_done < len(self._inits)
        container = self._inits[self.init_done] if starting_init else self._container
        try:
            volumes = pod_files.write_volumes(
                self.record.template, self.record.config_map, self.directory, self.node, self.secrets
            )
            mounts = {**pod_files.mounts_of(container, volumes), STORE_DIR: self.node.store.root}
            env = pod_files.environment(container, mounts, self.node.name, self.secrets)
            if not starting_init and Env.HEALTH_FILE in env:
                self._health_file = Path(env[Env.HEALTH_FILE])
                self._health_file.unlink(missing_ok=True)
            self.process = self._spawn(container, env)
        except (OSError, PermanentError, ValueError, LookupError, TypeError) as error:
            self._retry(f"container {container.get('name')}: cannot start: {error}", now)
            self.blocked = isinstance(error, PermanentError)
            return
        self.blocked = False
        self._started, self._health_seen = now, None

    def _spawn(self, container: dict[str, Any], env: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [*container.get("command", ()), *container.get("args", ())]
        if not command:
            raise PermanentError("the template names no command")
        if "/" not in command[0]:
            beside = Path(sys.executable).with_name(command[0])
            command[0] = str(beside) if beside.exists() else command[0]
        make_private(self.node.logs)
        parent = os.getpid()

        def die_with_supervisor() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with self._log.open("ab") as log:
            if log.tell() > LOG_MAX_BYTES:
                log.truncate(0)
            # The supervisor has no threads, so running Python between fork and exec is safe.
            return subprocess.Popen(
                command,
                env=env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_supervisor,  # noqa: PLW1509
            )

    @property
    def _log(self) -> Path:
        return self.node.logs / f"{self.record.name}.log"

    def _ended(self, code: int, now: float) -> None:
        self._signal(signal.SIGKILL)  # whatever the process left behind in its group
        self.process, self.ready = None, False
        if self.terminating:
            return
        if self.init_done < len(self._inits):
            name = self._inits[self.init_done]["name"]
            if code == 0:
                self.init_done += 1
                self.problem = ""
                return
        else:
            name = self._container["name"]
            if now - self._started >= STEADY_S:
                self.failures = 0
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        self.restarts += 1
        self._retry(f"container {name} {how} (restart {self.restarts}){self._last_words()}", now)

    def _retry(self, problem: str, now: float) -> None:
        self.problem = problem
        self._next_start = now + min(RESTART_MAX_S, RESTART_FIRST_S * 2.0 ** min(self.failures, 10))
        self.failures += 1

    def _last_words(self) -> str:
        """The last line of the log: most often it says what was wrong."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - LAST_WORDS_BYTES))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError as error:
            return f"; its log cannot be read: {error}"
        return f": {spoken(lines[-1])[:300]}" if lines else ""

    def _check(self, now: float) -> None:
        health = self._read_health()
        fresh = health is not None and abs(time.time() - health.at.timestamp()) < HEALTH_STALE_S
        if health is not None and fresh:
            self._health_seen = now
            mine = str(health.rollout_id) == self.record.rollout_id
            self.ready = mine and health.phase in ("standby", "active")
            if health.phase == "failed":
                self.problem = f"the agent failed: {health.error}"
            elif not mine:
                self.problem = f"the agent reports rollout {health.rollout_id}, not its own"
            elif self.ready:
                self.problem = ""
                if not self.record.was_ready:
                    self.record.was_ready = True
                    self.save()
            return
        self.ready = False
        since = self._health_seen if self._health_seen is not None else self._started
        probe = "livenessProbe" if self._health_seen is not None else "startupProbe"
        if now - since > self._allowed(probe):
            self.problem = f"no sign of life for {now - since:.0f} s; killed"
            self._signal(signal.SIGKILL)
        elif self._health_seen is not None:
            self.problem = f"no sign of life for {now - since:.0f} s"

    def _allowed(self, probe: str) -> float:
        found = self._container.get(probe, {})
        return float(found.get("periodSeconds", 10)) * float(found.get("failureThreshold", 3))

    def _read_health(self) -> AgentHealth | None:
        if self._health_file is None:
            return None
        try:
            return decode_health(self._health_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ContractError) as error:
            self.problem = f"unreadable health file: {error}"
            return None

    def _signal(self, number: int) -> None:
        """To the whole process group; a process that is gone already is none of our concern."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return


def spoken(line: str) -> str:
    """What a line of a log says: message and detail of the agent's JSON, any other line as it is."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, dict) or "message" not in record:
        return line
    parts = [str(record[key]) for key in ("message", "detail") if record.get(key)]
    return ": ".join(parts)
