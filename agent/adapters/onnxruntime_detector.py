"""Detection with ONNX Runtime, for nodes where OpenVINO is slow or missing."""

import importlib
import os
from typing import Any

from agent.domain.detection import Detection
from agent.errors import ModelError
from agent.ports import Image, ModelInfo
from agent.yolo import DEFAULT_LIMITS, Limits, Metadata, Preprocessor, check_output_shape, decode, input_size

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LOG_ERRORS = 3


def _library() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ModelError("ONNX Runtime is not installed; install storefleet[agent]") from error


def open_session(model: bytes, device: str, threads: int | None) -> Any:
    """An ``InferenceSession`` for the bytes of an ONNX file on ``cpu`` or ``cuda``. Raises ``ModelError``."""
    ort = _library()
    ort.disable_telemetry_events()
    provider = _PROVIDERS.get(device)
    if provider not in ort.get_available_providers():
        raise ModelError(
            f"this ONNX Runtime cannot use device {device}: for cuda, build the agent's image with "
            "onnxruntime-gpu (k3s/accelerators.md), or compute on cpu"
        )
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    options.intra_op_num_threads = threads if threads is not None else len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # Threads that spin between frames would take the processor from the camera workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # its errors have no common base below Exception
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(
            f"ONNX Runtime cannot load the model; it is truncated or damaged: {reason}"
        ) from error
    # Where CUDA fails it goes on with the processor, and says so only in its log.
    if provider not in session.get_providers():
        raise ModelError(
            f"ONNX Runtime has no {device} device here: the pod needs the resource nvidia.com/gpu and the "
            "RuntimeClass nvidia (k3s/accelerators.md)"
        )
    return session


def onnx_metadata(session: Any) -> dict[str, Any]:
    """The custom metadata of an ONNX file. Raises ``ModelError``."""
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelError("the model's metadata is damaged; fetch or export it again") from error


class OnnxRuntimeDetector:
    """Implements ``Detector`` for one thread."""

    def __init__(
        self,
        session: Any,
        info: ModelInfo,
        metadata: Metadata,
        preprocessor: Preprocessor,
        *,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._session = session
        self._info = info
        self._metadata = metadata
        self._preprocessor = preprocessor
        self._limits = limits
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            raise ModelError(
                "the model does not take one picture in 32-bit floats; export a YOLO model with half=False"
            )
        self._input = inputs[0].name
        height, width = inputs[0].shape[2:]
        self._fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        check_output_shape([side if isinstance(side, int) else None for side in outputs[0].shape], metadata)

    @property
    def info(self) -> ModelInfo:
        return self._info

    def detect(self, image: Image) -> list[Detection]:
        size = self._fixed or input_size((image.shape[0], image.shape[1]), self._metadata.image_size)
        canvas, placement = self._preprocessor.letterbox(image, size)
        try:
            output = self._session.run(None, {self._input: self._preprocessor.blob(canvas)})[0]
        except Exception as error:  # its errors have no common base below Exception
            raise ModelError(f"inference with ONNX Runtime failed: {str(error)[:200]}") from error
        return decode(output, placement, self._metadata, self._limits)
