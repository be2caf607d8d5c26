"""Detectors on the real runtimes, with tiny networks whose answer follows from the picture.

The network's two boxes are fixed; their confidence is the mean of the red channel, so that a wrong
order of colours, a wrong scale or a wrong letterbox shows. The ONNX file is written byte by byte:
that needs no library that the agent does not have.
"""

import importlib.util
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import yaml
from openvino import opset13 as ops

from agent.adapters.model_file import open_detector
from agent.errors import ModelError
from agent.ports import Image

HEIGHT, WIDTH = 64, 96
NAMES = {0: "cola-can", 1: "person"}
ROWS = np.array([[[12, 12, 24, 36, 0, 0], [48, 8, 96, 60, 0.2, 1]]], np.float32)
RED_TO_CONFIDENCE = np.zeros((3, 6), np.float32)
RED_TO_CONFIDENCE[0, 4] = 1
METADATA: dict[str, Any] = {"task": "detect", "names": NAMES, "imgsz": [HEIGHT, WIDTH], "end2end": True}
RED: Image = np.full((640, 960, 3), (0, 0, 153), np.uint8)
"""BGR; red is 153 / 255 = 0.6."""


def openvino_network(rows: np.ndarray = ROWS, size: tuple[int, int] | None = (HEIGHT, WIDTH)) -> ov.Model:
    picture = ops.parameter([1, 3, *(size or (-1, -1))], np.float32, name="images")
    mean = ops.reduce_mean(picture, np.array([2, 3]), keep_dims=False)
    weights = RED_TO_CONFIDENCE if rows.shape[2] == 6 else np.zeros((3, rows.shape[2]), np.float32)
    confidence = ops.matmul(mean, ops.constant(weights), False, False)
    return ov.Model([ops.add(ops.constant(rows), confidence)], [picture], "tiny")


def save_openvino(folder: Path, network: ov.Model, metadata: dict[str, Any] = METADATA) -> Path:
    directory = folder / "tiny_openvino_model"
    directory.mkdir()
    ov.save_model(network, directory / "tiny.xml", compress_to_fp16=False)
    (directory / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return directory


def bundle(directory: Path, compression: int = zipfile.ZIP_STORED, extra: str | None = None) -> Path:
    """The zip that releases carry, under a name without a suffix, as in the model cache."""
    path = directory.parent / "sha256-bundle"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.write(directory / "tiny.xml", "model.xml")
        archive.write(directory / "tiny.bin", "model.bin")
        archive.write(directory / "metadata.yaml", "metadata.yaml")
        if extra:
            archive.writestr(extra, "x")
    return path


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message (onnx.proto)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(field(1, side) for side in array.shape)
    return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def value(name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(field(1, field(1, s) if isinstance(s, int) else field(2, s)) for s in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)


def onnx_file(
    folder: Path, rows: np.ndarray = ROWS, size: Sequence[int | str] = (HEIGHT, WIDTH), **changes: str
) -> Path:
    graph = (
        field(1, node("GlobalAveragePool", ["images"], "mean"))
        + field(1, node("Flatten", ["mean"], "flat"))
        + field(1, node("MatMul", ["flat", "red"], "confidence"))
        + field(1, node("Add", ["rows", "confidence"], "output0"))
        + field(2, "tiny")
        + field(5, tensor("red", RED_TO_CONFIDENCE))
        + field(5, tensor("rows", rows))
        + field(11, value("images", [1, 3, *size]))
        + field(12, value("output0", rows.shape))
    )
    texts = {key: str(item) for key, item in METADATA.items()} | changes
    properties = b"".join(field(14, field(1, key) + field(2, text)) for key, text in texts.items())
    path = folder / "tiny.onnx"
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17)) + properties)
    return path


@pytest.mark.parametrize(
    ("make", "runtime", "ran_by"),
    [
        (lambda folder: save_openvino(folder, openvino_network()), "auto", "openvino"),
        (lambda folder: bundle(save_openvino(folder, openvino_network())), "openvino", "openvino"),
        (onnx_file, "openvino", "openvino"),
        (onnx_file, "auto", "onnxruntime"),
    ],
    ids=["directory", "bundle", "onnx by openvino", "onnx"],
)
def test_every_format_and_runtime_gives_the_same_boxes(
    tmp_path: Path, make: Callable[[Path], Path], runtime: str, ran_by: str
) -> None:
    path = make(tmp_path)
    detector = open_detector(path, runtime, threads=1, version="7")
    assert detector.info.names == ("cola-can", "person")
    assert detector.info.image_size == (HEIGHT, WIDTH)
    assert detector.info.runtime == ran_by
    assert detector.info.version == "7"
    assert detector.info.digest.startswith("sha256:")
    for _ in range(2):
        found = detector.detect(RED)
        assert [d.label for d in found] == ["person", "cola-can"]
        # Processors with AMX or AVX512-BF16 infer in bfloat16, which has three digits.
        assert [d.confidence for d in found] == pytest.approx([0.8, 0.6], abs=0.005)
        assert found[1].xyxy == pytest.approx((120, 120, 240, 360))
    wide = detector.detect(np.full((320, 960, 3), (0, 0, 153), np.uint8))
    grey = 114 / 255 / 2 + 0.6 / 2
    assert wide[1].confidence == pytest.approx(grey, abs=0.01)  # half of the input is the grey bar
    assert wide[1].xyxy == pytest.approx((120, 0, 240, 200))  # 16 px of bar above, 10 times as large


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_metadata_that_is_no_text_is_refused(tmp_path: Path, runtime: str) -> None:
    path = onnx_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"cola", b"c\xffla"))
    with pytest.raises(ModelError, match=r"metadata is damaged|truncated or damaged"):
        open_detector(path, runtime, threads=1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_network_of_any_input_size_takes_frames_of_any_shape(tmp_path: Path, runtime: str) -> None:
    detector = open_detector(onnx_file(tmp_path, size=("height", "width")), runtime, threads=1)
    for shape in [(640, 960, 3), (320, 960, 3), (960, 640, 3), (48, 48, 3), (900, 300, 3), (640, 960, 3)]:
        found = detector.detect(np.full(shape, (0, 0, 153), np.uint8))
        assert all(0.5 < d.confidence < 0.81 for d in found)  # less than half of the input is grey
        assert all(d.xyxy[2] <= shape[1] and d.xyxy[3] <= shape[0] for d in found)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def cut_weights(folder: Path) -> Path:
    directory = save_openvino(folder, openvino_network())
    cut(directory / "tiny.bin", 0.5)
    return directory


def without_weights(folder: Path) -> Path:
    directory = save_openvino(folder, openvino_network())
    (directory / "tiny.bin").unlink()
    return directory


def torch_archive(folder: Path) -> Path:
    path = folder / "sha256-of-a-pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", b"\x80\x02.")
    return path


def damaged_bundle(folder: Path) -> Path:
    path = bundle(save_openvino(folder, openvino_network()))
    data = bytearray(path.read_bytes())
    data[data.index(b"<?xml") + 200] ^= 0xFF
    path.write_bytes(data)
    return path


def with_metadata(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: save_openvino(folder, openvino_network(), METADATA | changes)


BAD = {
    "missing": (lambda f: f / "none.onnx", "cannot be read"),
    "empty": (lambda f: written(f, "m.onnx", b""), "empty"),
    "text": (lambda f: written(f, "m.onnx", b"hello, this is no model"), "neither an ONNX file nor"),
    "graph alone": (lambda f: written(f, "model.xml", b"<?xml version='1.0'?><net/>"), "give the directory"),
    "pickle": (lambda f: written(f, "m", b"\x80\x04K\x01."), "PyTorch pickle"),
    "pt": (lambda f: written(f, "best.pt", b"anything"), "yolo export"),
    "pt archive": (torch_archive, "PyTorch pickle"),
    "truncated onnx": (lambda f: cut(onnx_file(f), 0.6), "truncated or damaged"),
    "truncated bundle": (
        lambda f: cut(bundle(save_openvino(f, openvino_network())), 0.6),
        "truncated or damaged",
    ),
    "damaged bundle": (damaged_bundle, "truncated or damaged"),
    "truncated weights": (cut_weights, "truncated or damaged"),
    "no weights": (without_weights, "tiny.bin is missing"),
    "empty directory": (lambda f: f, "holds 0 .xml files"),
    "compressed bundle": (
        lambda f: bundle(save_openvino(f, openvino_network()), zipfile.ZIP_DEFLATED),
        "stored plain",
    ),
    "more in the bundle": (
        lambda f: bundle(save_openvino(f, openvino_network()), extra="../../etc/cron.d/x"),
        "a bundle holds exactly",
    ),
    "another task": (with_metadata(task="segment"), "task 'segment'"),
    "no names": (with_metadata(names=None), "names no classes"),
    "other classes": (
        lambda f: save_openvino(f, openvino_network(np.zeros((1, 84, 50), np.float32))),
        "does not fit 2 classes",
    ),
    "broken yaml": (
        lambda f: bundle_with_metadata(f, "names: [\n"),
        "not valid YAML",
    ),
    "no mapping": (lambda f: bundle_with_metadata(f, "just text"), "does not describe a model"),
}


def bundle_with_metadata(folder: Path, text: str) -> Path:
    directory = save_openvino(folder, openvino_network())
    (directory / "metadata.yaml").write_text(text)
    return bundle(directory)


@pytest.mark.parametrize(("make", "complaint"), BAD.values(), ids=BAD.keys())
def test_a_bad_model_is_refused_with_its_name_and_a_clear_reason(
    tmp_path: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(ModelError) as refused:
        open_detector(path)
    assert complaint in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda f: cut(onnx_file(f), 0.6), "truncated or damaged"),
        (lambda f: written(f, "m.onnx", struct.pack("<BB", 8, 8) + b"\xff" * 50), "truncated or damaged"),
        (lambda f: onnx_file(f, task="classify"), "task 'classify'"),
        (lambda f: onnx_file(f, names="{}"), "names no classes"),
        (lambda f: save_openvino(f, openvino_network()), "use runtime openvino"),
    ],
)
def test_onnx_runtime_refuses_what_it_cannot_run(
    tmp_path: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        open_detector(make(tmp_path), "onnxruntime")


def test_an_unknown_runtime_or_device_is_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    with pytest.raises(ModelError, match="use one of auto, openvino"):
        open_detector(path, "tensorrt")
    with pytest.raises(ModelError, match="unknown device 'toaster'; use one of cpu, gpu, cuda"):
        open_detector(path, "openvino", device="toaster")


@pytest.mark.parametrize(
    ("runtime", "device", "complaint"),
    [
        ("onnxruntime", "gpu", "runtime onnxruntime does not compute on device gpu; use runtime openvino"),
        ("openvino", "cuda", "runtime openvino does not compute on device cuda; use runtime onnxruntime"),
        ("ultralytics", "gpu", "use runtime openvino"),
        ("auto", "cuda", "build the agent's image with onnxruntime-gpu"),
    ],
)
def test_a_device_that_the_runtime_cannot_use_is_refused(
    tmp_path: Path, runtime: str, device: str, complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        open_detector(onnx_file(tmp_path), runtime, device=device)


def test_an_nvidia_gpu_needs_a_model_in_onnx_format(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a release needs a model in ONNX format"):
        open_detector(bundle(save_openvino(tmp_path, openvino_network())), device="cuda")


@pytest.mark.skipif("GPU" in "".join(ov.Core().available_devices), reason="there is a GPU")
@pytest.mark.parametrize(
    "make", [onnx_file, lambda folder: bundle(save_openvino(folder, openvino_network()))]
)
def test_a_gpu_that_is_not_there_is_an_error_and_no_processor_takes_its_place(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(ModelError, match=r"finds no gpu here: the pod needs a resource of Intel's"):
        open_detector(make(tmp_path), device="gpu")


def test_an_image_without_the_gpu_plugin_names_the_one_that_has_it(tmp_path: Path) -> None:
    """In a process of its own, with an OpenVINO that lacks what the agent's image lacks."""
    installed, copy = Path(ov.__file__).parent, tmp_path / "packages" / "openvino"
    for file in installed.rglob("*"):
        if file.is_file() and "intel_gpu_plugin" not in file.name and "__pycache__" not in file.parts:
            place = copy / file.relative_to(installed)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    code = (
        "import sys; from pathlib import Path; from agent.adapters.model_file import open_detector; "
        "open_detector(Path(sys.argv[1]), device='gpu')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(onnx_file(tmp_path))],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{copy.parent}:{Path(__file__).parents[2]}"},
    )
    assert "this image has no GPU plugin: use the agent-gpu image" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("ultralytics") is not None, reason="Ultralytics is installed")
def test_a_missing_runtime_names_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"install storefleet\[models\]"):
        open_detector(onnx_file(tmp_path), "ultralytics")
