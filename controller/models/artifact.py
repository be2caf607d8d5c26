"""What can be learnt of an artifact from its bytes alone, without a runtime.

The controller imports models that others exported, on machines without PyTorch or ONNX. So this
reads the two formats directly: ONNX is protobuf, of which only the outermost fields matter here, and
an OpenVINO artifact is a stored zip. Reading to the end also finds truncated files.
"""

import ast
import io
import reprlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from contract.names import Sku
from controller.models.errors import ArtifactError

MAX_ARTIFACT_BYTES = 512 * 1024**2
MAX_METADATA_BYTES = 256 * 1024
BUNDLE_MEMBERS = ("metadata.yaml", "model.bin", "model.xml")

_METADATA_PROPS = 14
_GRAPH = 7
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAMES: TypeAdapter[tuple[Sku, ...]] = TypeAdapter(tuple[Sku, ...])


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """``names`` are class names by class id; ``image_size`` is height and width in pixels."""

    format: Literal["openvino", "onnx"]
    task: Literal["detect"]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    size_bytes: int


def inspect_artifact(path: Path) -> ArtifactInfo:
    """Check an exported model and read its metadata. Raises ``ArtifactError`` with the remedy."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _inspect(file, size)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _inspect(file: BinaryIO, size: int) -> ArtifactInfo:
    if size > MAX_ARTIFACT_BYTES:
        raise ArtifactError(f"{size} bytes; a model artifact has at most {MAX_ARTIFACT_BYTES}")
    head = file.read(4)
    file.seek(0)
    if head[:2] == b"PK":
        return _describe("openvino", read_bundle(file)["metadata.yaml"], size)
    if head[:1] == b"\x80":
        raise ArtifactError(
            "a pickle (PyTorch weights): turn it into an artifact with 'storefleet models export'"
        )
    return _describe("onnx", _read_onnx_metadata(file, size), size)


def onnx_metadata(path: Path) -> dict[str, Any]:
    """The custom metadata of an ONNX file, values as Python objects. Raises ``ArtifactError``."""
    try:
        with path.open("rb") as file:
            return _read_onnx_metadata(file, path.stat().st_size)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def read_bundle(file: BinaryIO) -> dict[str, bytes]:
    """The three members of an OpenVINO bundle, checksums verified. Raises ``ArtifactError``."""
    try:
        with zipfile.ZipFile(file) as bundle:
            infos = bundle.infolist()
            names = sorted(info.filename for info in infos)
            if any(name.endswith("data.pkl") for name in names):
                raise ArtifactError(
                    "PyTorch weights: turn them into an artifact with 'storefleet models export'"
                )
            if names != list(BUNDLE_MEMBERS):
                raise ArtifactError(
                    f"the zip must hold exactly {', '.join(BUNDLE_MEMBERS)}; run 'storefleet models export'"
                )
            for info in infos:
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ArtifactError(f"{info.filename} is compressed: store it, so that size means size")
            return {info.filename: bundle.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"truncated or not a zip: {error}; copy or export the file again") from error


def write_bundle(members: Mapping[str, bytes]) -> bytes:
    """A stored zip that is the same, byte for byte, for the same members."""
    if sorted(members) != list(BUNDLE_MEMBERS):
        raise ArtifactError(f"an OpenVINO bundle has the members {', '.join(BUNDLE_MEMBERS)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name in BUNDLE_MEMBERS:
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.external_attr = 0o644 << 16
            bundle.writestr(info, members[name])
    return buffer.getvalue()


def metadata_from_text(properties: Mapping[str, str]) -> dict[str, Any]:
    """Ultralytics writes the values of ONNX metadata as Python literals; plain text stays text."""
    values: dict[str, Any] = {}
    for key, text in properties.items():
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            values[key] = text
    return values


def _describe(format_: Literal["openvino", "onnx"], raw: bytes | dict[str, Any], size: int) -> ArtifactInfo:
    if isinstance(raw, bytes):
        if len(raw) > MAX_METADATA_BYTES:
            raise ArtifactError("metadata.yaml is too large to be metadata")
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, yaml.SafeLoader)):
                # A few aliases of aliases stand for more than memory holds.
                raise ArtifactError("metadata.yaml has anchors and aliases: write the values out")
            raw = yaml.safe_load(raw)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise ArtifactError(f"metadata.yaml is not YAML: {error}") from error
    if not isinstance(raw, dict) or "names" not in raw:
        raise ArtifactError(
            "no metadata (names, task, imgsz): export the model with 'storefleet models export'"
        )
    task = raw.get("task")
    if task != "detect":
        raise ArtifactError(f"a model for {reprlib.repr(task)}: only detection models can watch shelves")
    return ArtifactInfo(format_, "detect", _class_names(raw["names"]), _image_size(raw.get("imgsz")), size)


def _class_names(raw: object) -> tuple[str, ...]:
    if isinstance(raw, dict):
        if sorted(raw, key=str) != sorted(range(len(raw)), key=str):
            raise ArtifactError("class ids must run from 0 without holes")
        raw = [raw[i] for i in range(len(raw))]
    try:
        names = _NAMES.validate_python(raw)
    except ValidationError as error:
        raise ArtifactError(
            "class names must be SKUs (a-z, 0-9, '-', '_', '.'), at most 64 characters"
        ) from error
    if not names or len(set(names)) != len(names):
        raise ArtifactError("class names must be present and different from one another")
    return names


def _image_size(raw: object) -> tuple[int, int]:
    match raw:
        case [int(height), int(width)] if 32 <= height <= 4096 and 32 <= width <= 4096:
            return height, width
    raise ArtifactError(f"imgsz must be [height, width] in pixels, found {reprlib.repr(raw)}")


def _read_onnx_metadata(file: BinaryIO, size: int) -> dict[str, Any]:
    """``ModelProto.metadata_props``, skipping over everything else without loading it."""
    properties: dict[str, str] = {}
    has_graph = False
    while file.tell() < size:
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _varint(file)
            continue
        length = _varint(file) if wire == 2 else {1: 8, 5: 4}.get(wire, -1)
        if length < 0 or number == 0:
            raise ArtifactError("neither an ONNX file nor an OpenVINO bundle: use 'storefleet models export'")
        if file.tell() + length > size:
            raise ArtifactError("truncated ONNX file: copy or export it again")
        has_graph |= number == _GRAPH and wire == 2
        if number == _METADATA_PROPS and wire == 2:
            if length > MAX_METADATA_BYTES:
                raise ArtifactError("ONNX metadata is too large to be metadata")
            properties |= _property(file.read(length))
        else:
            file.seek(length, io.SEEK_CUR)
    if not has_graph:
        raise ArtifactError("neither an ONNX file nor an OpenVINO bundle: use 'storefleet models export'")
    return metadata_from_text(properties)


def _property(data: bytes) -> dict[str, str]:
    """One ``StringStringEntryProto``: field 1 is the key, field 2 the value."""
    file, fields = io.BytesIO(data), {1: "", 2: ""}
    while file.tell() < len(data):
        key = _varint(file)
        length = _varint(file)
        if key & 7 != 2 or length > len(data) - file.tell():
            raise ArtifactError("damaged ONNX metadata")
        fields[key >> 3] = file.read(length).decode(errors="replace")
    return {fields[1]: fields[2]}


def _varint(file: BinaryIO | io.BytesIO) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ArtifactError("truncated ONNX file: copy or export it again")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ArtifactError("neither an ONNX file nor an OpenVINO bundle: use 'storefleet models export'")
