"""``storefleet deployer …``: runs in a store and applies what the centre signed. Reads the settings and
builds the adapters."""

import importlib.metadata
import logging
import os
import random
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from contract.errors import SignatureError
from contract.signing import load_public_keys
from controller.adapters.deployer_channel import DeployerChannel
from controller.adapters.deployer_shelf import DeployerShelf
from controller.adapters.mqtt_link import LinkAddress, MqttLink
from controller.cluster import Cluster
from controller.deployer import Deployer, DeployerTempo
from controller.errors import ControllerError, PermanentError
from controller.settings import DeployerSettings

log = logging.getLogger("deployer")

deployer_app = typer.Typer(
    name="deployer",
    help="In a store that the centre cannot reach: apply what it signed. Settings: STOREFLEET_DEPLOYER_….",
    no_args_is_help=True,
)


def register(root: typer.Typer) -> None:
    root.add_typer(deployer_app, name="deployer")


@deployer_app.callback()
def _commands() -> None:
    """Keeps ``run`` a word of its own."""


@deployer_app.command()
def run() -> None:
    """Run until SIGTERM or Ctrl-C. Example: storefleet deployer run"""
    try:
        settings = read_settings()
        level, form = settings.log_level, "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=level, format=form)
        serve(settings)
    except ControllerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def read_settings() -> DeployerSettings:
    try:
        return DeployerSettings()  # type: ignore[call-arg]
    except ValidationError as error:
        found = [
            f"STOREFLEET_DEPLOYER_{'_'.join(str(part).upper() for part in e['loc'])}: {e['msg']}"
            for e in error.errors(include_input=False)
        ]
        raise PermanentError("settings: " + "; ".join(found)) from error


def serve(settings: DeployerSettings) -> None:
    """The composition root: builds everything and runs until told to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def trusted() -> list[Ed25519PublicKey]:
        return _read_keys(settings.trusted_keys_file)

    trusted()  # better now than when the first state comes in
    channel = DeployerChannel(settings.store)
    link = MqttLink(
        LinkAddress(
            settings.mqtt_url,
            f"storefleet-deployer-{settings.store}-{os.getpid()}",
            settings.mqtt_username or settings.store,
            settings.mqtt_password_file,
            settings.mqtt_ca_file,
        ),
        channel.subscriptions,
        channel.receive,
    )
    channel.connect(link)
    deployer = Deployer(
        settings.store,
        settings.namespace,
        cluster=_cluster(settings),
        channel=channel,
        shelf=DeployerShelf(settings.data_dir),
        trusted=trusted,
        clock=lambda: datetime.now(UTC),
        chance=random.random,
        tempo=DeployerTempo(settings.report_s, settings.resync_s),
        version=_version(),
    )
    alive = settings.alive_file.touch if settings.alive_file else lambda: None
    link.start()
    try:
        deployer.run(stop, alive)
    finally:
        link.close()


def _cluster(settings: DeployerSettings) -> Cluster:
    if settings.cluster == "local":
        from controller.adapters.local.cluster import LocalCluster

        return LocalCluster(
            settings.local_run_dir or settings.data_dir / "clusters",
            secrets=settings.local_secrets or settings.data_dir / "secrets",
        )
    from controller.adapters.kubernetes_cluster import KubernetesCluster

    return KubernetesCluster(
        namespace=settings.namespace,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        in_cluster=settings.cluster == "in-cluster",
    )


def _read_keys(file: Path) -> list[Ed25519PublicKey]:
    try:
        return load_public_keys(file.read_bytes())
    except (OSError, SignatureError) as error:
        raise PermanentError(f"trusted keys {file}: {error}; copy signing.pub from the controller") from error


def _version() -> str:
    try:
        return importlib.metadata.version("storefleet")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
