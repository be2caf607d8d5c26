"""Opens a model file with the runtime that suits it: the one place that knows formats and runtimes.

Formats are told by content, since files in the model cache are named by digest alone:

- an ONNX file;
- the bundle of ``contract.workload.ModelManifest``: a stored zip of ``model.xml``, ``model.bin`` and
  ``metadata.yaml``, read in memory (nothing is unpacked to disk, no path in it is followed);
- a directory as Ultralytics exports it for OpenVINO.

A ``.pt`` file is refused: it is a pickle, and loading one runs the code in it.
"""

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.adapters import onnxruntime_detector, openvino_detector
from agent.adapters.onnxruntime_detector import OnnxRuntimeDetector
from agent.adapters.opencv.preprocess import CvPreprocessor
from agent.adapters.openvino_detector import OpenVinoDetector
from agent.adapters.ultralytics_detector import UltralyticsDetector
from agent.errors import ModelError
from agent.ports import Detector, ModelInfo
from agent.yolo import DEFAULT_LIMITS, Limits, Metadata, read_metadata

RUNTIMES = ("auto", "openvino", "onnxruntime", "ultralytics")
RUNTIMES_OF = {
    "cpu": ("openvino", "onnxruntime", "ultralytics"),
    "gpu": ("openvino",),
    "cuda": ("onnxruntime",),
}
"""Which runtimes compute on a device."""
MAX_MODEL_BYTES = 4 * 1024**3
_PARTS = {"model.xml": 64 * 1024**2, "model.bin": MAX_MODEL_BYTES, "metadata.yaml": 1024**2}
_EXPORT_HINT = "export it first: yolo export model=FILE.pt format=openvino (or format=onnx)"


@dataclass(frozen=True, slots=True)
class _Artifact:
    """Bytes of a model, checked for form only."""

    digest: str
    onnx: bytes | None = None
    xml: bytes = b""
    weights: bytes = b""
    metadata: bytes = b""


def open_detector(
    path: Path,
    runtime: str = "auto",
    *,
    device: str = "cpu",
    threads: int | None = None,
    version: str = "",
    limits: Limits = DEFAULT_LIMITS,
) -> Detector:
    """Load a model and get it ready. ``auto`` takes the runtime that can use ``device`` (``cpu``, ``gpu`` for
    Intel's with OpenVINO, ``cuda`` for NVIDIA's with ONNX Runtime), on the processor the one that the file's
    format is made for. A device that is not there is refused; nothing else is taken in its place.

    ``threads`` bounds the cores of one inference (not with ``ultralytics``). The detector belongs to
    the thread that uses it. Raises ``ModelError`` that says what is wrong with the file and what to do.
    """
    if runtime not in RUNTIMES:
        raise ModelError(f"unknown runtime {runtime!r}; use one of {', '.join(RUNTIMES)}")
    if device not in RUNTIMES_OF:
        raise ModelError(f"unknown device {device!r}; use one of {', '.join(RUNTIMES_OF)}")
    if runtime not in ("auto", *RUNTIMES_OF[device]):
        able = " or ".join(RUNTIMES_OF[device])
        raise ModelError(f"runtime {runtime} does not compute on device {device}; use runtime {able}")
    try:
        artifact = _read(path)
        if runtime == "auto":
            suits = "openvino" if artifact.onnx is None else "onnxruntime"
            runtime = suits if suits in RUNTIMES_OF[device] else RUNTIMES_OF[device][0]
        match runtime:
            case "onnxruntime":
                return _with_onnxruntime(artifact, version or path.stem, device, threads, limits)
            case "ultralytics":
                return _with_ultralytics(artifact, version or path.stem, limits)
        return _with_openvino(artifact, version or path.stem, device, threads, limits)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _read(path: Path) -> _Artifact:
    try:
        if path.is_dir():
            return _read_directory(path)
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{size} bytes are more than the {MAX_MODEL_BYTES} a model may have")
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(b"PK\x03\x04"):
            return _read_bundle(path)
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}") from error
    if not head:
        raise ModelError("the file is empty; fetch or export it again")
    if head[:1] == b"\x80" or path.suffix in {".pt", ".pth", ".pkl"}:
        raise ModelError(f"is a PyTorch pickle, which could run any code; {_EXPORT_HINT}")
    if head.lstrip().startswith(b"<"):
        raise ModelError("is only the graph of an OpenVINO model; give the directory with model and metadata")
    if head[0] != 0x08 or not 1 <= head[1] <= 32:  # protobuf field 1, ir_version (onnx.proto)
        raise ModelError(f"is neither an ONNX file nor an OpenVINO bundle; {_EXPORT_HINT}")
    return _Artifact(_digest(data), onnx=data)


def _read_bundle(path: Path) -> _Artifact:
    try:
        with zipfile.ZipFile(path) as bundle:
            members = bundle.infolist()
            names = [member.filename for member in members]
            if any(name.endswith("data.pkl") for name in names):
                raise ModelError(f"is a PyTorch pickle, which could run any code; {_EXPORT_HINT}")
            if sorted(names) != sorted(_PARTS):
                raise ModelError(f"a bundle holds exactly {', '.join(_PARTS)}; import the model again")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
                    raise ModelError(
                        f"{member.filename} is compressed or encrypted; bundles are stored plain"
                    )
                if member.file_size > _PARTS[member.filename]:
                    raise ModelError(f"{member.filename} is larger than {_PARTS[member.filename]} bytes")
            xml, weights, metadata = (bundle.read(name) for name in _PARTS)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise ModelError("the bundle is truncated or damaged; fetch or import it again") from error
    return _Artifact(_digest_of_file(path), xml=xml, weights=weights, metadata=metadata)


def _read_directory(path: Path) -> _Artifact:
    graphs = sorted(path.glob("*.xml"))
    if len(graphs) != 1:
        raise ModelError(f"the directory holds {len(graphs)} .xml files; give one *_openvino_model directory")
    files = (graphs[0], graphs[0].with_suffix(".bin"), path / "metadata.yaml")
    for file, limit in zip(files, _PARTS.values(), strict=True):
        if not file.is_file():
            raise ModelError(f"{file.name} is missing; {_EXPORT_HINT}")
        if file.stat().st_size > limit:
            raise ModelError(f"{file.name} is larger than {limit} bytes")
    xml, weights, metadata = (file.read_bytes() for file in files)
    return _Artifact(_digest(xml, weights, metadata), xml=xml, weights=weights, metadata=metadata)


def _with_openvino(
    artifact: _Artifact, version: str, device: str, threads: int | None, limits: Limits
) -> Detector:
    if artifact.onnx is not None:
        network = openvino_detector.read_network(artifact.onnx, None)
        metadata = read_metadata(openvino_detector.onnx_metadata(network))
    else:
        metadata = read_metadata(_parse_yaml(artifact.metadata))
        network = openvino_detector.read_network(artifact.xml, artifact.weights)
    info = _info(metadata, "openvino", artifact, version)
    return OpenVinoDetector(
        network, info, metadata, CvPreprocessor(), device=device, threads=threads, limits=limits
    )


def _with_onnxruntime(
    artifact: _Artifact, version: str, device: str, threads: int | None, limits: Limits
) -> Detector:
    if artifact.onnx is None:
        if device == "cuda":
            raise ModelError(
                "is in OpenVINO's format; on an NVIDIA GPU a release needs a model in ONNX format"
            )
        raise ModelError("is in OpenVINO's format, which ONNX Runtime cannot run; use runtime openvino")
    session = onnxruntime_detector.open_session(artifact.onnx, device, threads)
    metadata = read_metadata(onnxruntime_detector.onnx_metadata(session))
    info = _info(metadata, "onnxruntime", artifact, version)
    return OnnxRuntimeDetector(session, info, metadata, CvPreprocessor(), limits=limits)


def _with_ultralytics(artifact: _Artifact, version: str, limits: Limits) -> Detector:
    """Ultralytics tells formats by file names, so it gets a copy with the right ones. The copy goes when the
    detector has read it."""
    with tempfile.TemporaryDirectory(prefix="storefleet-model-") as folder:
        if artifact.onnx is not None:
            session = onnxruntime_detector.open_session(artifact.onnx, "cpu", 1)
            metadata = read_metadata(onnxruntime_detector.onnx_metadata(session))
            place = Path(folder) / "model.onnx"
            place.write_bytes(artifact.onnx)
        else:
            metadata = read_metadata(_parse_yaml(artifact.metadata))
            place = Path(folder) / "model_openvino_model"
            place.mkdir()
            for name, data in zip(_PARTS, (artifact.xml, artifact.weights, artifact.metadata), strict=True):
                (place / name).write_bytes(data)
        info = _info(metadata, "ultralytics", artifact, version)
        return UltralyticsDetector(place, info, metadata, limits=limits)


def _info(metadata: Metadata, runtime: str, artifact: _Artifact, version: str) -> ModelInfo:
    return ModelInfo(metadata.names, metadata.image_size, "detect", runtime, artifact.digest, version)


def _parse_yaml(text: bytes) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelError("metadata.yaml is not valid YAML; export the model again") from error
    if not isinstance(raw, dict):
        raise ModelError("metadata.yaml does not describe a model; export the model again")
    return raw


def _digest(*parts: bytes) -> str:
    """``sha256:…`` of a file; of a directory's files one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return f"sha256:{total.hexdigest()}"


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
