"""``python -m controller.models.isolated_export WEIGHTS HEIGHT WIDTH HEAD`` opens a checkpoint.

A PyTorch checkpoint is a pickle, and loading one runs whatever its author wanted. So it is opened in
a process of its own, which first gives up what it does not need: the network (where the kernel lets
an unprivileged process do so), the environment, and unbounded CPU time, file sizes and core dumps. It
still runs as the user who called it: export only checkpoints whose origin you know. Nothing but the
ONNX file it writes is read afterwards, and that is parsed as data.
"""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from controller.errors import PermanentError
from controller.models.errors import CheckpointError
from controller.models.yolo import Head

TIMEOUT_S = 600
MAX_FILE_BYTES = 1024**3
MAX_ADDRESS_SPACE = 32 * 1024**3
"""Bytes. PyTorch's CUDA builds reserve some 10 GB of address space without using it."""

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_KEPT = ("PATH", "LANG", "OMP_NUM_THREADS", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


def export_isolated(checkpoint: Path, image_size: tuple[int, int], head: Head, out: Path) -> None:
    """Turn ``checkpoint`` into the ONNX file ``out`` at ``image_size`` (height, width) in such a process.

    Raises ``CheckpointError`` with the last line that the process wrote.
    """
    with tempfile.TemporaryDirectory(prefix="storefleet-export-") as directory:
        copy = Path(directory) / "weights.pt"
        try:
            shutil.copyfile(checkpoint, copy)
        except OSError as error:
            raise CheckpointError(f"cannot read {checkpoint}: {error.strerror}") from error
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "HOME": directory, "TMPDIR": directory, "YOLO_CONFIG_DIR": directory,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }  # fmt: skip
        command = [sys.executable, "-m", __name__, str(copy), *(str(side) for side in image_size), head]
        try:
            done = subprocess.run(
                command, cwd=directory, env=environment, capture_output=True, text=True,
                errors="replace", timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(f"{checkpoint.name}: export took longer than {TIMEOUT_S} s") from error
        written = copy.with_suffix(".onnx")
        if done.returncode != 0 or not written.is_file() or written.is_symlink():
            lines = (done.stderr or done.stdout).strip().splitlines()
            reason = lines[-1] if lines else f"exit status {done.returncode}"
            raise CheckpointError(f"{checkpoint.name}: {reason.replace(str(copy), checkpoint.name)}")
        shutil.copyfile(written, out)


def _give_up_privileges() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_S, TIMEOUT_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        # Containers often forbid this; what else is given up still holds.
        print(f"network stays reachable: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    _give_up_privileges()
    from controller.models import yolo

    weights, height, width, head = arguments
    try:
        yolo.export_onnx(Path(weights), (int(height), int(width)), "nms" if head == "nms" else "end2end")
    except PermanentError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
