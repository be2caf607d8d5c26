"""What ``storefleet try`` must not do to the user's files and memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from agent.adapters.memory import MemoryOutbox
from agent.envelope import Origin
from agent.errors import ModelError, PermanentError
from agent.ports import EventDraft
from agent.try_source import Parts, Request, Trial, forget_shown, load_config


def trial(tmp_path: Path, written: Path, *, force: bool) -> Trial:
    """One that ends with ``ModelError`` at the place where the model is opened."""

    def refuse(*_: Any) -> Any:
        raise ModelError("no model here")

    parts = Parts(refuse, refuse, refuse, refuse, refuse, refuse, refuse)
    video = tmp_path / "shelf.mp4"
    video.write_bytes(b"")
    request = Request(str(video), tmp_path / "model", None, None, written, 1.0, True, force)
    return Trial(request, parts, Console(), Any)  # type: ignore[arg-type]


def test_an_existing_configuration_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    mine = tmp_path / "store.yaml"
    mine.write_text("weeks of work")
    with pytest.raises(PermanentError, match=r"exists already.*--force"):
        trial(tmp_path, mine, force=False).run()
    assert mine.read_text() == "weeks of work"
    for path, force in ((mine, True), (tmp_path / "new.yaml", False)):
        with pytest.raises(ModelError):
            trial(tmp_path, path, force=force).run()


def test_events_that_were_shown_are_forgotten(origin: Origin, draft: Callable[..., EventDraft]) -> None:
    outbox = MemoryOutbox(origin, clock=lambda: 0.0, new_id=uuid4)
    for _ in range(3):
        outbox.append([draft(), draft()], b"state")
        forget_shown(outbox)
    status = outbox.status()
    assert (status.pending, status.last_sequence, status.state) == (0, 6, b"state")


def test_a_bad_configuration_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nstore: [")
    with pytest.raises(PermanentError, match=r"bad\.yaml: .*not valid YAML"):
        load_config(bad, "device:0")
