"""Images built from the Dockerfile, and their programs run as a store's node runs them."""

import os
import platform
import shutil
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import cv2
import numpy as np
import pytest

from k3s.images import TESTED, build_images, manifest_digest, reference
from k3s.images.build import CHECKOUT, default_cache, stored_name
from k3s.images.buildah import Buildah
from k3s.images.container import Container, image_config
from k3s.images.dockerfile import inputs_of, read_stages
from k3s.images.measure import measure
from k3s.testbed.packages import IMAGES
from k3s.testbed.requirements import missing

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.timeout(900),  # the first build takes minutes
    pytest.mark.skipif(os.geteuid() != 0, reason="building images needs root"),
    pytest.mark.skipif(bool(missing(IMAGES)), reason=f"not installed: {', '.join(missing(IMAGES))}"),
]

AGENT_GOAL_MB = 450
SITE_PACKAGES = "opt/storefleet/lib/python3*/site-packages"
LOAD = """
import sys
from pathlib import Path
import numpy
from agent.adapters.model_file import open_detector
detector = open_detector(Path(sys.argv[1]), threads=1)
detector.detect(numpy.full((480, 640, 3), 90, numpy.uint8))
print(detector.info.runtime, len(detector.info.names))
"""
ABSENT = """
import importlib.util, shutil
programs = "gcc cc g++ c++ clang make ld as pip uv".split()
modules = "torch ultralytics pip setuptools openvino_telemetry kubernetes controller camera_sims".split()
print([name for name in programs if shutil.which(name)] +
      [name for name in modules if importlib.util.find_spec(name)])
"""
NOT_COMPILED = """
import os, sys
import agent.cli, agent.adapters.health_file
modules = [module for module in sys.modules.values() if getattr(module, "__cached__", None)]
print([module.__name__ for module in modules if not os.path.exists(module.__cached__)])
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that whoever edits a file meanwhile does not change the image between two tests."""
    copy = tmp_path_factory.mktemp("checkout")
    stages = read_stages((CHECKOUT / "Dockerfile").read_text())
    for path in {"Dockerfile", ".dockerignore"}.union(*(inputs_of(stages, target) for target in TESTED)):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        if (CHECKOUT / path).is_dir():
            shutil.copytree(CHECKOUT / path, copy / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(CHECKOUT / path, copy / path)
    return copy


@pytest.fixture(scope="module")
def archives(checkout: Path) -> dict[str, Path]:
    return build_images(TESTED, checkout=checkout)


@pytest.fixture(scope="module")
def containers(
    archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Container]]:
    buildah = Buildah(default_cache())
    video = tmp_path_factory.mktemp("video")
    video.chmod(0o755)  # the container has a user of its own
    _write_video(video / "shelf.avi")
    with ExitStack() as stack:
        mounts = {"/model": stack.enter_context(as_file(files("shipped_model"))), "/video": video}
        names = {target: stored_name(archive) for target, archive in archives.items()}
        yield {
            target: Container(stack.enter_context(buildah.mounted(name)), image_config(buildah, name), mounts)
            for target, name in names.items()
        }


def _write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for index in range(100):
        writer.write(np.full((480, 640, 3), 60 + index, np.uint8))
    writer.release()


@pytest.mark.parametrize("target", TESTED)
def test_image_runs_as_nobody_in_particular_without_rights(
    containers: dict[str, Container], target: str
) -> None:
    done = containers[target].run(["sh", "-c", "id -u; id -g; grep CapEff /proc/self/status"])
    assert done.stdout.split() == ["10001", "10001", "CapEff:", "0000000000000000"]


@pytest.mark.parametrize("target", TESTED)
def test_image_says_what_it_is_and_how_to_tell_that_it_is_well(
    containers: dict[str, Container], target: str
) -> None:
    config = containers[target].config
    prefix = "org.opencontainers.image."
    labels = {
        name.removeprefix(prefix): value
        for name, value in config["Labels"].items()
        if name.startswith(prefix)
    }
    assert {"title", "description", "version", "revision", "licenses", "vendor", "base.name"} <= labels.keys()
    assert labels["licenses"] == "AGPL-3.0-or-later"
    assert all(labels.values())
    assert config["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("agent", ["storefleet", "agent", "--help"]),
        ("controller", ["storefleet", "controller", "--help"]),
        ("controller", ["storefleet", "deploy", "--help"]),
        ("sim", ["storefleet", "sim", "run", "--help"]),
        ("sim", ["/usr/bin/python3", "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"]),
    ],
)
def test_program_starts_on_a_read_only_root(
    containers: dict[str, Container], target: str, command: list[str]
) -> None:
    done = containers[target].run(command)
    assert done.returncode == 0, done.stderr


def test_own_command_names_the_setting_that_is_missing(containers: dict[str, Container]) -> None:
    done = containers["agent"].run()
    assert done.returncode == 1
    assert "STOREFLEET_" in done.stderr + done.stdout


def test_health_check_fails_without_a_running_agent(containers: dict[str, Container]) -> None:
    agent = containers["agent"]
    done = agent.run(
        agent.config["Healthcheck"]["Test"][1:], environment={"STOREFLEET_HEALTH_FILE": "/tmp/health"}
    )
    assert done.returncode == 1
    assert "no agent has written its health yet" in done.stdout + done.stderr


@pytest.mark.parametrize("place", ["/", "/opt/storefleet", "/usr/bin", "/etc"])
def test_program_cannot_be_changed_from_inside(containers: dict[str, Container], place: str) -> None:
    done = containers["agent"].run(["touch", f"{place}/new"])
    assert "Read-only file system" in done.stderr


def test_program_belongs_to_root_even_where_the_root_is_writable(containers: dict[str, Container]) -> None:
    root = containers["agent"].root / "opt/storefleet"
    owned = [path for path in root.rglob("*") if path.lstat().st_uid or path.lstat().st_gid]
    writable = [path for path in root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert not owned
    assert not writable


def test_agent_image_has_no_compiler_installer_or_training_library(containers: dict[str, Container]) -> None:
    done = containers["agent"].run(["python3", "-c", ABSENT])
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize(("file", "runtime"), [("shelf.zip", "openvino"), ("shelf.onnx", "onnxruntime")])
def test_shipped_model_runs_in_the_slim_image(
    containers: dict[str, Container], file: str, runtime: str
) -> None:
    done = containers["agent"].run(["python3", "-c", LOAD, f"/model/{file}"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == runtime


def test_openvino_reads_the_onnx_file_in_the_slim_image(containers: dict[str, Container]) -> None:
    code = LOAD.replace("threads=1", "'openvino', threads=1")
    done = containers["agent"].run(["python3", "-c", code, "/model/shelf.onnx"])
    assert done.stdout.split()[:1] == ["openvino"], done.stderr


def test_agent_decodes_a_stream_in_a_process_of_its_own(containers: dict[str, Container]) -> None:
    """OpenCV without windows has its decoders, and the camera's process its shared memory."""
    words = [
        "storefleet",
        "try",
        "/video/shelf.avi",
        "--model",
        "/model/shelf.zip",
        "--json",
        "--duration",
        "4",
    ]
    done = containers["agent"].run(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{"), done.stderr


def test_bytecode_is_there_so_that_probes_start_fast(containers: dict[str, Container]) -> None:
    done = containers["agent"].run(["python3", "-c", NOT_COMPILED])
    assert done.stdout.strip() == "[]", done.stderr


def unused() -> list[str]:
    """Patterns below site-packages of what the agent's image leaves out."""
    files = [CHECKOUT / "constraints" / name for name in ("agent-unused.txt", "agent-unused-gpu.txt")]
    lines = [line.partition("#")[0].strip() for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if line]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="wheels of other processors bring other files")
def test_every_pattern_of_what_is_unused_still_names_something() -> None:
    """Otherwise a package has moved its files, and the image has grown."""
    installed = Path(sysconfig.get_path("purelib"))
    assert [pattern for pattern in unused() if not any(installed.glob(pattern))] == []


def test_what_is_unused_is_gone(containers: dict[str, Container]) -> None:
    (installed,) = containers["agent"].root.glob(SITE_PACKAGES)
    assert [str(found) for pattern in unused() for found in installed.glob(pattern)] == []


def test_agent_image_stays_within_its_size(
    checkout: Path, record_property: Callable[[str, object], None]
) -> None:
    measured = measure("agent", cache=default_cache(), checkout=checkout, repeats=3)
    record_property("above_base_mb", round(measured.above_base_mb))
    for what, seconds in measured.starts.items():
        record_property(what, round(seconds, 2))
    largest = ", ".join(f"{name} {size:.0f}" for name, size in measured.components.items())
    assert measured.above_base_mb < AGENT_GOAL_MB, largest
    assert measured.starts["health probe"] < 10  # what the probes of a pod allow


def test_an_agent_without_a_gpu_plugin_names_the_image_that_has_it(containers: dict[str, Container]) -> None:
    code = LOAD.replace("threads=1", "device='gpu'")
    done = containers["agent"].run(["python3", "-c", code, "/model/shelf.zip"])
    assert done.returncode == 1
    assert "this image has no GPU plugin: use the agent-gpu image" in done.stderr


def test_archive_carries_the_name_that_pods_use(archives: dict[str, Path]) -> None:
    for target, archive in archives.items():
        with tarfile.open(archive) as tar:
            index = tar.extractfile("index.json")
            assert index is not None
            assert reference(target) in index.read().decode()
        assert manifest_digest(archive).startswith("sha256:")


def test_nothing_is_built_again_when_nothing_changed(checkout: Path, archives: dict[str, Path]) -> None:
    before = {target: archive.stat().st_ino for target, archive in archives.items()}
    began = time.monotonic()
    again = build_images(TESTED, checkout=checkout)
    assert time.monotonic() - began < 30
    assert {target: archive.stat().st_ino for target, archive in again.items()} == before
