"""ONNX files: make their weights small, and give them metadata that does not change between runs.

A weight is kept as float16, or as 8-bit integers with one scale per output channel, followed by the
nodes that turn it back into float32. Runtimes fold such constant nodes when they load the model, so
inference costs what it did; only the bytes on disk and on the wire are fewer.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from controller.models.artifact import onnx_metadata
from controller.models.errors import ArtifactError, MissingExtra

Weights = Literal["int8", "fp16", "fp32"]

KEPT_METADATA = (
    "author", "version", "license", "docs", "stride", "task", "head", "batch", "imgsz", "names",
    "channels", "end2end",
)  # fmt: skip
"""Ultralytics' keys, without the date and the training machine's paths."""

SMALLEST_WEIGHT = 256
"""Tensors of fewer elements stay float32: biases, scales and constants are few and matter."""


def read_metadata(path: Path) -> dict[str, Any]:
    """The kept metadata of an ONNX file. Raises ``ArtifactError``."""
    found = onnx_metadata(path)
    missing = [key for key in ("task", "imgsz", "names") if key not in found]
    if missing:
        raise ArtifactError(f"{path.name} has no metadata {', '.join(missing)}: export it with Ultralytics")
    return {key: found[key] for key in KEPT_METADATA if key in found}


def write_small(source: Path, out: Path, metadata: Mapping[str, Any], weights: Weights) -> None:
    """Write ``source`` with small weights and ``metadata`` to ``out``; the same bytes each time.

    Raises ``ArtifactError``, ``MissingExtra``.
    """
    model = _load(source)
    import onnx
    from onnx import helper

    graph = model.graph
    kept: list[Any] = []
    expansions: list[Any] = []
    for tensor in graph.initializer:
        for made in _shrunk(tensor, weights):
            (kept if isinstance(made, onnx.TensorProto) else expansions).append(made)
    nodes = [*expansions, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    model.producer_name, model.producer_version, model.doc_string = "storefleet", "", ""
    helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ArtifactError(f"{source.name} is not a valid ONNX model: {error}") from error
    out.write_bytes(model.SerializeToString(deterministic=True))


def _shrunk(tensor: Any, weights: Weights) -> Iterator[Any]:
    """The tensors that replace ``tensor`` and the nodes that make it of them."""
    import onnx
    from onnx import helper, numpy_helper

    values = numpy_helper.to_array(tensor) if tensor.data_type == onnx.TensorProto.FLOAT else None
    if weights == "fp32" or values is None or values.ndim < 2 or values.size < SMALLEST_WEIGHT:
        yield tensor
        return
    name = tensor.name
    if weights == "int8" and values.ndim == 4:
        integers, scale = quantized(values)
        # The reshape does nothing for runtimes that fold constants. It keeps OpenVINO from taking the
        # nodes for compressed weights, whose kernels are slower and fail behind a split (2026.4).
        yield numpy_helper.from_array(integers.reshape(len(integers), -1), f"{name}.int8")
        yield numpy_helper.from_array(np.array(values.shape, np.int64), f"{name}.shape")
        yield numpy_helper.from_array(scale, f"{name}.scale")
        yield helper.make_node("Cast", [f"{name}.int8"], [f"{name}.cast"], to=onnx.TensorProto.FLOAT)
        yield helper.make_node("Reshape", [f"{name}.cast", f"{name}.shape"], [f"{name}.whole"])
        yield helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name])
    elif np.abs(values).max() > np.finfo(np.float16).max:
        yield tensor
    else:
        yield numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16")
        yield helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT)


def quantized(
    weights: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Convolution weights (output channels first) as integers in [-127, 127] and a scale per channel.

    ``integers * scale`` differs from ``weights`` by at most half a scale.
    """
    axes = tuple(range(1, weights.ndim))
    largest = np.abs(weights).max(axis=axes, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.round(weights / scale).astype(np.int8), scale


def _load(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra(error.name or "onnx") from error
    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ArtifactError(f"{path.name} is not an ONNX file: {error}") from error
