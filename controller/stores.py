"""Registering stores and changing their configuration, each with its audit entry."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contract.errors import ConfigError
from contract.names import is_name
from contract.store_config import StoreConfig, load_store_config
from controller.domain.accelerator import accelerator_refusal
from controller.domain.fleet import Store, StoreConfigVersion
from controller.domain.journal import AuditEntry
from controller.errors import InvalidError, NotFoundError
from controller.ports import Repositories, Transactions

CLUSTER_KINDS = ("local", "kubernetes", "deployer")


def register_store(
    transactions: Transactions,
    name: str,
    *,
    config_yaml: str | None,
    labels: Mapping[str, str],
    cluster: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> Store:
    """Add a store, with its configuration if one is given. The time zone comes from the configuration.

    Raises ``InvalidError`` with every problem found, ``ConflictError`` when the store exists.
    """
    if not is_name(name):
        raise InvalidError(f"store name {name[:80]!r}: use a-z, 0-9 and '-', at most 63 characters")
    if cluster.get("kind") not in CLUSTER_KINDS:
        raise InvalidError(f"cluster kind {cluster.get('kind')!r}: use one of {', '.join(CLUSTER_KINDS)}")
    if refusal := accelerator_refusal(cluster):
        raise InvalidError(refusal)
    selector = cluster.get("node_selector", {})
    if not isinstance(selector, Mapping) or not all(isinstance(value, str) for value in selector.values()):
        raise InvalidError("node_selector: write labels and their values, such as {zone: berlin-01}")
    config = checked_config(name, config_yaml) if config_yaml is not None else None
    timezone = config.timezone if config else "UTC"
    store = Store(name, timezone, dict(labels), dict(cluster), None, now)
    with transactions.writing() as repositories:
        repositories.stores.add(store)
        repositories.audit.add(AuditEntry(now, actor, "store.register", name, {"cluster": cluster["kind"]}))
        if config is not None and config_yaml is not None:
            _put(repositories, config, config_yaml, actor, now)
    with transactions.reading() as repositories:
        return _existing(repositories, name)


def put_config(
    transactions: Transactions, store: str, config_yaml: str, *, actor: str, now: datetime
) -> StoreConfigVersion:
    """Make this the store's configuration. Raises ``InvalidError`` with every problem found."""
    config = checked_config(store, config_yaml)
    with transactions.writing() as repositories:
        _existing(repositories, store)
        return _put(repositories, config, config_yaml, actor, now)


def checked_config(store: str, config_yaml: str) -> StoreConfig:
    """Raises ``InvalidError`` whose ``problems`` name line, column and remedy."""
    try:
        config = load_store_config(config_yaml)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        raise InvalidError(f"store configuration of {store}: {len(problems)} problem(s)", problems) from error
    if config.store != store:
        raise InvalidError(f"the configuration is for store {config.store!r}, not {store!r}")
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidError(
            f"timezone {config.timezone[:64]!r} is not known; use a name such as Europe/Berlin"
        ) from error
    return config


def configured_zones(repositories: Repositories, store: str) -> frozenset[str] | None:
    """The zones of the store's current configuration. None when it has none here, or one from a release with
    other rules: then it may have any."""
    version = repositories.configs.current(store)
    return _zones_in(version.yaml) if version else None


@lru_cache(maxsize=64)
def _zones_in(config_yaml: str) -> frozenset[str] | None:
    try:
        return frozenset(zone.id for zone in load_store_config(config_yaml).zones)
    except ConfigError:
        return None


def _put(
    repositories: Repositories, config: StoreConfig, config_yaml: str, actor: str, now: datetime
) -> StoreConfigVersion:
    version = StoreConfigVersion(config.store, config.digest, config_yaml, actor, now)
    repositories.configs.put(version)
    repositories.stock.keep_zones(config.store, [zone.id for zone in config.zones])
    repositories.audit.add(AuditEntry(now, actor, "store.config", config.store, {"digest": config.digest}))
    return version


def _existing(repositories: Repositories, name: str) -> Store:
    store = repositories.stores.get(name)
    if store is None:
        raise NotFoundError(f"store {name} does not exist; register it with storefleet stores add {name}")
    return store
