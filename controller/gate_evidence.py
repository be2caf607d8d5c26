"""Gathers from the database what gates judge: one reading transaction, no store is asked.

History is read for the hours that will be compared and for no others, of a sample of stores that is the same
each time, so that a judgement costs about the same in a fleet of any size.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from contract.errors import ConfigError
from contract.store_config import load_store_config
from controller.domain.fleet import Camera, Device, StoreConfigVersion
from controller.domain.golden import GoldenOutcome, store_outcome
from controller.domain.quality import NOT_DEPLOYED, Mark, MemoryBucket, QualityBucket
from controller.domain.records import Deployment
from controller.domain.rollout import fresh
from controller.domain.rollout.evidence import (
    CameraNow,
    Cluster,
    Evidence,
    Heartbeat,
    StoreEvidence,
)
from controller.domain.rollout.gates import hours_of
from controller.domain.rollout.hours import DAYS, LOOK_BACK, MAX_CONTROLS
from controller.domain.rollout.state import Rollout, StoreNow, StoreRecord
from controller.domain.shadow import ShadowFigures, store_shadow
from controller.ports import Repositories

OfStore = TypeVar("OfStore", Device, Camera, QualityBucket, MemoryBucket, GoldenOutcome, ShadowFigures)

MAX_CONFIGS = 5_000
"""Frame rates of that many configurations are remembered."""


class EvidenceReader:
    """Keeps, between two readings, only what store configurations say, by their digest."""

    def __init__(self) -> None:
        self._fps: dict[str, Mapping[str, float]] = {}

    def read(
        self,
        repositories: Repositories,
        rollout: Rollout,
        wave_index: int,
        records: Mapping[str, StoreRecord],
        stores: Mapping[str, StoreNow],
        model_digest: str,
        now: datetime,
    ) -> Evidence:
        """``records`` are the rollout's, ``stores`` all that are known, also those that are no targets.
        ``model_digest`` is the release's. Raises as the ports say."""
        wave = [name for name in rollout.waves[wave_index].stores if name in stores]
        spec = rollout.spec
        found = self._present(repositories, wave, spec.release, records, stores)
        if any(gate.kind == "golden" for gate in spec.gates):
            found = _with_golden(repositories, found, model_digest)
        if any(gate.kind == "shadow" for gate in spec.gates):
            since = rollout.started_at or rollout.created_at
            found = _with_shadow(repositories, found, model_digest, since)
        if any(gate.kind in ("quality", "performance") for gate in spec.gates):
            found = self._with_day(repositories, found)
        evidence = Evidence(model_digest, found)
        if any(gate.kind == "quality" for gate in spec.gates):
            evidence = self._with_history(repositories, evidence, rollout, wave_index, records, stores, now)
        return evidence

    def _present(
        self,
        repositories: Repositories,
        names: Sequence[str],
        release: str,
        records: Mapping[str, StoreRecord],
        stores: Mapping[str, StoreNow],
    ) -> dict[str, StoreEvidence]:
        all_devices, all_cameras = repositories.fleet.of_stores(names)
        marks = repositories.quality.marks((device.store, device.device) for device in all_devices)
        devices, cameras = _by_store(all_devices), _by_store(all_cameras)
        ready = [r.ready_at for name in names if (r := records.get(name)) and r.ready_at is not None]
        memory = _by_store(repositories.quality.memory_of_stores(names, min(ready)) if ready else ())
        current = {deployment.store: deployment for deployment in repositories.deployments.current(names)}
        configs = repositories.configs.currents(names)
        found = {}
        for name in names:
            record = records.get(name) or StoreRecord(name, 0)
            own, sizes = devices.get(name, ()), memory.get(name, ())
            hearts = [_heartbeat(device, marks.get((name, device.device)), sizes) for device in own]
            heard = {device.device: device for device in own}
            fps = self._wanted_fps(configs.get(name))
            staged, staged_at = _cached(own)
            ran = record.ready_at is not None and stores[name].release == release
            before = stores[name].deployment if record.deployment is None and ran else None
            found[name] = StoreEvidence(
                name,
                stores[name].labels,
                stores[name].reachable,
                record.deployment or before,
                record.ready_at,
                before is None,
                _left_out(record),
                _cluster(current.get(name)),
                [heart for heart in hearts if heart is not None],
                [
                    _camera(camera, heard[camera.device], fps)
                    for camera in cameras.get(name, ())
                    if camera.device in heard
                ],
                staged,
                staged_at,
            )
        return found

    def _wanted_fps(self, version: StoreConfigVersion | None) -> Mapping[str, float]:
        if version is None:
            return {}
        if version.digest not in self._fps:
            if len(self._fps) >= MAX_CONFIGS:
                self._fps.clear()
            try:
                config = load_store_config(version.yaml)
            except ConfigError:  # it was accepted by another version of this program
                return {}
            self._fps[version.digest] = {camera.id: camera.fps for camera in config.cameras}
        return self._fps[version.digest]

    def _with_day(
        self, repositories: Repositories, found: Mapping[str, StoreEvidence]
    ) -> dict[str, StoreEvidence]:
        """The day before each store was ready, and everything since."""
        ready = [store.ready_at for store in found.values() if store.ready_at is not None]
        if not ready:
            return dict(found)
        span = min(ready) - LOOK_BACK, max(ready) + DAYS * LOOK_BACK
        by_store = _by_store(repositories.quality.of_stores(found, [span]))
        return {
            name: replace(
                store,
                quality=by_store.get(name, ()),
                cameras=[_with_past(camera, store, by_store.get(name, ())) for camera in store.cameras],
            )
            for name, store in found.items()
        }

    def _with_history(
        self,
        repositories: Repositories,
        evidence: Evidence,
        rollout: Rollout,
        wave_index: int,
        records: Mapping[str, StoreRecord],
        stores: Mapping[str, StoreNow],
        now: datetime,
    ) -> Evidence:
        soak = rollout.spec.waves[wave_index].soak
        looked_at = fresh.of_wave(evidence, rollout.waves[wave_index].stores, soak, now)
        hours = hours_of(evidence, looked_at, now)
        if hours is None or not hours.after or not hours.before:
            return evidence
        controls = _controls(rollout, records, stores)
        by_store = _by_store(repositories.quality.of_stores((*evidence.stores, *controls), hours.spans()))
        found = {
            name: replace(store, quality=_union(store.quality, by_store.get(name, ())))
            for name, store in evidence.stores.items()
        }
        for name in controls:
            found[name] = StoreEvidence(name, stores[name].labels, quality=by_store.get(name, ()))
        return replace(evidence, stores=found)


def _controls(
    rollout: Rollout, records: Mapping[str, StoreRecord], stores: Mapping[str, StoreNow]
) -> list[str]:
    """Stores without the release that this rollout has not touched; the same ones every time, by a hash of
    both names."""

    def place(name: str) -> str:
        return hashlib.sha256(f"{rollout.name}/{name}".encode()).hexdigest()

    untouched = [
        name
        for name, store in stores.items()
        if store.release != rollout.spec.release and (name not in records or records[name].deployment is None)
    ]
    return sorted(sorted(untouched, key=place)[:MAX_CONTROLS])


def _with_golden(
    repositories: Repositories, found: Mapping[str, StoreEvidence], model_digest: str
) -> dict[str, StoreEvidence]:
    """What the pods of exactly these deployments found: of those the rollout demanded it."""
    told = _by_store(repositories.golden.results(found, model_digest))
    return {
        name: store
        if store.deployment is None
        else replace(store, golden=store_outcome(told.get(name, ()), model_digest, store.deployment))
        for name, store in found.items()
    }


def _with_shadow(
    repositories: Repositories, found: Mapping[str, StoreEvidence], model_digest: str, since: datetime
) -> dict[str, StoreEvidence]:
    """What was counted for this model, and told since the rollout began."""
    results = repositories.shadows.results(found, model_digest)
    told = _by_store(one for one in results if one.received_at >= since)
    return {
        name: replace(store, shadow=store_shadow(told.get(name, ()), model_digest))
        for name, store in found.items()
    }


def _by_store(told: Iterable[OfStore]) -> dict[str, list[OfStore]]:
    found: dict[str, list[OfStore]] = {}
    for one in told:
        found.setdefault(one.store, []).append(one)
    return found


def _union(a: Sequence[QualityBucket], b: Sequence[QualityBucket]) -> list[QualityBucket]:
    return list({bucket.key: bucket for bucket in (*a, *b)}.values())


def _left_out(record: StoreRecord) -> str:
    if record.skipped:
        return record.skipped
    if record.restoring is not None or record.restored_at is not None:
        return "put back"
    return record.failure or "failed" if record.failed_at is not None else ""


def _cluster(deployment: Deployment | None) -> Cluster | None:
    return (
        None if deployment is None else Cluster(deployment.rollout_id, deployment.state, deployment.message)
    )


def _heartbeat(device: Device, mark: Mark | None, memory: Sequence[MemoryBucket]) -> Heartbeat | None:
    if device.heartbeat_at is None:
        return None
    deployment = device.rollout_id or NOT_DEPLOYED
    series = [
        (bucket.start, bucket.mb / bucket.samples)
        for bucket in memory
        if bucket.device == device.device and bucket.deployment == deployment and bucket.samples
    ]
    restarts = mark.restarts if mark is not None and mark.deployment == deployment else 0
    percent = (device.telemetry or {}).get("memory_percent")
    return Heartbeat(device.device, device.rollout_id, device.heartbeat_at, percent, restarts, series)


def _camera(camera: Camera, device: Device, fps: Mapping[str, float]) -> CameraNow:
    """Figures come with the device's heartbeat, so they are of its deployment and as fresh as it is."""
    said = camera.telemetry or {}
    return CameraNow(
        camera.camera,
        device.rollout_id,
        device.heartbeat_at or device.last_seen,
        camera.status,
        float(said.get("fps_inferred", 0.0)),
        fps.get(camera.camera),
        said.get("frame_age_s"),
        said.get("inference_ms_p50"),
    )


def _with_past(camera: CameraNow, store: StoreEvidence, quality: Sequence[QualityBucket]) -> CameraNow:
    past = [
        bucket
        for bucket in quality
        if bucket.camera == camera.camera and _is_past(bucket, store.deployment, store.ready_at)
    ]
    samples = sum(bucket.inference_samples for bucket in past)
    if not samples:
        return camera
    return replace(camera, inference_ms_before=sum(bucket.inference_ms for bucket in past) / samples)


def _is_past(bucket: QualityBucket, deployment: UUID | None, ready_at: datetime | None) -> bool:
    return bucket.deployment != deployment and (ready_at is None or bucket.start < ready_at)


def _cached(devices: Sequence[Device]) -> tuple[frozenset[str] | None, datetime | None]:
    """What lies on all nodes of a store, and when the one that was silent longest said so."""
    told = [
        (frozenset(device.cached_models), device.heartbeat_at)
        for device in devices
        if device.cached_models is not None and device.heartbeat_at is not None
    ]
    if not told or len(told) < len(devices):
        return None, None
    return frozenset.intersection(*(models for models, _ in told)), min(at for _, at in told)
