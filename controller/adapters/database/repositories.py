"""The repositories of one transaction, made when asked for."""

from functools import cached_property

from sqlalchemy import Connection

from controller.adapters.database.deployments import Deployments, Releases
from controller.adapters.database.event_log import Events
from controller.adapters.database.fleet import Fleet, Handovers
from controller.adapters.database.journal import Audit, DeadLetters
from controller.adapters.database.models import Models
from controller.adapters.database.quality import Quality
from controller.adapters.database.quarantines import Quarantines
from controller.adapters.database.rollouts import Deferrals, Rollouts, RolloutStores, Verdicts
from controller.adapters.database.stagings import Stagings
from controller.adapters.database.stock import Stock
from controller.adapters.database.stores import StoreConfigs, Stores
from controller.adapters.database.streams import Streams


class TransactionRepositories:
    """Implements ``ports.Repositories`` on one open connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def stores(self) -> Stores:
        return Stores(self._connection)

    @cached_property
    def configs(self) -> StoreConfigs:
        return StoreConfigs(self._connection)

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet(self._connection)

    @cached_property
    def handovers(self) -> Handovers:
        return Handovers(self._connection)

    @cached_property
    def stock(self) -> Stock:
        return Stock(self._connection)

    @cached_property
    def events(self) -> Events:
        return Events(self._connection)

    @cached_property
    def streams(self) -> Streams:
        return Streams(self._connection)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self._connection)

    @cached_property
    def models(self) -> Models:
        return Models(self._connection)

    @cached_property
    def releases(self) -> Releases:
        return Releases(self._connection)

    @cached_property
    def deployments(self) -> Deployments:
        return Deployments(self._connection)

    @cached_property
    def stagings(self) -> Stagings:
        return Stagings(self._connection)

    @cached_property
    def rollouts(self) -> Rollouts:
        return Rollouts(self._connection)

    @cached_property
    def rollout_stores(self) -> RolloutStores:
        return RolloutStores(self._connection)

    @cached_property
    def verdicts(self) -> Verdicts:
        return Verdicts(self._connection)

    @cached_property
    def deferrals(self) -> Deferrals:
        return Deferrals(self._connection)

    @cached_property
    def quarantines(self) -> Quarantines:
        return Quarantines(self._connection)

    @cached_property
    def quality(self) -> Quality:
        return Quality(self._connection)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self._connection)
