"""What the command line does when a module cannot be found."""

import importlib
from types import ModuleType

import pytest
from typer.testing import CliRunner

from storefleet.commands import build_app


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def refuse(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(importlib, "import_module", refuse)


@pytest.mark.parametrize("missing", ["uvicorn", "camera_sims"])
def test_a_missing_extra_is_explained(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    without(monkeypatch, missing)
    result = CliRunner().invoke(build_app(["sim"]), ["sim", "run"])
    assert result.exit_code == 1
    assert f"needs {missing}: pip install 'storefleet[sim]'" in result.output


@pytest.mark.parametrize("missing", ["camera_sims.scene", "contract"])
def test_a_broken_installation_is_not_called_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    without(monkeypatch, missing)
    with pytest.raises(ModuleNotFoundError, match=missing):
        build_app(["sim"])
