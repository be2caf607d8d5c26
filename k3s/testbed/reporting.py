"""How the commands end when something is wrong: one line that says what to do, and exit status 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from k3s.testbed.errors import TestbedError


@contextmanager
def reported() -> Iterator[None]:
    """Errors that the user can put right are said without a traceback."""
    try:
        yield
    except TestbedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
