"""``storefleet golden make``: where sets come from, and what is refused."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from contract.golden import check
from storefleet.commands import build_app


def golden(*words: str) -> Result:
    return CliRunner().invoke(build_app(["golden"]), ["golden", *words])


def test_simulated_set_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    files = [tmp_path / "a.zip", tmp_path / "b.zip", tmp_path / "c.zip"]
    for file, seed in zip(files, ("900001", "900001", "900002"), strict=True):
        words = ("make", "--simulated", "--seed", seed, "--clips", "1", "--frames", "2", "--json")
        done = golden(*words, "--out", str(file))
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {"file": str(file), "size_bytes": file.stat().st_size}
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    with files[0].open("rb") as opened:
        content = check(opened)
    assert len(list(content.frames)) == 2
    assert "person" not in content.classes


def test_one_source_has_to_be_given(tmp_path: Path) -> None:
    for words in ((), ("--simulated", "--from", str(tmp_path))):
        done = golden("make", *words, "--out", str(tmp_path / "a.zip"))
        assert done.exit_code == 1
        assert "give one of" in done.stderr


def test_what_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    out = str(tmp_path / "a.zip")
    assert "data.yaml" in golden("make", "--from", str(tmp_path), "--out", out).stderr.replace("\n", "")
    assert "300 frames" in golden("make", "--simulated", "--clips", "999", "--out", out).stderr.replace(
        "\n", " "
    )


def test_import_looks_at_the_file_first(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(b"no zip")
    (tmp_path / "token").write_text("token")
    env = {"STOREFLEET_API_TOKEN": "token", "STOREFLEET_CONTROLLER_URL": "http://127.0.0.1:9"}
    app = build_app(["golden"])
    words = ["golden", "import", str(file), "--name", "shelf", "--version", "1"]
    done = CliRunner().invoke(app, words, env=env)
    assert done.exit_code == 1
    assert "golden set" in done.stderr
