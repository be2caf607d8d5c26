"""Has the stores of a rollout's next wave try the release in the shadow of their own model, for its gate.

Level-triggered: what shall run is worked out from the rollout each time and compared with what is ordered, so
that nothing is left over when a wave begins, an operator pauses, or a controller is killed.
"""

from datetime import datetime, timedelta

from controller import shadow
from controller.domain.rollout.spec import ShadowGate
from controller.domain.rollout.state import Rollout, Status
from controller.domain.shadow import ShadowRun
from controller.ports import Repositories, Transactions
from controller.rollout_picture import Picture

LASTS = timedelta(hours=24)
"""An order ends by itself after that, should nobody be there to withdraw it."""


def keep_shadows(transactions: Transactions, picture: Picture, now: datetime) -> None:
    """Order what is missing, renew what ends soon and withdraw what is not wanted any more. Raises as the
    ports say."""
    rollout = picture.rollout
    gate = next((gate for gate in rollout.spec.gates if isinstance(gate, ShadowGate)), None)
    if gate is None:
        return
    actor = f"rollout:{rollout.name}"
    with transactions.reading() as repositories:
        ordered = {run.store: run for run in repositories.shadows.ordered_by(actor)}
    wanted = [store for store in _next_wave(rollout) if store in picture.stores]
    to_order = [store for store in wanted if _needs_order(ordered.get(store), gate, now)]
    to_end = sorted(ordered.keys() - set(wanted))
    if to_order or to_end:
        with transactions.writing() as repositories:
            _change(repositories, rollout, gate, actor, to_order, to_end, now)


def _change(
    repositories: Repositories,
    rollout: Rollout,
    gate: ShadowGate,
    actor: str,
    to_order: list[str],
    to_end: list[str],
    now: datetime,
) -> None:
    if to_order:
        shadow.order(
            repositories,
            rollout.spec.release,
            to_order,
            cpu_percent=gate.cpu_percent,
            until=now + LASTS,
            actor=actor,
            now=now,
        )
    if to_end:
        shadow.withdraw(repositories, to_end, actor=actor, now=now)


def _next_wave(rollout: Rollout) -> tuple[str, ...]:
    """Stores of the wave that comes next; none while another one is under way."""
    if rollout.status is not Status.RUNNING:
        return ()
    for wave in rollout.waves:
        if wave.passed_at is None:
            return wave.stores if wave.opened_at is None else ()
    return ()


def _needs_order(run: ShadowRun | None, gate: ShadowGate, now: datetime) -> bool:
    return run is None or run.cpu_percent != gate.cpu_percent or run.until - now < LASTS / 2
