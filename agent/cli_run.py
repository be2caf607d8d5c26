"""Builds the adapters of ``agent run``, ``agent fetch`` and ``try``; nothing else does."""

import functools
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from rich.console import Console

from agent.adapters.file_lease import FileLeases
from agent.adapters.health_file import write_health
from agent.adapters.ids import new_event_id
from agent.adapters.kubernetes_lease import KubernetesLeases
from agent.adapters.memory import MemoryOutbox
from agent.adapters.model_cache import ModelCache, read_manifest
from agent.adapters.model_file import open_detector
from agent.adapters.mqtt import MqttBroker, Will, split_mqtt_url
from agent.adapters.node_lock import NodeLock
from agent.adapters.opencv.annotate import AnnotatedWriter, annotate
from agent.adapters.opencv.inspect import CvInspector
from agent.adapters.opencv.source import CameraSource
from agent.adapters.opencv.threads import use_one_thread
from agent.adapters.outbox import SqliteOutbox
from agent.adapters.reference_files import ReferenceFiles
from agent.adapters.system import SystemProbe
from agent.cli_delivery import Models, build_cache, build_delivery, insist, models_for
from agent.cli_golden import agent_version, golden_manifest, golden_told, mqtt_address
from agent.domain.sharing import Terms
from agent.errors import ModelError, PermanentError, TransientError
from agent.ports import CameraLeases, Detector
from agent.runtime import Parts, Runtime
from agent.settings import FetchSettings, RunSettings, read_secret
from agent.sharing import LeasedCameras, Sharing, Solo
from agent.try_source import Parts as TrialParts
from agent.try_source import Request, Trial
from contract.topics import shadow_topic, staging_topic

_log = logging.getLogger(__name__)


def run(settings: RunSettings) -> int:
    """Run the agent until SIGTERM or SIGINT; its exit status. Raises ``AgentError``."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    split_mqtt_url(settings.mqtt_url)  # Better now than when the node has been taken over.
    read_secret(settings.mqtt_password_file, "MQTT password")  # so is this
    use_one_thread()
    cache = build_cache(settings)
    with models_for(settings, cache, stop) as models:
        return _run(settings, cache, models, stop)


def _run(settings: RunSettings, cache: ModelCache, models: Models, stop: threading.Event) -> int:
    def connect(session_id: UUID, *, will: tuple[str, bytes], subscriptions: list[str]) -> MqttBroker:
        address = mqtt_address(settings, session_id.hex[:8])
        orders = [staging_topic(settings.store), shadow_topic(settings.store)]
        return MqttBroker(address, will=Will(*will), subscriptions=subscriptions, retained=orders)

    load_model, model_works = _model_loader(settings, cache, models)
    claim = NodeLock(settings.data_dir)
    try:
        parts = Parts(
            store=settings.store,
            device=settings.device,
            rollout_id=settings.rollout_id,
            agent_version=agent_version(),
            config_file=settings.config_file,
            telemetry_s=settings.telemetry_s,
            drain_s=settings.drain_s,
            load_model=load_model,
            model_works=model_works,
            open_source=lambda camera: CameraSource(camera.url, camera.fps),
            make_inspector=lambda camera: CvInspector(),
            references=ReferenceFiles(settings.data_dir),
            open_outbox=lambda origin: SqliteOutbox(settings.data_dir, origin, clock=time.time),
            new_id=new_event_id,
            connect=connect,
            claim=claim,
            probe=SystemProbe(settings.data_dir),
            write_health=functools.partial(write_health, settings.health_file),
            staging=models.stager,
            shadow=models.shadow,
            golden=golden_told(settings),
            sharing=_sharing(settings),
        )
        return Runtime(parts).run(stop)
    finally:
        claim.close()


def _sharing(settings: RunSettings) -> Sharing:
    if not settings.camera_leases:
        return Solo()
    terms = Terms(
        hold_s=settings.camera_lease_s * 2 / 3,
        lease_s=settings.camera_lease_s,
        renew_s=settings.camera_lease_s / 6,
        settle_s=settings.camera_settle_s,
    )
    leases: CameraLeases
    if settings.camera_leases == "kubernetes":
        if settings.kubernetes_service_host is None:
            raise PermanentError(
                "cameras shall be shared through Kubernetes, but this is no pod: see camera_leases"
            )
        host = settings.kubernetes_service_host
        host = f"[{host}]" if ":" in host else host
        server = f"https://{host}:{settings.kubernetes_service_port}"
        leases = KubernetesLeases(server, lease_s=terms.lease_s)
    else:
        leases = FileLeases(Path(settings.camera_leases))
    return LeasedCameras(leases, settings.device, terms)


def fetch(settings: FetchSettings) -> Path:
    """Bring the model, and its golden set if it has one, onto this node; where the model lies. Raises
    ``PermanentError``, or ``TransientError`` when it still did not work after ``fetch_timeout_s``."""
    manifest = read_manifest(settings.model_manifest_file, settings.trusted_keys_file)
    token = read_secret(settings.artifact_token_file, "artifact token") or ""
    cache = build_cache(settings)
    never = threading.Event()
    delivery = build_delivery(settings, cache, settings.controller_url, token, never)
    insist(delivery, manifest, settings.fetch_timeout_s, never)
    golden = golden_manifest(settings)
    if golden is not None:
        insist(delivery, golden, settings.fetch_timeout_s, never)
    return cache.path(manifest)


def try_source(request: Request) -> None:
    """Run ``storefleet try`` until it ends or Ctrl-C. Raises ``AgentError``, ``ConfigError``."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    parts = TrialParts(
        open_detector=open_detector,
        open_source=lambda url, fps: CameraSource(url, fps, loop=False),
        make_inspector=CvInspector,
        make_outbox=lambda origin: MemoryOutbox(origin, clock=time.time, new_id=new_event_id),
        new_id=new_event_id,
        open_writer=AnnotatedWriter,
        annotate=lambda image, detections, caption: annotate(image, detections, caption=caption),
    )
    Trial(request, parts, Console(), stop).run()


def _model_loader(
    settings: RunSettings, cache: ModelCache, models: Models
) -> tuple[Callable[[], Detector], Callable[[], None]]:
    """How to load the wanted model, and what to do once it has run."""

    def load() -> Detector:
        manifest = read_manifest(settings.model_manifest_file, settings.trusted_keys_file)
        try:
            path = cache.hold(manifest)
        except ModelError as error:
            if models.bring is None:
                raise
            _log.warning("model on this node is unusable and fetched again", extra={"detail": str(error)})
            models.bring(manifest)
            path = cache.hold(manifest)
        return open_detector(
            path,
            settings.runtime,
            device=settings.detector_device,
            threads=settings.threads or None,
            version=manifest.version,
        )

    def works() -> None:
        manifest = read_manifest(settings.model_manifest_file, settings.trusted_keys_file)
        try:
            cache.mark_good(manifest)
        except OSError as error:
            _log.warning("last good model not noted", extra={"detail": str(error)})

    return load, works


def report_failure(error: PermanentError | TransientError) -> int:
    """Log why the program cannot go on; the exit status to end with."""
    _log.error("cannot go on", extra={"detail": str(error), "kind": type(error).__name__})
    return 1
