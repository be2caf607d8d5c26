"""From ONNX to an OpenVINO bundle with float16 weights. Needs ``openvino``, not PyTorch.

Weights of 8 bits would halve the bundle again, but OpenVINO then computes pointwise convolutions as
compressed matrix products, which was slower, and fails on some (2026.4: "Default output not supported").
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from controller.models.artifact import write_bundle
from controller.models.errors import ArtifactError, MissingExtra
from controller.models.telemetry import forbid_telemetry


def bundle_from_onnx(onnx_file: Path, metadata: Mapping[str, Any]) -> bytes:
    """An OpenVINO bundle of ``onnx_file``. The same bytes each time with the same OpenVINO version.

    Raises ``ArtifactError`` when OpenVINO cannot read the model, ``MissingExtra``.
    """
    forbid_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino") from error
    try:
        model = openvino.convert_model(str(onnx_file))
    except (RuntimeError, openvino.OpenVINOError) as error:
        raise ArtifactError(f"OpenVINO cannot read {onnx_file.name}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="storefleet-openvino-") as directory:
        xml = Path(directory) / "model.xml"
        openvino.save_model(model, xml, compress_to_fp16=True)
        members = {
            "metadata.yaml": yaml.safe_dump(dict(metadata), sort_keys=True).encode(),
            "model.bin": xml.with_suffix(".bin").read_bytes(),
            "model.xml": normalized(xml.read_text()).encode(),
        }
    return write_bundle(members)


def normalized(xml: str) -> str:
    """Without what changes from run to run (counters in the names of anonymous layers), what tells how
    the file was made (the trailing ``rt_info``), and indentation, a sixth of the size."""
    xml = re.sub(r"\n\s*", "\n", xml)
    end = xml.rfind("</edges>") + len("</edges>")
    xml = xml[:end] + "\n</net>\n"
    return re.sub(r'<layer id="(\d+)" name="([A-Za-z]+)_\d+(?=["/_])', r'<layer id="\1" name="\2_\1', xml)
