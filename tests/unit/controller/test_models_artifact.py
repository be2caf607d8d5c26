"""Artifacts are told, checked and described from their bytes alone."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller.models.artifact import (
    BUNDLE_MEMBERS,
    ArtifactInfo,
    inspect_artifact,
    onnx_metadata,
    read_bundle,
    write_bundle,
)
from controller.models.errors import ArtifactError

METADATA: dict[str, Any] = {
    "task": "detect",
    "imgsz": [384, 640],
    "names": {0: "cola-can", 1: "person"},
    "end2end": True,
}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_bytes(metadata: dict[str, Any], graph: bytes = b"g" * 3000) -> bytes:
    """A file with the outermost fields of ``ModelProto``: ir_version, producer, graph, metadata."""
    properties = (field(1, key.encode()) + field(2, str(value).encode()) for key, value in metadata.items())
    head = b"\x08\x09" + field(2, b"storefleet") + field(7, graph)
    return head + b"".join(field(14, entry) for entry in properties)


def bundle_bytes(metadata: Any = METADATA) -> bytes:
    text = metadata if isinstance(metadata, bytes) else yaml.safe_dump(metadata).encode()
    return write_bundle({"metadata.yaml": text, "model.bin": b"weights" * 100, "model.xml": b"<net/>"})


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "artifact"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(
    ("data", "kind"), [(onnx_bytes(METADATA), "onnx"), (bundle_bytes(), "openvino")], ids=["onnx", "openvino"]
)
def test_both_formats_are_described(on_disk: Callable[[bytes], Path], data: bytes, kind: Any) -> None:
    expected = ArtifactInfo(kind, "detect", ("cola-can", "person"), (384, 640), len(data))
    assert inspect_artifact(on_disk(data)) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "segment"}, "only detection models"),
        ({"task": None}, "only detection models"),
        ({"names": {0: "cola-can", 2: "person"}}, "without holes"),
        ({"names": {0: "cola-can", 1: "cola-can"}}, "different from one another"),
        ({"names": {0: "Cola Can!"}}, "must be SKUs"),
        ({"names": {}}, "must be present"),
        ({"names": "cola-can"}, "must be SKUs"),
        ({"imgsz": 640}, "height, width"),
        ({"imgsz": [384, 0]}, "height, width"),
    ],
)
@pytest.mark.parametrize("make", [onnx_bytes, bundle_bytes], ids=["onnx", "openvino"])
def test_metadata_that_no_agent_could_use_is_refused(
    on_disk: Callable[[bytes], Path], make: Callable[..., bytes], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArtifactError, match=words):
        inspect_artifact(on_disk(make(METADATA | change)))


def torch_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return buffer.getvalue()


def compressed_bundle() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in BUNDLE_MEMBERS:
            archive.writestr(name, b"0" * 5000)
    return buffer.getvalue()


def zip_with(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def doubling_aliases(levels: int) -> bytes:
    """A few hundred bytes of YAML that stand for 2**levels items."""
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels))]
    return "\n".join([*lines, "task: detect", "names: {0: cola}", f"imgsz: *a{levels - 1}"]).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bundle_bytes(doubling_aliases(22)), "anchors and aliases"),
        (onnx_bytes({}) + field(14, b"\x0a" + b"\xff" * 9 + b"\x7f"), "damaged ONNX metadata"),
        (onnx_bytes({}) + field(14, b"\x0a" + varint(50) + b"cut"), "damaged ONNX metadata"),
        (onnx_bytes(METADATA | {"imgsz": "[" + "1," * 100_000 + "]"}), r"found .{1,200}$"),
        (b"", "neither an ONNX file"),
        (b"hello, this is no model at all", "neither an ONNX file|truncated"),
        (pickle.dumps({"model": 1}), "storefleet models export"),
        (torch_zip(), "storefleet models export"),
        (onnx_bytes(METADATA)[:-40], "truncated|damaged"),
        (onnx_bytes(METADATA)[:1500], "truncated"),
        (onnx_bytes({}), "no metadata"),
        (bundle_bytes()[:-30], "truncated"),
        (bundle_bytes()[:600], "truncated"),
        (bundle_bytes().replace(b"weightsweights", b"weightsweighty", 1), "truncated or not a zip"),
        (bundle_bytes(b"a: ["), "not YAML"),
        (bundle_bytes(b"- 1"), "no metadata"),
        (compressed_bundle(), "is compressed"),
        (zip_with("model.xml", "model.bin"), "must hold exactly"),
        (zip_with("metadata.yaml", "model.bin", "../model.xml"), "must hold exactly"),
        (zip_with(*BUNDLE_MEMBERS, "extra"), "must hold exactly"),
    ],
)
def test_what_is_no_artifact_is_refused_with_the_remedy(
    on_disk: Callable[[bytes], Path], data: bytes, words: str
) -> None:
    with pytest.raises(ArtifactError, match=words):
        inspect_artifact(on_disk(data))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere\.zip: No such file"):
        inspect_artifact(tmp_path / "nowhere.zip")
    with pytest.raises(ArtifactError, match="No such file"):
        onnx_metadata(tmp_path / "nowhere.onnx")


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_an_artifact_or_an_artifact_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    for data in (noise, onnx_bytes(METADATA, b"")[:cut] + noise, bundle_bytes()[:cut] + noise):
        path.write_bytes(data)
        try:
            inspect_artifact(path)
        except ArtifactError as error:
            assert str(error)


def test_bundles_are_the_same_each_time() -> None:
    members = {"model.xml": b"x", "metadata.yaml": b"m", "model.bin": b"b"}
    assert write_bundle(members) == write_bundle(dict(reversed(members.items())))
    assert read_bundle(io.BytesIO(write_bundle(members))) == members
    with pytest.raises(ArtifactError):
        write_bundle({"model.xml": b"x"})
