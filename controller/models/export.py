"""``storefleet models export``: from a checkpoint, or an ONNX file, to the artifacts agents run."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from controller.models import onnx_file
from controller.models.artifact import ArtifactInfo, inspect_artifact
from controller.models.isolated_export import export_isolated
from controller.models.onnx_file import Weights
from controller.models.openvino_ir import bundle_from_onnx
from controller.models.yolo import Head


@dataclass(frozen=True, slots=True)
class Exported:
    path: Path
    info: ArtifactInfo


def export(
    source: Path, out: Path, name: str, image_size: tuple[int, int], weights: Weights, head: Head
) -> list[Exported]:
    """Write ``NAME.onnx`` (from a checkpoint) and ``NAME.zip`` (OpenVINO) into ``out``.

    ``source`` is a checkpoint (``.pt``, opened only in an isolated process) or an ``.onnx`` file with
    Ultralytics' metadata, whose own image size and head then count. ``image_size`` is height and width.
    ``weights`` is how the ONNX file stores them; the OpenVINO bundle always has float16.
    Raises ``CheckpointError``, ``ArtifactError``, ``MissingExtra``.
    """
    out.mkdir(parents=True, exist_ok=True)
    bundle = out / f"{name}.zip"
    if source.suffix == ".onnx":
        metadata = onnx_file.read_metadata(source)
        bundle.write_bytes(bundle_from_onnx(source, metadata))
        return [Exported(bundle, inspect_artifact(bundle))]
    onnx_out = out / f"{name}.onnx"
    with tempfile.TemporaryDirectory(prefix="storefleet-onnx-") as directory:
        raw = Path(directory) / "model.onnx"
        export_isolated(source, image_size, head, raw)
        metadata = onnx_file.read_metadata(raw)
        onnx_file.write_small(raw, onnx_out, metadata, weights)
        bundle.write_bytes(bundle_from_onnx(raw, metadata))
    return [Exported(path, inspect_artifact(path)) for path in (bundle, onnx_out)]
