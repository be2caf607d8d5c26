"""Every program's subcommands under one name.

A program is imported only when one of its commands is called, so that ``storefleet agent`` starts
fast in a store and works where only the ``agent`` extra is installed.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import typer


@dataclass(frozen=True, slots=True)
class Provider:
    """A module with ``register(root: typer.Typer) -> None``, and what it brings."""

    module: str
    extra: str
    commands: tuple[str, ...]


PROVIDERS = (
    Provider("agent.cli", "agent", ("agent", "try")),
    Provider(
        "controller.cli",
        "controller",
        ("controller", "status", "fleet", "stores", "stock", "events", "audit", "dead-letters"),
    ),
    Provider("controller.cli_releases", "controller", ("release", "deploy", "deployments")),
    Provider("controller.cli_staging", "controller", ("stage", "stagings")),
    Provider("controller.cli_rollouts", "controller", ("rollout",)),
    Provider("controller.cli_quarantine", "controller", ("quarantine", "unquarantine")),
    Provider("controller.cli_deployer", "controller", ("deployer",)),
    Provider("storefleet.golden", "controller", ("golden",)),
    Provider("controller.cli_shadow", "controller", ("shadow",)),
    Provider("controller.models.cli", "controller", ("models",)),
    Provider("camera_sims.cli", "sim", ("sim",)),
    Provider("storefleet.fleet_sim.cli", "sim", ("sim",)),
    Provider("k3s.testbed.cli", "controller", ("testbed",)),
    Provider("storefleet.demo.cli", "sim", ("demo",)),
)

_OURS = frozenset(provider.module.partition(".")[0] for provider in PROVIDERS)


def build_app(words: Sequence[str]) -> typer.Typer:
    """The command line for ``words`` (``sys.argv[1:]``): all of it, unless the first word says which part."""
    root = typer.Typer(
        name="storefleet",
        help="Real-time shelf detection for a fleet of shops.\n\nExample: storefleet demo --duration 60",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    root.callback()(lambda: None)
    first = words[0] if words else ""
    chosen = [provider for provider in PROVIDERS if first in provider.commands] or list(PROVIDERS)
    for provider in chosen:
        try:
            module = importlib.import_module(provider.module)
        except ModuleNotFoundError as error:
            if _broken(error.name or ""):
                raise
            _explain_missing(root, provider, error.name or "a package")
        else:
            module.register(root)
    return root


def _broken(missing: str) -> bool:
    """Whether a module that cannot be found means a mistake of ours and not a missing extra. Whole
    packages may be left out, as images do; a part of a package, or the contract, may not."""
    package, dot, _ = missing.partition(".")
    return package in ("", "contract") or (package in _OURS and bool(dot))


def _explain_missing(root: typer.Typer, provider: Provider, missing: str) -> None:
    def refuse() -> None:
        typer.echo(f"needs {missing}: pip install 'storefleet[{provider.extra}]'", err=True)
        raise typer.Exit(1)

    for command in provider.commands:
        root.command(
            command,
            help=f"(not installed: needs the extra '{provider.extra}')",
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(refuse)
