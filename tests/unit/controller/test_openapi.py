"""The committed OpenAPI document is what the code says."""

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from controller import cli

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_document_is_current() -> None:
    root = typer.Typer()
    cli.register(root)
    result = CliRunner().invoke(root, ["controller", "openapi"])
    assert result.exit_code == 0, result.output
    remedy = "stale: run storefleet controller openapi > docs/openapi.json"
    assert json.loads(DOCUMENT.read_text()) == json.loads(result.stdout), remedy
