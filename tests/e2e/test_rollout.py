"""A good release and a bad one, brought to three stores in two waves by the rollout alone: real broker,
cameras, controller and agents."""

import time
import zipfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

from camera_sims.golden import golden_set
from contract.golden import pack
from storefleet.demo.stage import IMAGE, Stage, StageOptions

FILE = """\
version: 1
name: {name}
release: {release}
waves:
  - {{name: canary, size: 1, soak: 5s}}
  - {{name: rest, soak: 5s}}
limits: {{concurrency: 2, failures: 0, store_deadline: 3m}}
gates:
  - {{kind: health}}
  # As low as a machine that does everything at once allows; the golden set is what tells good from bad here.
  - {{kind: performance, min_fps_ratio: 0.2, max_frame_age_s: 10, max_inference_ratio: 20}}
  - {{kind: golden, min_recall: 0.5, max_count_error: 2, set: shelf}}
"""
HISTORY_S = 63.0
"""The centre keeps an agent's figures once a minute; inference times are compared with what v1 told."""
ENDS = ("succeeded", "rolled_back", "aborted", "paused", "superseded")


@pytest.fixture
def shop_floor(tmp_path: Path) -> Iterator[Stage]:
    """Three stores that run v1."""
    options = StageOptions(stores=3, cameras=1, seed=404, activity=2.0, directory=tmp_path / "run")
    with Stage(options, print) as stage:
        stage.register_stores()
        stage.deploy("v1", stage.stores)
        stage.await_agents(timeout_s=100)
        time.sleep(HISTORY_S)
        yield stage


def begin(stage: Stage, name: str, release: str) -> None:
    stage.client.post("/v1/rollouts", {"yaml": FILE.format(name=name, release=release)})
    stage.client.post(f"/v1/rollouts/{name}/start", {})


def ended(stage: Stage, name: str, timeout_s: float = 150) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        stage.check()
        found = stage.client.get(f"/v1/rollouts/{name}")
        if found["status"] in ENDS or time.monotonic() > deadline:
            return dict(found)
        time.sleep(0.5)


def stores_of(stage: Stage, name: str, wave: str) -> dict[str, dict[str, Any]]:
    return {one["store"]: one for one in stage.client.pages(f"/v1/rollouts/{name}/stores", wave=wave)}


def mislabelled(directory: Path) -> Path:
    """The shipped model with cola and lemonade taken for one another, as a wrong data.yaml makes it."""
    wrong = directory / "mislabelled.zip"
    with as_file(files("shipped_model")) as shipped, zipfile.ZipFile(shipped / "shelf.zip") as good:
        with zipfile.ZipFile(wrong, "w") as bad:
            for info in good.infolist():
                data = good.read(info)
                if info.filename == "metadata.yaml":
                    text = data.decode().replace("0: cola-can", "0: lemon-can", 1)
                    data = text.replace("1: lemon-can", "1: cola-can", 1).encode()
                bad.writestr(info, data)
    return wrong


@pytest.mark.timeout(400)
def test_a_good_release_arrives_and_a_bad_one_is_stopped_in_the_canary(
    shop_floor: Stage, tmp_path: Path
) -> None:
    client = shop_floor.client
    planned = client.post("/v1/rollouts/plan", {"yaml": FILE.format(name="spring", release="v2")})
    assert any("no golden set" in words for words in planned["waves"][0]["obstacles"])
    archive = tmp_path / "golden.zip"
    content, pictures = golden_set(900_001, clips=2, frames=2)
    archive.write_bytes(pack(content, pictures))
    golden = client.upload("/v1/golden-sets", archive, name="shelf", version="1")

    begin(shop_floor, "spring", "v2")
    good = ended(shop_floor, "spring")
    assert (good["status"], good["reason"]) == ("succeeded", "3 stores ready"), good
    assert {d["release"] for d in client.get("/v1/deployments/current")["items"]} == {"v2"}
    results = client.get("/v1/golden-results", store=shop_floor.stores)["items"]
    assert {one["store"] for one in results} == set(shop_floor.stores)
    assert all(one["said"]["passed"] and one["said"]["golden"] == golden["digest"] for one in results)

    model = client.upload("/v1/models", mislabelled(tmp_path), name="shelf", version="3")
    settings = {"STOREFLEET_TELEMETRY_S": "1", "STOREFLEET_THREADS": "1"}
    body = {"name": "v3", "model": model["digest"], "image": IMAGE, "notes": "", "settings": settings}
    client.post("/v1/releases", body)
    before = {d["store"]: d["rollout_id"] for d in client.get("/v1/deployments/current")["items"]}
    begin(shop_floor, "summer", "v3")
    bad = ended(shop_floor, "summer")
    assert bad["status"] == "rolled_back", bad
    assert "gate golden of wave canary failed" in bad["reason"]
    assert "recall of cola-can is" in bad["reason"]

    (canary,) = stores_of(shop_floor, "summer", "canary")
    told = client.get(f"/v1/rollouts/summer/stores/{canary}")
    assert "recall of cola-can is" in str(told["verdicts"])
    assert "put back to v2" in str(told["store"])
    untouched = stores_of(shop_floor, "summer", "rest")
    assert len(untouched) == 2
    after = {d["store"]: d["rollout_id"] for d in client.get("/v1/deployments/current")["items"]}
    assert {store: after[store] for store in untouched} == {store: before[store] for store in untouched}
    assert {d["release"] for d in client.get("/v1/deployments/current")["items"]} == {"v2"}
    # The agent of v2 went on in the canary while the step refused.
    shop_floor.await_agents()
