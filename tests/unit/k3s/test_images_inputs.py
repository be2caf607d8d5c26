"""What goes into an image decides whether it is built again."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from k3s.images import manifest_digest
from k3s.images.build import CHECKOUT, input_key
from k3s.images.dockerfile import inputs_of, read_stages
from k3s.testbed.errors import TestbedError

PACKAGES = {"agent", "camera_sims", "controller", "contract", "storefleet"}
DOCKERFILE = """\
# FROM a comment AS nothing
ARG BASE=debian
FROM ${BASE} AS tools
COPY list.txt script.sh /
FROM tools as first
COPY --chown=1:1 one \\
     two /there/
FROM tools AS second
COPY three .
FROM scratch AS image
COPY --from=first /x /x
"""


def test_inputs_follow_stages_and_copies_between_them() -> None:
    stages = read_stages(DOCKERFILE)
    assert list(stages) == ["tools", "first", "second", "image"]
    assert inputs_of(stages, "image") == ("list.txt", "one", "script.sh", "two")
    assert inputs_of(stages, "second") == ("list.txt", "script.sh", "three")


def test_unknown_target_is_named_with_those_that_exist() -> None:
    with pytest.raises(TestbedError, match="no target 'imgae'; it has tools, first, second, image"):
        inputs_of(read_stages(DOCKERFILE), "imgae")


@pytest.mark.parametrize(
    ("target", "packages", "constraints"),
    [
        ("agent", {"agent", "contract", "storefleet"}, "agent.txt"),
        ("agent-gpu", {"agent", "contract", "storefleet"}, "agent.txt"),
        ("controller", {"controller", "contract", "storefleet"}, "controller.txt"),
        ("sim", {"camera_sims", "contract", "storefleet"}, "sim.txt"),
        ("trainer", {"controller", "contract", "storefleet"}, "models.txt"),
    ],
)
def test_an_image_holds_its_own_program_only(target: str, packages: set[str], constraints: str) -> None:
    paths = inputs_of(read_stages((CHECKOUT / "Dockerfile").read_text()), target)
    assert {path for path in paths if path in PACKAGES} == packages
    assert {path for path in paths if path.startswith("constraints/") and "unused" not in path} == {
        f"constraints/{constraints}",
        "constraints/build.txt",
    }
    assert all((CHECKOUT / path).exists() for path in paths)


@pytest.mark.parametrize("target", ["agent", "controller", "sim", "trainer"])
def test_every_final_stage_drops_root_and_says_how_it_is(target: str) -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    stage = text.partition(f"FROM runtime AS {target}\n")[2].partition("\nFROM ")[0]
    assert "\nUSER 10001:10001\n" in stage
    assert "\nHEALTHCHECK " in stage
    assert "org.opencontainers.image.title" in stage


def test_the_agents_gpu_image_is_the_agents_image_and_a_little_more() -> None:
    text = (CHECKOUT / "Dockerfile").read_text()
    stage = text.partition("FROM agent AS agent-gpu\n")[2].partition("\nFROM ")[0]
    instructions = [line.split()[0] for line in stage.splitlines() if line[:1].isupper()]
    assert instructions == ["USER", "RUN", "COPY", "LABEL", "USER"]
    assert stage.partition("LABEL")[2].splitlines()[1] == "USER 10001:10001"
    unused = (CHECKOUT / "constraints/agent-unused.txt").read_text()
    assert "gpu_plugin" not in unused
    assert "gpu_plugin" in (CHECKOUT / "constraints/agent-unused-gpu.txt").read_text()


def test_nothing_in_the_dockerfile_names_an_architecture() -> None:
    text = (CHECKOUT / "Dockerfile").read_text() + (CHECKOUT / "scripts/image_build.sh").read_text()
    found = [name for name in ("amd64", "x86", "aarch64", "arm64", "--platform") if name in text]
    assert not found


def test_images_install_the_versions_that_are_tested() -> None:
    def versions(name: str) -> set[str]:
        lines = (CHECKOUT / "constraints" / name).read_text().splitlines()
        return {line.partition("\\")[0].strip() for line in lines if "==" in line}

    tested = versions("run.txt")
    opencv = {
        line.replace("opencv-python=", "opencv-python-headless=") for line in tested if "opencv" in line
    }
    for name in ("agent.txt", "controller.txt", "sim.txt", "build.txt"):
        assert versions(name) <= tested | opencv


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Dockerfile", ".dockerignore", "package/code.py", "other.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("other.txt", True),
        ("package/__pycache__/code.pyc", True),
        ("package/code.py", False),
        ("package/new.py", False),
        ("Dockerfile", False),
        (".dockerignore", False),
    ],
)
def test_only_what_goes_into_an_image_makes_it_another(tree: Path, change: str, same: bool) -> None:
    before = input_key(tree, ["package"])
    (tree / change).parent.mkdir(exist_ok=True)
    (tree / change).write_text("changed")
    assert (input_key(tree, ["package"]) == before) is same


def test_a_file_that_becomes_executable_makes_another_image(tree: Path) -> None:
    before = input_key(tree, ["package"])
    (tree / "package/code.py").chmod(0o755)
    assert input_key(tree, ["package"]) != before


def _archive(path: Path, name: str, content: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return path


def test_digest_of_an_archive_is_its_one_manifest(tmp_path: Path) -> None:
    index = json.dumps({"manifests": [{"digest": "sha256:abc"}]}).encode()
    assert manifest_digest(_archive(tmp_path / "image.tar", "index.json", index)) == "sha256:abc"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"manifests": []}', b'{"manifests": [1]}'])
def test_what_is_no_image_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TestbedError, match="is not an OCI archive of one image"):
        manifest_digest(_archive(tmp_path / "image.tar", "index.json", content))
