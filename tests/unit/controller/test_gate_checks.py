"""Asking the outside world: every kind of trouble becomes words."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.gate_http import MAX_ANSWER_BYTES, HttpGateCaller
from controller.domain.rollout.evidence import External
from controller.domain.rollout.spec import PrometheusGate, RolloutSpec
from controller.domain.rollout.state import Rollout, Status, Verdict, WaveState
from controller.gate_checks import ask, due, read_prometheus, read_webhook

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
GATE = PrometheusGate(kind="prometheus", url="https://prom.example", query="sum(up)", op=">=", value=3)

SPEC = RolloutSpec.model_validate(
    {
        "name": "spring",
        "release": "v2",
        "waves": [{"name": "canary"}],
        "gates": [
            {"kind": "webhook", "url": "https://hook.example/gate?key=hunter2"},
            {"kind": "health"},
            {
                "kind": "prometheus",
                "url": "https://prom.example/x/",
                "query": "sum(up)",
                "op": ">=",
                "value": 3,
            },
        ],
    }
)
ROLLOUT = Rollout(SPEC, Status.RUNNING, NOW, "x", waves=(WaveState(("berlin-01",), opened_at=NOW),))

Handler = Callable[[httpx.Request], httpx.Response]


def answer(handler: Handler, index: int = 0) -> External:
    return ask(HttpGateCaller(httpx.MockTransport(handler)), ROLLOUT, 0, index, NOW)


def test_a_webhook_is_told_what_it_is_asked_about() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"verdict": "pass", "reason": "sales as usual"})

    assert answer(handler) == External(0, PASS, "sales as usual", NOW, 0)
    (request,) = seen
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    asked = json.loads(request.content)
    assert (asked["rollout"], asked["wave"], asked["stores"]) == ("spring", "canary", ["berlin-01"])


def test_prometheus_is_queried_below_its_path() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path, request.url.params["query"]) == (
            "GET",
            "/x/api/v1/query",
            "sum(up)",
        )
        return httpx.Response(200, json={"data": {"resultType": "vector", "result": [{"value": [1, "2"]}]}})

    assert answer(handler, 2) == External(2, FAIL, "sum(up) is 2 (not >= 3)", NOW, 0)


def _time_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("certificate verify failed", request=request)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_time_out, "no answer from hook.example within 10 s"),
        (_refuse, "hook.example could not be asked: certificate verify failed"),
        (lambda _: httpx.Response(503), "hook.example answered 503"),
        (lambda _: httpx.Response(302, headers={"location": "https://evil.example"}), "redirects"),
        (lambda _: httpx.Response(200, content=b"x" * (MAX_ANSWER_BYTES + 1)), "more than 64 KB"),
        (lambda _: httpx.Response(200, content=b"hello"), "did not answer"),
        (
            lambda _: httpx.Response(200, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
            "compresses its answer",
        ),
        (lambda _: httpx.Response(200, json={"verdict": "maybe"}), "did not answer"),
    ],
)
def test_trouble_is_inconclusive_with_words_and_without_the_secret(handler: Handler, words: str) -> None:
    said = answer(handler)
    assert said.verdict is OPEN
    assert words in said.reason
    assert "hunter2" not in said.reason


@pytest.mark.parametrize(
    ("result", "verdict", "words"),
    [
        ({"resultType": "vector", "result": [{"value": [1, "3"]}]}, PASS, "sum(up) is 3 (as >= 3)"),
        ({"resultType": "scalar", "result": [1, "2.5"]}, FAIL, "sum(up) is 2.5 (not >= 3)"),
        ({"resultType": "vector", "result": []}, OPEN, "no series matches the query"),
        ({"resultType": "vector", "result": [{"value": [1, "1"]}] * 2}, OPEN, "the query gives 2 numbers"),
        ({"resultType": "matrix", "result": []}, OPEN, "the query gives a matrix"),
        ({"resultType": "scalar", "result": [1, "NaN"]}, OPEN, "the query gives NaN"),
        ({"resultType": "scalar", "result": [1, "+Inf"]}, PASS, "inf"),
        ({"resultType": "scalar", "result": None}, OPEN, "not one of a Prometheus server"),
        ("nothing", OPEN, "not one of a Prometheus server"),
    ],
)
def test_prometheus_answers(result: Any, verdict: Verdict, words: str) -> None:
    said = read_prometheus(json.dumps({"data": result}).encode(), GATE)
    assert said[0] is verdict
    assert words in said[1]


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)
)
def test_rubbish_is_never_a_verdict(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    assert read_webhook(raw)[0] is OPEN
    assert read_prometheus(raw, GATE)[0] is OPEN


def test_who_is_due() -> None:
    assert due(ROLLOUT, 0, [], NOW) == [0, 2]
    lately = External(0, PASS, "x", NOW - timedelta(seconds=30))
    assert due(ROLLOUT, 0, [lately, External(2, PASS, "x", NOW, wave=1)], NOW) == [2]
    assert due(ROLLOUT, 0, [External(0, PASS, "x", NOW - timedelta(minutes=2))], NOW) == [0, 2]
