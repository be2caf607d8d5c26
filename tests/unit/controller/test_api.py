"""The HTTP API: who may ask, what is refused, and how listings are paged."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Body

from controller.adapters.database import Database, migrate, open_database
from controller.api import fleet, health, inventory, journal, stagings
from controller.api.app import create_app
from controller.api.guard import Guard
from controller.domain.fleet import Camera, Device, Store
from controller.errors import TransientError
from controller.ingest import IngestStatus
from controller.ingest_batch import ingest_batch
from controller.ports import BusStatus, Received, Repositories

CONFIG = """\
version: 1
store: berlin-01
timezone: Europe/Berlin
planogram:
  - {sku: cola, gtin: "04012345678901", name: Cola}
cameras:
  - {id: cam-1, url: "rtsp://10.0.4.11/stream", frame_size: [1280, 720]}
zones:
  - {id: zone-1, camera: cam-1, sku: cola, capacity: 6, polygon: [[100, 80], [420, 80], [420, 230]]}
"""


class Api:
    """The API behind a real HTTP server, on whatever database is the present test's."""

    def __init__(self) -> None:
        guard = Guard("admin-token-of-a-test", "artifact-token-of-a-test")
        routers = [
            health.build_router(self, lambda: self.status, self.clock),
            fleet.build_router(self, guard, self.clock),
            inventory.build_router(self, guard, self.clock, "https://shop.example"),
            journal.build_router(self, guard, self.clock),
            stagings.build_router(self, guard, self.clock),
            _echo(),
        ]
        app = create_app(routers, max_body_bytes=10_000, larger_bodies={"/v1/stores": 2_000_000})
        self.paths = sorted(app.openapi()["paths"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{port}"
        self.anonymous = httpx.Client(base_url=url)
        self.admin = httpx.Client(base_url=url, headers={"Authorization": "Bearer admin-token-of-a-test"})
        self.agent = httpx.Client(base_url=url, headers={"Authorization": "Bearer artifact-token-of-a-test"})

    def use(self, database: Database, now: datetime) -> None:
        self.database = database
        self.now = now
        self.status = IngestStatus(BusStatus(connected=True, queued=0, sessions_lost=0))

    def reading(self) -> AbstractContextManager[Repositories]:
        return self.database.reading()

    def writing(self) -> AbstractContextManager[Repositories]:
        return self.database.writing()

    def clock(self) -> datetime:
        return self.now

    def close(self) -> None:
        for client in (self.anonymous, self.admin, self.agent):
            client.close()
        self._server.should_exit = True
        self._thread.join(10)


def _echo() -> APIRouter:
    router = APIRouter()

    @router.post("/v1/echo", include_in_schema=False)
    def echo(body: Annotated[bytes, Body()]) -> int:
        return len(body)

    return router


@pytest.fixture(scope="module")
def served() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


@pytest.fixture
def api(served: Api, tmp_path: Path, now: datetime) -> Iterator[Api]:
    database = open_database(f"sqlite:///{tmp_path / 'central.db'}")
    migrate(database)
    served.use(database, now)
    yield served
    database.close()


@pytest.fixture
def berlin(api: Api) -> Api:
    assert api.admin.post("/v1/stores", json={"name": "berlin-01"}).status_code == 201
    return api


def test_everything_but_health_needs_the_admin_token(api: Api) -> None:
    guarded = [path for path in api.paths if not path.startswith("/health")]
    assert len(guarded) >= 9
    for path in guarded:
        url = path.format(store="s", zone="z")
        method = "POST" if path in ("/v1/stores", "/v1/dead-letters/replay") else "GET"
        for client, status in ((api.anonymous, 401), (api.agent, 403)):
            answer = client.request(method, url)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YWRtaW4=", "Bearer admin-token-of-a-tes"])
def test_other_credentials_are_refused_and_told_the_remedy(api: Api, header: str) -> None:
    answer = api.anonymous.get("/v1/audit", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "STOREFLEET_API_TOKEN" in answer.json()["detail"]


def test_a_store_is_registered_with_its_configuration_and_written_down(api: Api) -> None:
    body = {"name": "berlin-01", "config": CONFIG, "labels": {"region": "north"}}
    made = api.admin.post("/v1/stores", json=body, headers={"X-Storefleet-Actor": "ada <x>"})
    assert made.status_code == 201
    assert made.json()["timezone"] == "Europe/Berlin"
    config = api.admin.get("/v1/stores/berlin-01/config").json()
    assert (config["yaml"], config["digest"]) == (CONFIG, made.json()["config_digest"])
    audit = api.admin.get("/v1/audit").json()["items"]
    assert [(e["action"], e["target"], e["actor"]) for e in audit] == [
        ("store.config", "berlin-01", "admin:ada x"),
        ("store.register", "berlin-01", "admin:ada x"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        pytest.param({"name": "Berlin"}, 422, "use a-z", id="name"),
        pytest.param({"name": "x", "cluster": {"kind": "docker"}}, 422, "local, kubernetes", id="cluster"),
        pytest.param({"name": "oslo-03", "config": CONFIG}, 422, "is for store 'berlin-01'", id="other"),
        pytest.param({"name": "berlin-01", "config": "a: [1"}, 422, "problem", id="broken yaml"),
        pytest.param({"config": CONFIG}, 422, "body.name", id="no name"),
        pytest.param(
            {"name": "berlin-01", "config": CONFIG.replace("Europe/Berlin", "Mars/Base")},
            422, "Mars/Base", id="time zone",
        ),
    ],
)  # fmt: skip
def test_a_bad_store_is_refused_and_nothing_written(
    api: Api, body: dict[str, Any], status: int, text: str
) -> None:
    answer = api.admin.post("/v1/stores", json=body)
    assert answer.status_code == status
    assert text in answer.text
    assert api.admin.get("/v1/stores").json()["items"] == []
    assert api.admin.get("/v1/audit").json()["items"] == []


def test_a_bad_configuration_is_refused_with_every_problem_and_its_line(berlin: Api) -> None:
    yaml = CONFIG.replace("sku: cola, capacity", "sku: fanta, capacity").replace("[420, 230]", "[4200, 230]")
    answer = berlin.admin.put("/v1/stores/berlin-01/config", json={"yaml": yaml})
    assert answer.status_code == 422
    problems = answer.json()["problems"]
    assert len(problems) == 2
    assert all(problem.startswith("line 9") for problem in problems), problems
    assert berlin.admin.get("/v1/stores/berlin-01/config").status_code == 404


def test_an_accelerator_that_cannot_be_is_refused(berlin: Api) -> None:
    cluster = {"kind": "kubernetes", "accelerator": "tpu"}
    answer = berlin.admin.post("/v1/stores", json={"name": "oslo-03", "cluster": cluster})
    assert answer.status_code == 422
    assert "use one of intel" in answer.json()["detail"]
    cluster["accelerator"] = "nvidia"
    made = berlin.admin.post("/v1/stores", json={"name": "oslo-03", "cluster": cluster})
    assert (made.status_code, made.json()["cluster"]) == (201, cluster)


def test_a_store_that_exists_or_does_not_is_said_so(berlin: Api) -> None:
    assert berlin.admin.post("/v1/stores", json={"name": "berlin-01"}).status_code == 409
    yaml = CONFIG.replace("berlin-01", "oslo-03")
    missing = berlin.admin.put("/v1/stores/oslo-03/config", json={"yaml": yaml})
    assert (missing.status_code, "stores add oslo-03" in missing.json()["detail"]) == (404, True)
    assert berlin.admin.get("/v1/fleet", params={"store": "oslo-03"}).status_code == 404
    assert berlin.admin.get("/v1/nothing").json()["detail"].startswith("there is no /v1/nothing")


def test_the_fleet_shows_devices_cameras_and_who_is_silent(berlin: Api, device: Any, now: datetime) -> None:
    camera = {"camera": "cam-1", "status": "dark", "fps_read": 5, "fps_inferred": 5}
    messages = [device.birth(), device.heartbeat(cameras=[camera])]
    ingest_batch(berlin.database, [device.sent(message) for message in messages], now)
    (store,) = berlin.admin.get("/v1/fleet").json()["items"]
    (shown,) = store["devices"]
    assert (shown["device"], shown["online"], shown["model_version"]) == ("node-1", True, "1")
    assert [(c["camera"], c["status"]) for c in shown["cameras"]] == [("cam-1", "dark")]
    berlin.now = now + timedelta(seconds=7)
    (store,) = berlin.admin.get("/v1/fleet", params={"store": "berlin-01"}).json()["items"]
    assert store["devices"][0]["online"] is False
    assert "no heartbeat" in store["devices"][0]["offline_reason"]


@pytest.fixture
def shelves(berlin: Api, device: Any, now: datetime) -> Api:
    rollout = uuid4()
    events = [device.event(n, subject=f"zone-{n % 3}") for n in range(1, 10)]
    events.append(device.event(10, "out_of_stock", rolloutid=rollout, data={"level": "out_of_stock"}))
    events.append(device.event(11, "status_changed"))
    ingest_batch(berlin.database, [device.sent(event) for event in events], now)
    return berlin


@pytest.mark.parametrize(
    ("params", "numbers"),
    [
        pytest.param({}, range(1, 12), id="all"),
        pytest.param({"zone": "zone-2"}, [2, 5, 8], id="zone"),
        pytest.param({"type": "out_of_stock"}, [10], id="type"),
        pytest.param({"type": "io.storefleet.shelf.out_of_stock.v1"}, [10], id="full type"),
        pytest.param({"camera": "cam-1", "newest_first": True, "limit": 2}, [11, 10], id="newest first"),
        pytest.param(
            {"since": "2026-05-04T11:43:25Z", "until": "2026-05-04T13:43:28+02:00"}, [5, 6, 7], id="time"
        ),
        pytest.param({"after": 9}, [10, 11], id="following"),
        pytest.param({"release": "r1"}, [], id="release"),
        pytest.param({"rollout_id": str(uuid4())}, [], id="another rollout"),
        pytest.param({"model_digest": "sha256:" + "a" * 64, "limit": 1}, [1], id="model"),
    ],
)  # fmt: skip
def test_events_are_filtered(shelves: Api, params: dict[str, Any], numbers: Any) -> None:
    answer = shelves.admin.get("/v1/events", params=params)
    assert [event["sequence"] for event in answer.json()["items"]] == list(numbers)


@pytest.mark.parametrize(
    "params",
    [{"limit": 0}, {"limit": 1001}, {"cursor": "!!"}, {"since": "yesterday"}, {"rollout_id": "1"},
     {"since": "2026-05-04T12:00:00"}],
    ids=["limit 0", "limit above", "cursor", "no time", "no uuid", "time without zone"],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(shelves: Api, params: dict[str, Any]) -> None:
    answer = shelves.admin.get("/v1/events", params=params)
    assert answer.status_code == 422
    assert next(iter(params)) in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/stock", "/v1/events", "/v1/epcis/events"])
def test_a_store_that_does_not_exist_is_not_an_empty_one(shelves: Api, path: str) -> None:
    answer = shelves.admin.get(path, params={"store": "nope"})
    assert answer.status_code == 404
    assert "'nope' does not exist" in answer.json()["detail"]


def test_a_type_that_does_not_exist_is_refused_with_those_that_do(shelves: Api) -> None:
    answer = shelves.admin.get("/v1/events", params={"type": "nope"})
    assert answer.status_code == 422
    assert all(word in answer.json()["detail"] for word in ("'nope'", "out_of_stock", "status_changed"))


@pytest.mark.parametrize("path", ["/v1/events", "/v1/stock", "/v1/stock/berlin-01/zone-1/history"])
def test_pages_join_to_the_whole(shelves: Api, path: str) -> None:
    whole = shelves.admin.get(path).json()["items"]
    assert len(whole) > 2
    joined: list[Any] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = shelves.admin.get(path, params=params).json()
        assert len(page["items"]) <= 2
        joined += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert joined == whole


def test_a_zone_that_is_no_longer_configured_leaves_the_stock_but_not_the_events(shelves: Api) -> None:
    answer = shelves.admin.put("/v1/stores/berlin-01/config", json={"yaml": CONFIG})
    assert answer.status_code == 200
    assert [zone["zone"] for zone in shelves.admin.get("/v1/stock").json()["items"]] == ["zone-1"]
    assert len(shelves.admin.get("/v1/events", params={"zone": "zone-2"}).json()["items"]) == 3


def test_stock_is_what_the_newest_event_said(shelves: Api) -> None:
    zones = {zone["zone"]: zone for zone in shelves.admin.get("/v1/stock").json()["items"]}
    assert zones["zone-1"]["level"] == "out_of_stock"
    assert zones["zone-2"]["level"] == "stocked"
    assert shelves.admin.get("/v1/stock/berlin-01/nothing/history").status_code == 404


def test_events_are_rendered_as_epcis_with_a_link_to_the_next_page(
    api: Api, device: Any, now: datetime
) -> None:
    api.admin.post("/v1/stores", json={"name": "berlin-01", "config": CONFIG})
    wrong = device.event(1, "low_stock", data={"level": "low", "facings": 1})
    events = [
        wrong,
        device.event(2, "picked", data={"quantity": 2}),
        device.event(3, "status_changed"),
        device.event(4, "retracted", data={"retracts": str(wrong.id)}),
        device.event(5, data={"sku": "unlisted"}),
    ]
    ingest_batch(api.database, [device.sent(event) for event in events], now)
    whole = api.admin.get("/v1/epcis/events", params={"store": "berlin-01"})
    assert "Link" not in whole.headers
    rendered = whole.json()["epcisBody"]["eventList"]
    assert [(e["action"], e["quantityList"][0]["quantity"]) for e in rendered] == [
        ("OBSERVE", 1), ("DELETE", 2), ("OBSERVE", 1),
    ]  # fmt: skip
    assert [e["eventID"] for e in rendered if "errorDeclaration" in e] == [f"urn:uuid:{wrong.id}"]
    assert rendered[0]["bizLocation"]["id"] == "https://shop.example/stores/berlin-01/zones/zone-1"
    joined: list[Any] = []
    url: str | None = "/v1/epcis/events?limit=2"
    while url:
        page = api.admin.get(url)
        joined += page.json()["epcisBody"]["eventList"]
        url = page.links.get("next", {}).get("url")
    assert joined == rendered


def test_refused_messages_and_gaps_are_listed(berlin: Api, device: Any, now: datetime) -> None:
    bad = Received(device.topics.events, b"\xff{", now)
    ingest_batch(berlin.database, [bad, device.sent(device.event(3))], now)
    (letter,) = berlin.admin.get("/v1/dead-letters").json()["items"]
    assert (letter["payload"], letter["store"], letter["times"]) == ("\ufffd{", "berlin-01", 1)
    (gap,) = berlin.admin.get("/v1/gaps", params={"open_only": True}).json()["items"]
    assert (gap["first"], gap["last"], gap["closed_at"]) == (1, 2, None)
    assert berlin.admin.get("/v1/handovers").json()["items"] == []


def test_honest_events_refused_by_a_wrong_clock_are_replayed_once_it_is_right(
    berlin: Api, device: Any, now: datetime
) -> None:
    early = now - timedelta(days=30)  # the centre's clock was set back; events are of now
    events = [device.sent(device.event(n)) for n in (1, 2)]
    foreign = device.sent(device.event(3, source="/stores/oslo-03/devices/node-1/cameras/cam-1"))
    garbage = Received(device.topics.events, b"{", now)
    ingest_batch(berlin.database, [device.sent(device.birth())], now)
    assert ingest_batch(berlin.database, [*events, foreign, garbage], early).refused == 4
    with berlin.writing() as repositories:
        repositories.stores.add(Store("paris-02", created_at=now))
    other = berlin.admin.post("/v1/dead-letters/replay", json={"store": "paris-02"})
    assert other.json() == {"taken_in": 0, "refused": 0}
    berlin.now = early
    assert berlin.admin.post("/v1/dead-letters/replay", json={}).json() == {"taken_in": 0, "refused": 3}
    berlin.now = now + timedelta(minutes=1)
    assert berlin.admin.post("/v1/dead-letters/replay", json={}).json() == {"taken_in": 2, "refused": 1}
    stored = berlin.admin.get("/v1/events").json()["items"]
    assert [(e["sequence"], e["historical"]) for e in stored] == [(1, True), (2, True)]
    (zone,) = berlin.admin.get("/v1/stock").json()["items"]
    assert zone["facings"] == 2
    left = berlin.admin.get("/v1/dead-letters").json()["items"]
    assert [(letter["sequence"], letter["times"]) for letter in left] == [(3, 1), (None, 1)]
    (device_row,) = berlin.admin.get("/v1/fleet", params={"store": "berlin-01"}).json()["items"][0]["devices"]
    assert device_row["last_seen"] != berlin.now.isoformat().replace("+00:00", "Z"), "it did not say anything"
    audit = berlin.admin.get("/v1/audit").json()["items"]
    replays = [(e["target"], e["detail"]) for e in audit if e["action"] == "dead_letters.replay"]
    assert replays[0] == ("*", {"taken_in": 2, "refused": 1})
    assert len(replays) == 3


def test_a_replay_resolves_reused_numbers_only_if_the_event_came_in_otherwise(
    berlin: Api, device: Any, now: datetime
) -> None:
    first, second = device.event(1), device.event(1)
    ingest_batch(berlin.database, [device.sent(first), device.sent(second)], now)
    assert berlin.admin.post("/v1/dead-letters/replay", json={}).json() == {"taken_in": 0, "refused": 1}
    (letter,) = berlin.admin.get("/v1/dead-letters").json()["items"]
    assert letter["reason"].startswith("sequence reused")
    moved = second.model_copy(update={"streamid": uuid4()})
    ingest_batch(berlin.database, [device.sent(moved)], now)
    assert berlin.admin.post("/v1/dead-letters/replay", json={}).json() == {"taken_in": 1, "refused": 0}
    assert berlin.admin.get("/v1/dead-letters").json()["items"] == []


def test_a_page_of_many_stores_is_made_in_time_that_grows_with_its_size(berlin: Api, now: datetime) -> None:
    """A page that takes seconds would hold up ingest, which shares the interpreter."""
    with berlin.writing() as repositories:
        for number in range(499):
            repositories.stores.add(Store(f"s-{number:03}", created_at=now))
        places = [(f"s-{store:03}", f"d-{device}") for store in range(499) for device in range(5)]
        devices = [Device(*place, first_seen=now, last_seen=now) for place in places]
        cameras = [Camera(*place, f"cam-{n}", "online") for place in places for n in range(8)]
        repositories.fleet.save(devices, cameras)
    began = time.process_time()
    items = berlin.admin.get("/v1/fleet", params={"limit": 500}, timeout=50).json()["items"]
    assert time.process_time() - began < 4, "seconds of this process, server and client"
    assert sum(len(device["cameras"]) for store in items for device in store["devices"]) == len(cameras)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
def test_a_large_body_is_refused_unread(api: Api, declared: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"x" * 1000 for _ in range(11))

    body = b"x" * 11_000 if declared else pieces()
    answer = api.admin.post("/v1/echo", content=body)
    assert answer.status_code == 413
    assert "10000 bytes" in answer.json()["detail"]
    put = api.admin.put("/v1/stores/a/config", content=pieces())
    assert put.status_code == 422, "this path has a limit of its own"


@pytest.mark.parametrize(
    ("changes", "bus", "text"),
    [
        pytest.param({}, {}, "", id="well"),
        pytest.param({}, {"connected": False, "error": "no broker"}, "no broker", id="broker"),
        pytest.param({"error": "disk full"}, {}, "disk full", id="ingest"),
        pytest.param({"waiting_since": timedelta(seconds=-31)}, {}, "messages wait 31 s", id="lag"),
    ],
)
def test_health_names_what_is_broken(
    api: Api, changes: dict[str, Any], bus: dict[str, Any], text: str
) -> None:
    changes = {k: api.now + v if isinstance(v, timedelta) else v for k, v in changes.items()}
    api.status = replace(api.status, bus=replace(api.status.bus, **bus), **changes)
    answer = api.anonymous.get("/health")
    assert answer.status_code == (503 if text else 200)
    assert (answer.json()["ready"], text in str(answer.json()["problems"])) == (not text, True)
    assert api.anonymous.get("/health/live").status_code == 200


def test_without_a_database_the_answer_is_503_and_says_so(api: Api, now: datetime, tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'missing' / 'central.db'}")
    api.use(database, now)
    answer = api.admin.get("/v1/stores")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert api.anonymous.get("/health").json()["database"] is False
    with pytest.raises(TransientError):
        migrate(database)
    database.close()


def test_text_that_is_no_unicode_is_refused(berlin: Api) -> None:
    body = b'{"name": "paris-02", "labels": {"a": "\\ud800"}}'
    answer = berlin.admin.post("/v1/stores", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "cannot hold" in answer.json()["detail"]


def test_an_error_that_nobody_foresaw_is_a_problem_without_details(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(api, "reading", broken)
    answer = api.admin.get("/v1/stores")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "the controller's log" in answer.json()["detail"]
    assert "secret" not in answer.text


def test_tokens_do_not_show() -> None:
    assert repr(Guard("very-secret-token", "another-secret")) == "Guard(…)"
