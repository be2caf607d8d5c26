"""Detection with OpenVINO, the default: the fastest of the three on the processors of camera nodes.

Pictures go in as they are, BGR bytes; the conversion to RGB floats is part of the compiled graph.
Nothing is downloaded or reported: only the runtime is used, not the conversion tools (which have
telemetry), and no compiled-model cache is written.
"""

import importlib
from pathlib import Path
from typing import Any

from agent.domain.detection import Detection
from agent.errors import ModelError
from agent.ports import Image, ModelInfo
from agent.yolo import DEFAULT_LIMITS, Limits, Metadata, Preprocessor, check_output_shape, decode, input_size

_COMPILED_KEPT = 4


def _library() -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ModelError("OpenVINO is not installed; install storefleet[agent]") from error


def read_network(model: bytes, weights: bytes | None) -> Any:
    """An ``openvino.Model`` from ``model.xml`` and ``model.bin``, or from an ONNX file alone.
    Raises ``ModelError`` when they are damaged."""
    ov = _library()
    try:
        return ov.Core().read_model(model, weights) if weights is not None else ov.Core().read_model(model)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot read the model; it is truncated or damaged: {_short(error)}"
        ) from error


def onnx_metadata(network: Any) -> dict[str, Any]:
    """The custom metadata of an ONNX file that OpenVINO has read. Raises ``ModelError``."""
    try:
        keys = dict(network.rt_info.items()).get("framework", ())
        return {key: network.get_rt_info(["framework", key]).astype(str) for key in keys}
    except UnicodeDecodeError as error:
        raise ModelError("the model's metadata is damaged; fetch or export it again") from error


class OpenVinoDetector:
    """Implements ``Detector`` for one thread. Networks of fixed input size are compiled once, others once
    per frame size. ``threads`` is how many cores one inference may use; None leaves it to OpenVINO."""

    def __init__(
        self,
        network: Any,
        info: ModelInfo,
        metadata: Metadata,
        preprocessor: Preprocessor,
        *,
        device: str = "cpu",
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._network = network
        self._info = info
        self._metadata = metadata
        self._preprocessor = preprocessor
        self._device = device.upper()
        self._limits = limits
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": ""}
        if self._device != "CPU" and not _has(self._device):
            raise _absent(device)
        if threads is not None and self._device == "CPU":
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._requests: dict[tuple[int, int], Any] = {}
        shape = _one_input(network).partial_shape
        if (
            shape.rank.is_dynamic
            or len(shape) != 4
            or (not shape[1].is_dynamic and shape[1].get_length() != 3)
        ):
            raise ModelError(f"the model's input {shape} is not one picture of 3 colours")
        self._fixed: tuple[int, int] | None = None
        if not shape[2].is_dynamic and not shape[3].is_dynamic:
            self._fixed = shape[2].get_length(), shape[3].get_length()
        check_output_shape(
            [None if side.is_dynamic else side.get_length() for side in network.outputs[0].partial_shape],
            metadata,
        )
        self._request(self._fixed or metadata.image_size)

    @property
    def info(self) -> ModelInfo:
        return self._info

    def detect(self, image: Image) -> list[Detection]:
        size = self._fixed or input_size((image.shape[0], image.shape[1]), self._metadata.image_size)
        canvas, placement = self._preprocessor.letterbox(image, size)
        try:
            output = self._request(size).infer([canvas[None]], share_inputs=True, share_outputs=True)[0]
        except RuntimeError as error:
            raise ModelError(f"inference with OpenVINO failed: {_short(error)}") from error
        return decode(output, placement, self._metadata, self._limits)

    def _request(self, size: tuple[int, int]) -> Any:
        request = self._requests.get(size)
        if request is None:
            if len(self._requests) >= _COMPILED_KEPT:
                del self._requests[next(iter(self._requests))]
            request = self._requests[size] = self._compile(size)
        return request

    def _compile(self, size: tuple[int, int]) -> Any:
        ov = _library()
        try:
            network = self._network.clone()
            if self._fixed is None:
                network.reshape([1, 3, *size])
            steps = ov.preprocess.PrePostProcessor(network)
            steps.input().tensor().set_element_type(ov.Type.u8).set_layout(
                ov.Layout("NHWC")
            ).set_color_format(ov.preprocess.ColorFormat.BGR).set_shape([1, *size, 3])
            steps.input().model().set_layout(ov.Layout("NCHW"))
            steps.input().preprocess().convert_element_type(ov.Type.f32).convert_color(
                ov.preprocess.ColorFormat.RGB
            ).scale(255.0)
            compiled = ov.Core().compile_model(steps.build(), self._device, self._settings)
            return compiled.create_infer_request()
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO cannot prepare the model for {self._device}: {_short(error)}"
            ) from error


def _has(device: str) -> bool:
    """Several of a kind are called ``GPU.0``, ``GPU.1``, …; ``GPU`` then means the first."""
    return any(name.partition(".")[0] == device for name in _library().Core().available_devices)


def _absent(device: str) -> ModelError:
    """Why OpenVINO has not got ``device``: the image is made without its plugin, or there is none here."""
    plugin = Path(_library().__file__).parent / "libs" / f"libopenvino_intel_{device}_plugin.so"
    if not plugin.exists():
        return ModelError(
            f"this image has no {device.upper()} plugin: use the agent-gpu image, or compute on cpu"
        )
    return ModelError(
        f"OpenVINO finds no {device} here: the pod needs a resource of Intel's device plugin and the right "
        "to use /dev/dri, the image an OpenCL driver that knows this GPU (k3s/accelerators.md)"
    )


def _one_input(network: Any) -> Any:
    if len(network.inputs) != 1 or not network.outputs:
        raise ModelError("the model does not take one picture; export a YOLO detection model")
    return network.inputs[0]


def _short(error: RuntimeError) -> str:
    lines = [line for line in str(error).splitlines() if line and not line.startswith("Exception from")]
    return (lines or ["unknown reason"])[0][:200]
