"""Builds the adapters of ``agent golden``, and of what ``agent run`` tells of its result."""

import importlib.metadata
import logging
import time
from collections.abc import Callable
from typing import BinaryIO
from uuid import uuid4

from agent.adapters.golden_files import GoldenFiles
from agent.adapters.model_cache import ModelCache, read_golden_manifest, read_manifest
from agent.adapters.model_file import open_detector
from agent.adapters.mqtt import MqttAddress, MqttBroker
from agent.adapters.opencv.decode import decode_picture
from agent.adapters.opencv.threads import use_one_thread
from agent.cli_delivery import build_cache
from agent.domain.golden import Thresholds
from agent.errors import ModelError
from agent.golden import Subject, Tools, insist_on, judge, kept_report, tell
from agent.ports import Detector
from agent.settings import ModelSettings, RunSettings, read_secret
from contract.golden import GoldenManifest, GoldenReport
from contract.topics import DeviceTopics

_log = logging.getLogger(__name__)


def golden(settings: RunSettings) -> GoldenReport | None:
    """Replay the golden set of this release, tell the centre, and refuse what does not pass; None when there
    is no set. Raises ``ModelError``."""
    manifest = golden_manifest(settings)
    if manifest is None:
        return None
    use_one_thread()
    cache = build_cache(settings)
    report = judge(_subject(settings), manifest, _thresholds(settings), _tools(settings, cache, manifest))
    _log.info(
        "golden set replayed",
        extra={
            "golden": manifest.digest,
            "digest": report.model,
            "frames": report.frames,
            "inference_ms_p50": round(report.inference_ms_p50, 1),
            "earlier": report.replayed_at != report.at,
        },
    )
    broker = MqttBroker(mqtt_address(settings, f"golden-{uuid4().hex[:8]}"), will=None, subscriptions=[])
    try:
        topic = DeviceTopics(settings.store, settings.device).golden
        if not tell(broker, topic, report, time.monotonic):
            _log.warning("golden result not told yet; the agent tells it, or the next try does")
    finally:
        broker.close()
    insist_on(report)
    return report


def golden_manifest(settings: ModelSettings) -> GoldenManifest | None:
    """Of the set that this release has to pass; None: of none. Raises ``ModelError``."""
    if settings.golden_manifest_file is None:
        return None
    return read_golden_manifest(settings.golden_manifest_file, settings.trusted_keys_file)


def golden_told(settings: RunSettings) -> Callable[[], GoldenReport | None]:
    """What the running agent tells of its release's golden set."""

    def report() -> GoldenReport | None:
        try:
            manifest = golden_manifest(settings)
            subject = _subject(settings)
        except ModelError as error:
            _log.warning("golden result not told", extra={"detail": str(error)})
            return None
        if manifest is None:
            return None
        files, thresholds = GoldenFiles(settings.data_dir), _thresholds(settings)
        return kept_report(files, subject, manifest.digest, thresholds, time.time())

    return report


def mqtt_address(settings: RunSettings, suffix: str) -> MqttAddress:
    """The store's broker, under a client id of this process's own. Raises ``PermanentError``."""
    return MqttAddress(
        settings.mqtt_url,
        f"{settings.store}-{settings.device}-{suffix}",
        username=settings.mqtt_username,
        password=read_secret(settings.mqtt_password_file, "MQTT password"),
        ca_file=settings.mqtt_ca_file,
    )


def agent_version() -> str:
    """Version of the installed package."""
    try:
        return importlib.metadata.version("storefleet")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _subject(settings: RunSettings) -> Subject:
    model = read_manifest(settings.model_manifest_file, settings.trusted_keys_file).digest
    return Subject(model, settings.runtime, agent_version(), settings.rollout_id)


def _thresholds(settings: RunSettings) -> Thresholds:
    return Thresholds(settings.golden_min_recall, settings.golden_max_count_error)


def _tools(settings: RunSettings, cache: ModelCache, manifest: GoldenManifest) -> Tools:
    def load() -> Detector:
        model = read_manifest(settings.model_manifest_file, settings.trusted_keys_file)
        path = cache.verified(model)
        return open_detector(
            path,
            settings.runtime,
            threads=settings.threads or None,
            version=model.version,
            device=settings.detector_device,
        )

    def open_set() -> BinaryIO:
        path = cache.verified(manifest)
        try:
            return path.open("rb")
        except OSError as error:
            raise ModelError(f"cannot read golden set {path}: {error.strerror}") from error

    return Tools(load, open_set, decode_picture, GoldenFiles(settings.data_dir), time.time, time.perf_counter)
