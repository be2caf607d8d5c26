"""``storefleet controller …``: runs the centre. Reads the settings and builds the adapters."""

import functools
import json
import logging
import random
import signal
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from contract.signing import load_public_keys
from contract.topics import DEPLOYER_SUBSCRIPTIONS, STAGING_SUBSCRIPTION
from controller import cli_queries
from controller.adapters.database import Database, migrate, open_database
from controller.adapters.database.leadership import open_leadership
from controller.adapters.gate_http import HttpGateCaller
from controller.adapters.local.cluster import LocalCluster
from controller.adapters.mqtt import MqttFleetBus
from controller.adapters.mqtt_cluster import Deployers, MqttCluster
from controller.adapters.mqtt_link import LinkAddress, MqttLink
from controller.adapters.token_file import ensure_token
from controller.api import artifacts, fleet, health, inventory, journal, releases, rollouts, stagings
from controller.api.app import create_app
from controller.api.guard import Guard
from controller.cluster import Cluster
from controller.crew import Crew, Worker
from controller.domain.fleet import Store
from controller.domain.workload import WorkloadSettings
from controller.errors import PermanentError, TransientError
from controller.ingest import Ingest, IngestStatus
from controller.leadership import Leader
from controller.models.keys import SigningKey
from controller.models.registry import ModelRegistry
from controller.models.store import ModelStore
from controller.ports import BusStatus
from controller.reconciler import Reconciler, Tempo
from controller.rollout_executor import RolloutExecutor
from controller.rollout_judge import GateJudge
from controller.settings import ControllerSettings
from controller.staging import StagingSender

if TYPE_CHECKING:
    from controller.adapters.kubernetes_login import ExecLogins

log = logging.getLogger("controller")

STOP_TIMEOUT_S = 10.0
DRAIN_S = 5

controller_app = typer.Typer(
    name="controller",
    help="Run the centre: ingest, API and reconciler. Settings: STOREFLEET_CONTROLLER_… variables.",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    """Add ``controller`` and the commands that ask a running one."""
    root.add_typer(controller_app, name="controller")
    cli_queries.register(root)


def main() -> None:
    root = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
    register(root)
    root()


@controller_app.command()
def run(
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of the API; default: STOREFLEET_CONTROLLER_API_PORT or 8080."
        ),
    ] = None,
) -> None:
    """Run until SIGTERM or Ctrl-C. Example: storefleet controller run --port 8080"""
    with cli_queries.reported():
        settings = read_settings()
        if port is not None:
            settings = settings.model_copy(update={"api_port": port})
        _log_to_stderr(settings.log_level)
        code = serve(settings)
    raise typer.Exit(code)


@controller_app.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema. ``run`` does this by itself."""
    with cli_queries.reported():
        settings = read_settings()
        _make_data_dir(settings)
        database = open_database(settings.database)
        before, after = migrate(database)
        database.close()
    typer.echo(f"schema {after} (was {before or 'empty'})")


@controller_app.command()
def openapi() -> None:
    """Print the API's OpenAPI document. Example: storefleet controller openapi > docs/openapi.json"""
    with cli_queries.reported(), TemporaryDirectory() as directory:
        settings = ControllerSettings(data_dir=Path(directory))
        database = open_database("sqlite://")
        key = SigningKey.load_or_create(settings.data_dir)
        idle = IngestStatus(BusStatus(connected=False, queued=0, sessions_lost=0))
        app = _application(settings, database, Guard("", ""), key, lambda: idle)
        typer.echo(json.dumps(app.openapi(), indent=2))
        database.close()


def read_settings() -> ControllerSettings:
    try:
        return ControllerSettings()
    except ValidationError as error:
        found = [
            f"STOREFLEET_CONTROLLER_{'_'.join(str(part).upper() for part in e['loc'])}: {e['msg']}"
            for e in error.errors(include_input=False)
        ]
        raise PermanentError("settings: " + "; ".join(found)) from error


def _make_data_dir(settings: ControllerSettings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(
            f"data directory {settings.data_dir}: {error.strerror}; set STOREFLEET_CONTROLLER_DATA_DIR"
        ) from error


def serve(settings: ControllerSettings) -> int:
    """The composition root: builds everything, runs it, takes it apart. The exit code.

    The API answers at once, also while the database is down, so that ``/health`` can say so.
    """
    _make_data_dir(settings)
    guard = Guard(ensure_token(settings.admin_token_path), ensure_token(settings.artifact_token_path))
    database = open_database(settings.database)
    bus = MqttFleetBus(
        settings.mqtt_url,
        client_id=settings.mqtt_client_id,
        clock=utc_now,
        username=settings.mqtt_username,
        password_file=settings.mqtt_password_file,
        ca_file=settings.mqtt_ca_file,
    )
    ingest = Ingest(database, bus, utc_now)
    key = SigningKey.load_or_create(settings.data_dir / "keys")
    deployers = Deployers(key.sign, lambda: load_public_keys(key.trusted_pem), utc_now)
    staging = StagingSender(database, lambda: link)

    def receive(topic: str, payload: bytes, retained: bool) -> None:
        if not staging.receive(topic, payload, retained):
            deployers.receive(topic, payload, retained)

    link = MqttLink(
        LinkAddress(
            settings.mqtt_url,
            f"{settings.mqtt_client_id}-deployers",
            settings.mqtt_username,
            settings.mqtt_password_file,
            settings.mqtt_ca_file,
        ),
        (*DEPLOYER_SUBSCRIPTIONS, STAGING_SUBSCRIPTION),
        receive,
    )
    deployers.connect(link)
    leadership = open_leadership(settings.database)
    reconciler = Reconciler(
        database,
        _clusters(settings, deployers),
        WorkloadSettings(settings.agent_facing_mqtt_url, settings.agent_facing_url),
        lambda: key.trusted_pem,
        utc_now,
        random.random,
        Tempo(workers=settings.reconcile_workers, resync_s=settings.resync_s),
        leadership.held,
    )
    executor = RolloutExecutor(
        database, GateJudge(database, HttpGateCaller()), utc_now, uuid.uuid4, leads=leadership.held
    )
    workers: dict[str, Worker] = {
        "leader": Leader(leadership),
        "ingest": ingest,
        "reconciler": reconciler,
        "rollouts": executor,
        "staging": staging,
    }
    server = uvicorn.Server(
        uvicorn.Config(
            _application(settings, database, guard, key, ingest.status),
            host=settings.api_host,
            port=settings.api_port,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=DRAIN_S,
        )
    )

    def leave(*_: object) -> None:
        server.should_exit = True

    crew = Crew(on_failure=leave)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # uvicorn replaces these while it serves, and raises the signal again
    crew.start("start-up", _StartUp(database, bus, crew, workers))
    link.start()
    try:
        server.run()
    finally:
        stuck = crew.join(STOP_TIMEOUT_S)
        bus.close()
        link.close()
        database.close()
    if stuck:
        log.error("did not stop within %g s: %s", STOP_TIMEOUT_S, ", ".join(stuck))
    return 1 if crew.failed or stuck or not server.started else 0


def _application(
    settings: ControllerSettings,
    database: Database,
    guard: Guard,
    key: SigningKey,
    ingest_status: Callable[[], IngestStatus],
) -> FastAPI:
    registry = ModelRegistry(ModelStore(settings.data_dir / "models"), key, database, utc_now)
    routers = [
        health.build_router(database, ingest_status, utc_now),
        fleet.build_router(database, guard, utc_now),
        inventory.build_router(database, guard, utc_now, settings.epcis_authority),
        journal.build_router(database, guard, utc_now),
        releases.build_router(database, guard, utc_now, uuid.uuid4),
        stagings.build_router(database, guard, utc_now),
        rollouts.build_router(database, guard, utc_now, uuid.uuid4),
        artifacts.build_router(registry, guard),
    ]
    return create_app(
        routers,
        max_body_bytes=settings.max_body_bytes,
        larger_bodies={artifacts.UPLOAD_PATH: artifacts.MAX_UPLOAD_BYTES},
    )


class _StartUp:
    """Migrates the database, however long it takes to come, then lets the workers begin."""

    def __init__(self, database: Database, bus: MqttFleetBus, crew: Crew, workers: dict[str, Worker]) -> None:
        self._database = database
        self._bus = bus
        self._crew = crew
        self._workers = workers

    def run(self, stop: threading.Event) -> None:
        pause = 0.5
        while not stop.is_set():
            try:
                before, after = migrate(self._database)
            except TransientError as error:
                log.error("waiting for the database: %s", error)
                stop.wait(pause)
                pause = min(10.0, 2 * pause)
                continue
            log.info("database schema %s (was %s)", after, before or "empty")
            self._bus.start()
            for name, worker in self._workers.items():
                self._crew.start(name, worker)
            return


def _clusters(settings: ControllerSettings, deployers: Deployers) -> Callable[[Store], Cluster]:
    """How to reach a store, as its registration says. Raises ``PermanentError`` for what it cannot mean."""

    @functools.cache
    def exec_logins() -> "ExecLogins":
        from controller.adapters.kubernetes_login import ExecLogins

        return ExecLogins()

    def local(store: Store) -> Cluster:
        where = store.cluster
        owner = where.get("owner_pid")
        return LocalCluster(
            Path(where.get("run_dir") or settings.local_run_dir or settings.data_dir / "clusters"),
            nodes=[str(node) for node in where.get("nodes") or ["node-1"]],
            secrets=Path(where.get("secrets") or settings.data_dir / "secrets" / store.name),
            owner_pid=int(owner) if owner else None,
        )

    def kubernetes(store: Store) -> Cluster:
        from controller.adapters.kubernetes_cluster import KubernetesCluster  # slow to import, seldom needed

        file = store.cluster.get("kubeconfig")
        return KubernetesCluster(
            namespace=str(store.cluster.get("namespace") or "storefleet"),
            kubeconfig=Path(file).expanduser() if file else None,
            context=store.cluster.get("context"),
            logins=exec_logins(),
        )

    def deployer(store: Store) -> Cluster:
        return MqttCluster(deployers, namespace=str(store.cluster.get("namespace") or "storefleet"))

    kinds: dict[str, Callable[[Store], Cluster]] = {
        "local": local,
        "kubernetes": kubernetes,
        "deployer": deployer,
    }

    def cluster_of(store: Store) -> Cluster:
        kind = str(store.cluster.get("kind"))
        if kind not in kinds:
            raise PermanentError(f"store {store.name}: unknown cluster kind {kind!r}; register it again")
        try:
            return kinds[kind](store)
        except (TypeError, ValueError) as error:
            raise PermanentError(f"store {store.name}: its cluster settings are wrong: {error}") from error

    return cluster_of


def utc_now() -> datetime:
    return datetime.now(UTC)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
