"""Settings of the controller and of the commands that talk to it. Only the command line reads them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.names import NAME_PATTERN


class ControllerSettings(BaseSettings):
    """``storefleet controller``: environment variables ``STOREFLEET_CONTROLLER_…``."""

    model_config = SettingsConfigDict(env_prefix="STOREFLEET_CONTROLLER_", extra="ignore")

    data_dir: Path = Path(".storefleet/controller")
    """Embedded database, tokens, signing key and model store; created with mode 0700."""
    database_url: SecretStr | None = None
    """``postgresql://user:password@host/name`` or ``sqlite:///file``; default: SQLite in ``data_dir``."""
    mqtt_url: str = "mqtt://127.0.0.1:1883"
    """``mqtt://host:port`` or ``mqtts://host:port``, without credentials."""
    mqtt_username: str = ""
    mqtt_password_file: Path | None = None
    mqtt_ca_file: Path | None = None
    agent_mqtt_url: str = ""
    """Where agents reach the broker; default: ``mqtt_url``."""
    mqtt_client_id: str = "storefleet-controller"
    """Names the persistent session; two controllers must not share it."""
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=1, le=65535)
    public_url: str = ""
    """Where agents reach this API; default: what it listens on."""
    admin_token_file: Path | None = None
    """Bearer token for everything; default: ``admin.token`` in ``data_dir``, made at first start."""
    artifact_token_file: Path | None = None
    """Bearer token that only fetches artifacts; default: ``artifact.token`` in ``data_dir``."""
    max_body_bytes: int = Field(default=4 * 1024 * 1024, gt=0)
    """Requests with a larger body are refused; uploads of models have their own limit."""
    reconcile_workers: int = Field(default=32, ge=2, le=256)
    """How many stores are looked at at the same time; threads are made only when needed. Half of them are
    kept from stores that failed last time."""
    resync_s: float = Field(default=60.0, gt=0)
    """How often a store that is as it should be is looked at for drift, at most."""
    looks_per_s: float = Field(default=20.0, gt=0, le=1000)
    """How many such looks all stores together get: of 5000 stores, each has one in 250 s."""
    local_run_dir: Path | None = None
    """Files of stores on this machine (cluster kind ``local``); default: ``clusters`` in ``data_dir``."""
    epcis_authority: str = "urn:storefleet"
    """Absolute URI of the retailer, without a trailing slash, under which EPCIS names places."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("mqtt_url", "agent_mqtt_url")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("no credentials in the URL: use mqtt_username and mqtt_password_file")
        return value

    @property
    def database(self) -> str:
        """The database's URL, password included: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'controller.db'}"

    @property
    def admin_token_path(self) -> Path:
        return self.admin_token_file or self.data_dir / "admin.token"

    @property
    def artifact_token_path(self) -> Path:
        return self.artifact_token_file or self.data_dir / "artifact.token"

    @property
    def agent_facing_mqtt_url(self) -> str:
        return self.agent_mqtt_url or self.mqtt_url

    @property
    def agent_facing_url(self) -> str:
        return self.public_url or f"http://{self.api_host}:{self.api_port}"


class DeployerSettings(BaseSettings):
    """``storefleet deployer``, in the store: environment variables ``STOREFLEET_DEPLOYER_…``."""

    model_config = SettingsConfigDict(env_prefix="STOREFLEET_DEPLOYER_", extra="ignore")

    store: Annotated[str, Field(pattern=NAME_PATTERN)]
    """The store whose state is taken in; no other's is."""
    mqtt_url: str
    """``mqtt://host:port`` or ``mqtts://host:port``, without credentials."""
    mqtt_username: str = ""
    """The store's user at the broker; default: the store's name."""
    mqtt_password_file: Path | None = None
    mqtt_ca_file: Path | None = None
    trusted_keys_file: Path
    """PEM public keys of the centre: nothing is applied that none of them signed. Read again when a state
    comes in."""
    data_dir: Path = Path("/var/lib/storefleet-deployer")
    """Keeps the newest state and its generation across restarts; must outlive the pod."""
    namespace: str = "storefleet"
    cluster: Literal["in-cluster", "kubeconfig", "local"] = "in-cluster"
    """``in-cluster``: with the pod's service account. ``local``: processes on this machine."""
    kubeconfig: Path | None = None
    """For ``kubeconfig``; default: the user's file."""
    context: str | None = None
    local_run_dir: Path | None = None
    """For ``local``; default: ``clusters`` in ``data_dir``."""
    local_secrets: Path | None = None
    """For ``local``: holds what Secrets hold in a cluster; default: ``secrets`` in ``data_dir``."""
    alive_file: Path | None = None
    """Touched while the program turns, for a liveness probe."""
    report_s: float = Field(default=10.0, ge=1, le=600)
    """How often at least the centre is told how things are."""
    resync_s: float = Field(default=30.0, ge=1, le=3600)
    """How often the workload is looked at for changes made in the store."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class ClientSettings(BaseSettings):
    """Commands that talk to a controller: environment variables ``STOREFLEET_…``."""

    model_config = SettingsConfigDict(env_prefix="STOREFLEET_", extra="ignore")

    controller_url: str = "http://127.0.0.1:8080"
    api_token: SecretStr | None = None
    api_token_file: Path = Path(".storefleet/controller/admin.token")
    """Read when ``api_token`` is not set; what a controller on this machine wrote."""
