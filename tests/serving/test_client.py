"""The client against the service itself, and against services that fail in every way."""

import asyncio
import math
import subprocess
import sys

import httpx
import pytest

from serving.client import AsyncClient, Client, Route, Routes, ServiceError
from serving.routes import ROUTES
from serving.schemas import Context

ANSWER = {"request_id": "r", "model_version": "als 1", "decision_id": None, "degraded": False, "items": []}
STORED = {"request_id": "r", "model_version": "als 1", "accepted": 1, "duplicates": 0, "refused": []}
EVENT = {"event_id": "c1", "event": "page_viewed", "user_id": "u1", "occurred_at": "2026-01-01"}


def asking(shared, key=None):
    """The awaited client over the service without a socket."""
    return AsyncClient("http://attune", key=key or shared.key, transport=httpx.ASGITransport(shared.app))


def told(shared, method, key=None, **fields):
    """What the service answers to one call."""

    async def ask():
        async with asking(shared, key) as client:
            return await getattr(client, method)(**fields)

    return shared.run(ask())


class Failing:
    """A service that gives one answer after the other, an exception or a response; counts what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, request):
        self.headers = request.headers
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options):
        return Client(transport=httpx.MockTransport(self), **options)


@pytest.fixture(autouse=True)
def waited(monkeypatch):
    """Seconds that clients would have waited."""
    seconds = []
    monkeypatch.setattr("serving.client.time.sleep", seconds.append)
    return seconds


def test_every_route_of_the_service_is_a_method_that_asks_and_answers_in_its_words():
    methods = {name: route for name, route in vars(Routes).items() if isinstance(route, Route)}
    assert {route.path: (route.ask, route.answer) for route in methods.values()} == {
        route.path: (route.ask, route.answer) for route in ROUTES
    }
    assert all(route.path == f"/v1/{name}" for name, route in methods.items())


def test_it_asks_the_service_and_reads_its_answer(shared):
    answer = told(shared, "recommend", user_id="u1", k=3, context=Context(viewing="i3"))
    assert len(answer.items) == 3
    assert answer.decision_id
    assert told(shared, "events", events=[EVENT]).accepted == 1
    assert told(shared, "events", events=[EVENT]).duplicates == 1


def test_a_refusal_is_told_with_its_code_fields_and_request(shared):
    with pytest.raises(ServiceError, match="not known") as caught:
        told(shared, "similar", item_id="nothing")
    assert (caught.value.code, caught.value.status, caught.value.details[0].field) == ("not_found", 404, "item_id")
    assert len(caught.value.request_id) == 16
    with pytest.raises(ServiceError) as caught:
        told(shared, "recommend", key="attune_0_0")
    assert caught.value.code == "unauthorized"


def test_a_wrong_field_is_told_before_anything_is_sent():
    service = Failing()
    with service.client() as client, pytest.raises(ServiceError, match="k: Input should be a valid int") as caught:
        client.recommend(k="three")
    assert (caught.value.code, caught.value.status, service.asked) == ("malformed", None, 0)


def test_what_json_does_not_have_is_told_before_anything_is_sent():
    with Failing().client() as client, pytest.raises(ServiceError, match="Unable to serialize unknown type"):
        client.events(events=[{"event_id": object()}])


def test_what_is_not_finite_is_refused_and_not_stored_without_it(shared):
    [refused] = told(shared, "events", events=[{**EVENT, "event_id": "c2", "value": math.nan}]).refused
    assert (refused.field, refused.message[:15]) == ("value", "is not a number")


def test_a_key_with_a_slip_is_mended_or_refused_and_never_told():
    service = Failing(httpx.Response(200, json=ANSWER))
    with service.client(key="attune_1_secret\n") as client:
        client.recommend()
    assert service.headers["authorization"] == "Bearer attune_1_secret"
    for key in ("attune_1_se\ncret", "attune_1_secrét"):
        with pytest.raises(ServiceError) as caught:
            Client(key=key)
        assert "attune_1" not in str(caught.value)


def test_a_method_tells_what_it_takes():
    client = Failing().client()
    assert {"user_id", "placement", "k", "context"} <= set(client.recommend.__signature__.parameters)
    assert client.recommend.__doc__ == "Items for a person, a visitor or nobody in particular."


def test_a_service_that_is_not_ready_is_asked_again_when_it_says(waited):
    service = Failing(httpx.Response(503, headers={"Retry-After": "2"}), httpx.Response(200, json=ANSWER))
    assert service.client().recommend().model_version == "als 1"
    assert waited == [2]


def test_a_lost_answer_is_asked_for_again(waited):
    service = Failing(httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("gone"), httpx.Response(200, json=STORED))
    assert service.client().events(events=[EVENT]).accepted == 1
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("lost", "asked"),
    [
        (httpx.ReadTimeout(""), 1),
        (httpx.RemoteProtocolError(""), 1),
        (httpx.ConnectError(""), 3),
        (httpx.Response(503), 3),
    ],
)
def test_an_action_that_may_have_been_handed_out_is_not_asked_for_again(lost, asked):
    service = Failing(lost, lost, lost)
    with pytest.raises(ServiceError):
        service.client().actions(user_id="u1")
    assert service.asked == asked


@pytest.mark.parametrize(
    ("answer", "code", "asked"),
    [
        (httpx.ConnectError("refused"), "unreachable", 3),
        (httpx.UnsupportedProtocol("no such scheme"), "unreachable", 1),
        (httpx.DecodingError("not gzip, though it says so"), "unreadable", 1),
        (httpx.Response(502, text="<html>a proxy's</html>"), "unreadable", 1),
        (httpx.Response(200, text="<html>a proxy's</html>"), "unreadable", 1),
        (httpx.Response(503, headers={"Retry-After": "3600"}), "unreadable", 1),
    ],
)
def test_whatever_goes_wrong_is_one_kind_of_error(answer, code, asked):
    service = Failing(answer, answer, answer)
    with pytest.raises(ServiceError) as caught:
        service.client().recommend()
    assert (caught.value.code, service.asked) == (code, asked)


def test_the_awaited_client_asks_again_too():
    answers = [httpx.ReadError("gone"), httpx.Response(200, json=ANSWER)]

    def service(request):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask():
        async with AsyncClient(transport=httpx.MockTransport(service)) as client:
            return await client.recommend()

    assert asyncio.run(ask()).request_id == "r"


def test_no_body_is_logged(shared, caplog):
    caplog.set_level(0)
    with pytest.raises(ServiceError):
        told(shared, "recommend", user_id="secret-person", filter="price <")
    assert "secret-person" not in caplog.text


def test_it_needs_httpx_and_pydantic_alone():
    code = """
import sys
import serving.client
import httpx, pydantic
heavy = {"bentoml", "starlette", "sqlalchemy", "numpy", "pandas", "ibis", "duckdb", "mlflow", "data", "models"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
