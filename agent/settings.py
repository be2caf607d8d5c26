"""The agent's settings: environment variables with the prefix ``STOREFLEET_``; those that the centre sets
are in ``contract.workload.Env``.

Secrets are never settings themselves, only the paths of the files that hold them, so no ``repr``, log
line or process list can show one.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.errors import PermanentError
from contract.names import Name

Seconds = Annotated[float, Field(gt=0, le=3600)]
Bytes = Annotated[int, Field(ge=0, le=2**50)]


class ModelSettings(BaseSettings):
    """What ``agent fetch`` needs, and ``agent run`` too."""

    model_config = SettingsConfigDict(env_prefix="STOREFLEET_", extra="ignore", frozen=True)

    data_dir: Path
    """Outbox, lock and model cache of the node; survives pods."""
    model_manifest_file: Path
    """The signed manifest of the model to run."""
    trusted_keys_file: Path
    """PEM public keys that may sign manifests."""
    fetch_rate: Bytes = 0
    """Bytes a second at most from the centre; 0: as fast as it goes."""
    cache_max_bytes: Bytes = 512 * 1024**2
    """How large the model cache may grow before models used long ago are evicted; 0: as large as the disk."""
    peers_host: str = ""
    """The store's other nodes, asked for models before the centre: names or addresses, comma separated, each
    perhaps with ``:port``. A name may stand for many, as that of a headless Service does."""
    peer_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where to serve cached models to them; 0: not at all."""
    golden_manifest_file: Path | None = None
    """The signed manifest of the golden set that the model has to pass on this node; None: of none."""
    golden_min_recall: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Of each class of the golden set."""
    golden_max_count_error: Annotated[float, Field(ge=0)] = 0.5
    """Mean absolute error in facings of each class and frame of the golden set."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class FetchSettings(ModelSettings):
    controller_url: str
    """Base URL of the controller's API, such as ``https://storefleet.example``."""
    artifact_token_file: Path
    """Holds the bearer token for downloads."""
    fetch_timeout_s: Seconds = 600.0
    """How long to keep trying before giving up (the pod is then restarted and resumes)."""


class RunSettings(ModelSettings):
    store: Name
    """Name of the store; first part of every topic."""
    device: Name
    """Name of this node."""
    mqtt_url: str
    """``mqtt://host:port`` or ``mqtts://host:port``, without credentials."""
    mqtt_username: str | None = None
    """The store's user at the broker."""
    mqtt_password_file: Path | None = None
    """Holds that user's password."""
    mqtt_ca_file: Path | None = None
    """CA of the broker's certificate; default: the system's."""
    config_file: Path
    """The store configuration, watched for changes."""
    controller_url: str | None = None
    """Base URL of the controller's API, to fetch models ahead of time and those found damaged."""
    artifact_token_file: Path | None = None
    """Holds the bearer token for downloads; neighbours are let in by what is derived from it."""
    stage_spread_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Nodes with neighbours begin to fetch a staged model within this time, each at its own moment."""
    health_file: Path
    """Where the probes find this process's health."""
    rollout_id: UUID | None = None
    """The rollout that brought this release; written into every event."""
    telemetry_s: Seconds = 5.0
    """Seconds between heartbeats."""
    drain_s: Annotated[float, Field(ge=0, le=300)] = 5.0
    """How long a stopping agent without successor may still deliver events."""
    runtime: Literal["auto", "openvino", "onnxruntime", "ultralytics"] = "auto"
    """What runs the model; ``auto`` takes the one its format is for."""
    detector_device: Literal["cpu", "gpu", "cuda"] = "cpu"
    """What computes: the processor, an Intel GPU (OpenVINO) or an NVIDIA GPU (ONNX Runtime). One that is not
    there is an error: an agent on a processor that was sized for a GPU would be too slow without a word."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads for inference; 0 lets the runtime choose."""
    shadow_memory_mb: Annotated[int, Field(ge=64, le=65536)] = 768
    """Private memory that a candidate in the shadow may take; more ends it."""
    camera_leases: str = ""
    """How nodes share the store's cameras: ``kubernetes``, a directory that all of them see, or nothing: this
    node watches all."""
    camera_lease_s: Annotated[float, Field(ge=1, le=600)] = 12.0
    """A node that is silent for this long has lost its cameras. It renews six times as often, and stops by
    itself when that has failed for two thirds of it."""
    camera_settle_s: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """How long a node must have been there before others hand cameras over that they watch."""
    kubernetes_service_host: Annotated[str | None, Field(validation_alias="KUBERNETES_SERVICE_HOST")] = None
    """Where the API server is; Kubernetes sets it in every pod."""
    kubernetes_service_port: Annotated[int, Field(validation_alias="KUBERNETES_SERVICE_PORT")] = 443


T = TypeVar("T", bound=BaseSettings)


def load_settings(kind: type[T]) -> T:
    """Read ``kind`` from the environment. Raises ``PermanentError`` naming every variable that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        wrong = [(str(e["loc"][0]), e["msg"]) for e in error.errors(include_url=False, include_input=False)]
        words = [
            f"{prefix}{n.upper()}: {msg}" if n in kind.model_fields else f"{n}: {msg}" for n, msg in wrong
        ]
        raise PermanentError(f"settings in the environment: {'; '.join(words)}") from error


def read_secret(path: Path | None, what: str) -> str | None:
    """A secret file's text, without white space around it; None without path. Raises ``PermanentError``."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"cannot read the {what} from {path}: {type(error).__name__}") from error
    if not text:
        raise PermanentError(f"the {what} file {path} is empty")
    return text
