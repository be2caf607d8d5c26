"""``storefleet rollout …``: bring a release to many stores; and ``storefleet quarantine``."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from controller.cli_queries import AsJson, Limit, Zone, asking, console, listing, print_json, read_text
from controller.cli_rollout_screen import PHASE_COLOURS, STATUS_COLOURS, plan_screen, show_screen
from controller.cli_rollout_watch import watch
from controller.cli_tables import Clock, clock_for, plain
from controller.domain.rollout.spec import parse_duration
from controller.domain.rollout.state import Phase, Status

Name = Annotated[str, typer.Argument(help="The rollout.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
WaveOption = Annotated[str | None, typer.Option("--wave", help="Default: the next one that waits.")]

EXAMPLE = """\
# A rollout. Only name and release have to be given; the others show what is possible.
version: 1
name: spring
release: v2
select:                           # everything given has to match; without it: all stores
  labels: {region: [north, south]}
  exclude: {names: [berlin-07]}
strata: [hardware]                # the first wave has a store of each value of these labels
waves:
  - {name: canary, size: 2%, soak: 1h, approval: true}
  - {name: half, size: 50%, soak: 30m}
  - {name: rest}
limits:
  concurrency: 10%                # stores in the middle of the change at one time
  failures: 2%                    # of a wave; one more stops the rollout
  offline: 10%                    # of a wave, while the next one begins; updated when they return
  store_deadline: 30m
windows:                          # by each store's own clock
  - {days: [mon, tue, wed, thu], start: "22:00", end: "05:00"}
blackouts:
  - {first: 2026-12-18, last: 2027-01-02, reason: holidays}
gates:
  - {kind: health}
  - {kind: staged, percent: 98}
on_failure: {action: rollback}    # or pause
priority: 0
"""

rollout_app = typer.Typer(
    name="rollout", help="Bring a release to many stores, safely.", no_args_is_help=True
)


def register(root: typer.Typer) -> None:
    root.add_typer(rollout_app, name="rollout")
    root.command()(quarantine)
    root.command()(unquarantine)


@rollout_app.command()
def example() -> None:
    """Print a rollout file with comments. Example: storefleet rollout example > spring.yaml"""
    typer.echo(EXAMPLE, nl=False)


@rollout_app.command()
def create(
    file: Annotated[Path, typer.Argument(help="Rollout file (YAML); see storefleet rollout example.")],
    start_now: Annotated[bool, typer.Option("--start", help="Start it at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a rollout and keep it as a draft. Example: storefleet rollout create spring.yaml"""
    with asking() as client:
        made = client.post("/v1/rollouts", {"yaml": read_text(file)})
        if start_now:
            made = client.post(f"/v1/rollouts/{made['name']}/start", {})
    if as_json:
        print_json(made)
        return
    name = made["name"]
    follow = f"Watch it: storefleet rollout watch {name}"
    draft = f"See what it would do: storefleet rollout plan {name}; then: storefleet rollout start {name}"
    console.print(f"Rollout {name} is {made['status']}. {follow if start_now else draft}", highlight=False)


@rollout_app.command()
def plan(
    what: Annotated[str, typer.Argument(help="A rollout file, or the name of a rollout.")],
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """What a rollout would do if it were started now: stores by wave, bytes, when it would end, what is in
    its way. Changes nothing. Example: storefleet rollout plan spring.yaml"""
    with asking() as client:
        clock = clock_for(tz)
        path = Path(what)
        if path.is_file():
            found = client.post("/v1/rollouts/plan", {"yaml": read_text(path)})
        else:
            found = client.get(f"/v1/rollouts/{what}/plan")
    if as_json:
        print_json(found)
        return
    console.print(plan_screen(found, clock))


@rollout_app.command("list")
def list_(
    status: Annotated[Status | None, typer.Option(help="Only in this status.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """Rollouts, the newest first. Example: storefleet rollout list --status running"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages("/v1/rollouts", limit=limit, status=status.value if status else None))

    def row(one: Mapping[str, Any]) -> Sequence[str | Text]:
        state = Text(one["status"], STATUS_COLOURS.get(one["status"], ""))
        waves = f"{one['waves_passed']}/{one['waves']}" if one["waves"] else "-"
        ready = f"{one['ready']}/{one['stores']}" if one["stores"] else "-"
        made = clock.show(one["started_at"] or one["created_at"])
        return (one["name"], one["release"], state, waves, ready, str(one["failed"]), made, one["reason"])

    columns = ("rollout", "release", "status", "waves", "ready", "failed", "since", "reason")
    empty = "No rollouts. Make one: storefleet rollout example > rollout.yaml, then storefleet rollout create"
    listing(items, as_json, empty, columns, row)


@rollout_app.command()
def show(
    name: Name,
    stores: Annotated[bool, typer.Option("--stores", help="Each store, and why it is where it is.")] = False,
    phase: Annotated[Phase | None, typer.Option(help="Only stores in this phase.")] = None,
    wave: Annotated[str | None, typer.Option(help="Only stores of this wave.")] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """How a rollout stands, and what it waits for. Example: storefleet rollout show spring --stores"""
    with asking() as client:
        clock = clock_for(tz)
        found = client.get(f"/v1/rollouts/{name}")
        items: list[dict[str, Any]] = []
        if stores or phase or wave:
            wanted = {"phase": phase.value if phase else None, "wave": wave}
            items = list(client.pages(f"/v1/rollouts/{name}/stores", limit=limit, **wanted))
    if as_json:
        print_json(found | ({"items": items} if stores or phase or wave else {}))
        return
    console.print(show_screen(found, clock))
    if stores or phase or wave:
        console.line()
        listing(items, False, "No store.", ("store", "wave", "phase", "runs", "reason"), _store_row)


def _store_row(one: Mapping[str, Any]) -> Sequence[str | Text]:
    phase = Text(one["phase"], PHASE_COLOURS.get(one["phase"], ""))
    return (one["store"], one["wave"], phase, one["release"] or "nothing", one["reason"])


@rollout_app.command()
def start(name: Name, as_json: AsJson = False) -> None:
    """Fix which stores are in which wave, and begin. Example: storefleet rollout start spring"""
    _turn(name, "start", "", as_json)


@rollout_app.command()
def pause(name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """Change no further store; those in the middle go on. Example: storefleet rollout pause spring -m
    lunch"""
    _turn(name, "pause", comment, as_json)


@rollout_app.command()
def resume(name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """Go on after a pause. Example: storefleet rollout resume spring"""
    _turn(name, "resume", comment, as_json)


@rollout_app.command()
def abort(name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """End it: stores that are ready keep the release, those in the middle get the last good one back.
    Example: storefleet rollout abort spring -m "cameras go dark" """
    _turn(name, "abort", comment, as_json)


@rollout_app.command()
def rollback(name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """Put every store back that got the release, in waves. Example: storefleet rollout rollback spring"""
    _turn(name, "rollback", comment, as_json)


@rollout_app.command()
def approve(name: Name, wave: WaveOption = None, comment: Comment = "", as_json: AsJson = False) -> None:
    """Let a wave begin that needs somebody's word. Example: storefleet rollout approve spring --wave half"""
    _post(f"/v1/rollouts/{name}/approval/approve", {"wave": wave, "comment": comment}, as_json)


@rollout_app.command()
def reject(name: Name, wave: WaveOption = None, comment: Comment = "", as_json: AsJson = False) -> None:
    """Keep a wave from beginning; the rollout pauses. Example: storefleet rollout reject spring -m "not now" """
    _post(f"/v1/rollouts/{name}/approval/reject", {"wave": wave, "comment": comment}, as_json)


@rollout_app.command("retry-failed")
def retry_failed(name: Name, as_json: AsJson = False) -> None:
    """Give stores that failed the release once more. Example: storefleet rollout retry-failed spring"""
    with asking() as client:
        done = client.post(f"/v1/rollouts/{name}/stores/retry-failed", {})
    if as_json:
        print_json(done)
        return
    console.print(f"{len(done['stores'])} stores are tried again: {', '.join(done['stores'][:10])}")
    if done["rollout"]["status"] == "paused":
        console.print(f"The rollout is paused. Go on: storefleet rollout resume {name}", highlight=False)


@rollout_app.command("skip-store")
def skip_store(
    name: Name,
    store: Annotated[str, typer.Argument(help="The store.")],
    comment: Comment = "",
    as_json: AsJson = False,
) -> None:
    """Leave a store out, as it is. Example: storefleet rollout skip-store spring berlin-07 -m "no power" """
    _post(f"/v1/rollouts/{name}/stores/skip", {"store": store, "comment": comment}, as_json)


@rollout_app.command()
def defer(
    store: Annotated[str | None, typer.Argument(help="The store; without it: list those deferred.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Until this time, in --tz.")] = None,
    hours: Annotated[str | None, typer.Option("--for", help="For so long: 8h, 3d.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="It may be changed again.")] = False,
    comment: Comment = "",
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """Keep rollouts from changing a store for a while. Example: storefleet rollout defer berlin-07 --for
    8h"""
    with asking() as client:
        clock = clock_for(tz)
        if store is None:
            _deferrals(list(client.pages("/v1/deferrals", limit=1000)), clock, as_json)
            return
        if cancel:
            done = client.delete(f"/v1/deferrals/{store}")
        else:
            body = {"until": _until(clock, until, hours), "comment": comment}
            done = client.put(f"/v1/deferrals/{store}", body)
    if as_json:
        print_json(done)
    elif cancel:
        console.print(f"Store {store} may be changed again.")
    else:
        console.print(f"Store {store} is not changed before {clock.show(done['until'])}.", highlight=False)


def _until(clock: Clock, until: datetime | None, length: str | None) -> str:
    if (until is None) == (length is None):
        raise typer.BadParameter("say either --until TIME or --for LENGTH")
    if length is not None:
        try:
            return (datetime.now(UTC) + max(parse_duration(length), timedelta(seconds=1))).isoformat()
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--for") from error
    return clock.parse(until) or ""


def _deferrals(items: list[dict[str, Any]], clock: Clock, as_json: bool) -> None:
    columns = ("store", "until", "by", "comment")
    listing(
        items, as_json, "No store is deferred.", columns,
        lambda one: (one["store"], clock.show(one["until"]), one["by"], one["comment"]),
    )  # fmt: skip


@rollout_app.command()
def explain(
    name: Name,
    store: Annotated[str, typer.Argument(help="The store.")],
    as_json: AsJson = False,
    tz: Zone = "local",
) -> None:
    """Why a store is where it is. Example: storefleet rollout explain spring berlin-07"""
    with asking() as client:
        clock = clock_for(tz)
        told = client.get(f"/v1/rollouts/{name}/stores/{store}")
    if as_json:
        print_json(told)
        return
    one = told["store"]
    head = Text(f"{store} in wave {one['wave']} of {name}: ")
    head.append(one["phase"], PHASE_COLOURS.get(one["phase"], ""))
    console.print(head.append(f". {plain(one['reason'])}"), highlight=False)
    facts = {
        "runs": f"{one['release'] or 'nothing'} ({one['state'] or 'never deployed'}) {one['message']}",
        "goes back to": one["back_to"] or "-",
        "got the release": clock.show(one["exposed_at"]),
        "ready": clock.show(one["ready_at"]),
        "failed": f"{clock.show(one['failed_at'])}: {one['failure']}" if one["failed_at"] else "never",
        "tried again": f"{one['attempts']} times" if one["attempts"] else "never",
        "rollout": f"{told['rollout_status']}: {told['waiting_for']}",
    }
    for label, value in facts.items():
        console.print(plain(f"  {label:<16}{value}"), highlight=False, markup=False)
    for verdict in told["verdicts"]:
        words = f"  gate {verdict['kind']:<11}{verdict['verdict']}: {verdict['reason']}"
        console.print(plain(words), highlight=False, markup=False)
    for entry in told["history"]:
        words = f"  {clock.show(entry['at'])}  {entry['actor']}  {entry['action']}  {_words(entry['detail'])}"
        console.print(plain(words), highlight=False, markup=False)


@rollout_app.command()
def diff(name: Name, as_json: AsJson = False) -> None:
    """What the stores run now, and what becomes different. Example: storefleet rollout diff spring"""
    with asking() as client:
        items = client.get(f"/v1/rollouts/{name}/diff")["items"]
    if as_json:
        print_json({"items": items})
        return
    for change in items:
        stores = ", ".join(change["first"][:5]) + (" …" if change["stores"] > 5 else "")
        running = change["release"] or "nothing"
        console.print(f"{change['stores']} stores run {running} ({stores})", highlight=False)
        if not change["differences"]:
            console.print("  the same release: nothing changes")
        for part, (before, after) in change["differences"].items():
            console.print(plain(f"  {part}: {before or '-'} → {after or '-'}"), highlight=False, markup=False)


@rollout_app.command()
def history(name: Name, limit: Limit = 200, as_json: AsJson = False, tz: Zone = "local") -> None:
    """Everything that people and the rollout itself did, newest first. Example: storefleet rollout history
    spring"""
    with asking() as client:
        clock = clock_for(tz)
        items = list(client.pages(f"/v1/rollouts/{name}/history", limit=limit))

    def row(entry: Mapping[str, Any]) -> Sequence[str]:
        action = entry["action"].removeprefix("rollout.")
        return (clock.show(entry["at"]), entry["actor"], action, _words(entry["detail"]))

    listing(items, as_json, "Nothing has happened yet.", ("time", "who", "what", "detail"), row)


rollout_app.command()(watch)

ByRollout = Annotated[str | None, typer.Option("--rollout", help="Of what this rollout brought.")]
ByRelease = Annotated[str | None, typer.Option("--release", help="Of every deployment of this release.")]


def quarantine(
    rollout: ByRollout = None,
    release: ByRelease = None,
    reason: Annotated[str, typer.Option(help="Why; shown with the events.")] = "",
    as_json: AsJson = False,
) -> None:
    """Mark every event that a bad release produced, also those that still come in. Example: storefleet
    quarantine --rollout spring --reason "blind to cola" """
    _suspect("/v1/quarantine", rollout, release, reason, "in quarantine", as_json)


def unquarantine(rollout: ByRollout = None, release: ByRelease = None, as_json: AsJson = False) -> None:
    """Trust these events again. Example: storefleet unquarantine --rollout spring"""
    _suspect("/v1/quarantine/end", rollout, release, "", "trusted again", as_json)


def _suspect(
    path: str, rollout: str | None, release: str | None, reason: str, done: str, as_json: bool
) -> None:
    with asking() as client:
        if (rollout is None) == (release is None):
            raise typer.BadParameter("say either --rollout NAME or --release NAME")
        result = client.post(path, {"rollout": rollout, "release": release, "reason": reason})
    if as_json:
        print_json(result)
        return
    which = f"{result['deployments']} deployments in {result['stores']} stores"
    console.print(f"{result['events']} events of {which} are {done}.")


def _turn(name: str, verb: str, comment: str, as_json: bool) -> None:
    _post(f"/v1/rollouts/{name}/{verb}", {"comment": comment}, as_json)


def _post(path: str, body: Mapping[str, Any], as_json: bool) -> None:
    with asking() as client:
        found = client.post(path, {key: value for key, value in body.items() if value is not None})
    if as_json:
        print_json(found)
        return
    state = Text(found["status"], STATUS_COLOURS.get(found["status"], ""))
    words = Text(f"Rollout {found['name']}: ").append_text(state)
    console.print(words.append(plain(f". {found['waiting_for']}")), highlight=False)


def _words(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in detail.items() if value not in ("", None))
