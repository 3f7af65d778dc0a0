"""The routes: what they answer, and that whatever is wrong with a request is told in the one shape."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.routes import ROUTES
from serving.schemas import RecommendAsk

BODIES = {
    "/v1/recommend": {"user_id": "u1"},
    "/v1/similar": {"item_id": "i1"},
    "/v1/score": {"user_ids": ["u1"]},
    "/v1/events": {"events": [{"event_id": "1", "event": "page_viewed", "user_id": "u1", "occurred_at": "2026-01-01"}]},
    "/v1/offers": {"user_id": "u1"},
    "/v1/variants": {"user_id": "u1", "slot": "hero"},
    "/v1/decide": {"user_id": "u1", "items": [{"k": 1}]},
    "/v1/actions": {"user_id": "u1"},
    "/v1/outcomes": {"outcomes": [{"outcome_id": "1", "decision_id": "d", "kind": "click", "at": "2026-01-01"}]},
    "/v1/consents": {"user_id": "u1"},
    "/v1/preferences": {"user_id": "u1"},
    "/v1/tables": {"items": [{"item_id": "i1", "name": "Item 1"}]},
    "/v1/explain": {"user_id": "u1"},
    "/v1/erase": {"user_id": "nobody"},
}


def error(response, status):
    """The error of a response, in the one shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize("path", BODIES)
def test_every_answer_names_its_request_and_its_model(shared, path):
    response = shared.post(path, BODIES[path], key=shared.admin)
    assert response.status_code == 200, response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.json()["model_version"]


def test_every_route_of_the_contract_is_tried_here():
    assert {route.path for route in ROUTES} == set(BODIES)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"k": 0}, "k: Input should be greater than or equal to 1, not 0"),
        ({"kk": 1}, f"kk: is no field here; there are {', '.join(RecommendAsk.model_fields)}"),
        ({"context": {"basket": []}}, "context.basket: is no field here; docs/http.md lists those there are"),
        ({"user_id": "a\0"}, "user_id: holds the character NUL, which cannot be stored"),
        ({"user_id": "x" * 10_000}, "user_id: String should have at most 512 characters"),
        ({"user_id": "茶" * 342}, "user_id: String should have at most 1024 bytes as UTF-8"),
    ],
)
def test_a_wrong_field_is_told_with_its_value_and_what_would_be_right(shared, body, told):
    assert error(shared.post("/v1/recommend", body), 400)["message"] == told


def test_what_is_sent_is_not_told_at_length(shared):
    assert len(shared.post("/v1/recommend", {}, headers={"Content-Type": "a" * 5000}).text) < 1000
    assert len(shared.get("/" + "a" * 5000).text) < 1000


@pytest.mark.parametrize("path", BODIES)
def test_a_missing_or_wrong_key_is_refused(shared, path):
    error(shared.post(path, BODIES[path], headers={"Authorization": ""}), 401)
    error(shared.post(path, BODIES[path], key="attune_0_0"), 401)
    error(shared.post(path, BODIES[path], headers={"Authorization": "Basic x"}), 401)


def test_a_key_may_come_in_its_own_header(shared):
    headers = {"Authorization": "", "X-API-Key": shared.key}
    assert shared.post("/v1/recommend", {}, headers=headers).status_code == 200


def test_an_app_may_not_change_tables(shared):
    assert error(shared.post("/v1/tables", BODIES["/v1/tables"]), 403)["code"] == "forbidden"


MALFORMED = [
    b"", b"{", b"[]", b"null", b'"x"', b"{'a': 1}", b"\xff\xfe",
    b'{"a":' * 5000, b"[" * 100_000, b'{"k": 1e999}', b'{"k": NaN}',
]  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_body_is_told(shared, path, content):
    error(shared.post(path, content=content, key=shared.admin), 400)


@pytest.mark.parametrize("path", BODIES)
def test_an_unknown_field_is_named(shared, path):
    found = error(shared.post(path, {**BODIES[path], "colour": "red"}, key=shared.admin), 400)
    assert [detail["field"] for detail in found["details"]] == ["colour"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/recommend", {"k": 0}, "k"),
        ("/v1/recommend", {"k": 100_000}, "k"),
        ("/v1/recommend", {"k": "ten"}, "k"),
        ("/v1/recommend", {"k": 1.5}, "k"),
        ("/v1/recommend", {"user_id": 7}, "user_id"),
        ("/v1/recommend", {"user_id": ""}, "user_id"),
        ("/v1/recommend", {"user_id": "a\0"}, "user_id"),
        ("/v1/recommend", {"user_id": "x" * 600}, "user_id"),
        ("/v1/recommend", {"context": {"cart": "i1"}}, "context.cart"),
        ("/v1/recommend", {"context": {"basket": []}}, "context.basket"),
        ("/v1/recommend", {"filter": "price <"}, "filter"),
        ("/v1/recommend", {"filter": "shade == 'red'"}, "filter"),
        ("/v1/recommend", {"filter": "__import__('os')"}, "filter"),
        ("/v1/recommend", {"filter": "category < 3"}, "filter"),
        ("/v1/recommend", {"filter": "price < " + "9" * 400}, "filter"),
        ("/v1/recommend", {"filter": "created_at > '2026-01-01'"}, "filter"),
        ("/v1/recommend", {"filter": "(" * 500 + "price" + ")" * 500}, "filter"),
        ("/v1/recommend", {"filter": "-" * 900 + "price > 0"}, "filter"),
        ("/v1/similar", {}, "item_id"),
        ("/v1/score", {"user_ids": []}, "user_ids"),
        ("/v1/score", {"user_ids": ["u"] * 1001}, "user_ids"),
        ("/v1/score", {"user_ids": ["u1"], "models": ["luck"]}, "models"),
        ("/v1/events", {"events": []}, "events"),
        ("/v1/events", {"events": [{}] * 1001}, "events"),
        ("/v1/events", {"events": [7]}, "events.0"),
        ("/v1/tables", {"orders": []}, "orders"),
    ],
)
def test_a_wrong_value_is_told_with_its_field(shared, path, body, field):
    found = error(shared.post(path, body, key=shared.admin), 400)
    assert found["details"][0]["field"] == field


def test_an_unknown_item_is_not_found(shared):
    assert error(shared.post("/v1/similar", {"item_id": "nothing"}), 404)["code"] == "not_found"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "9999999"}])
def test_a_giant_body_is_refused(shared, headers):
    giant = json.dumps({"user_id": "x" * 3_000_000}).encode()

    async def parts():
        for start in range(0, len(giant), 100_000):
            yield giant[start : start + 100_000]

    error(shared.post("/v1/recommend", content=parts(), headers=headers), 413)


def test_another_content_type_is_refused(shared):
    error(shared.post("/v1/recommend", {}, headers={"Content-Type": "text/plain"}), 415)
    assert "gzip" in error(shared.post("/v1/recommend", {}, headers={"Content-Encoding": "gzip"}), 415)["message"]
    assert shared.post("/v1/recommend", {}, headers={"Content-Encoding": "identity"}).status_code == 200


def test_unknown_paths_and_methods_have_the_one_shape(shared):
    error(shared.get("/v2/anything"), 404)
    error(shared.get("/v1/recommend"), 405)
    error(shared.post("/readyz", {}), 405)
    error(shared.post("/v1/recommend/", {}), 404)


def test_every_error_names_its_request(shared):
    for response in (shared.get("/v2/anything"), shared.get("/v1/recommend"), shared.post("/v1/recommend", {"k": 0})):
        assert len(response.headers["x-request-id"]) == 16


def test_rows_that_would_break_the_store_are_refused_alone(shared):
    event = {"event": "order_refunded", "user_id": "u1", "occurred_at": "2026-01-01"}
    rows = [
        {**event, "event_id": "break1", "products": [{"item_id": "i1", "quantity": 10**400}]},
        {**event, "event_id": "break2", "shade": float("nan")},
        {**event, "event_id": "whole"},
    ]
    answer = shared.post("/v1/events", {"events": rows}).json()
    assert answer["accepted"] == 1
    assert [refused["field"] for refused in answer["refused"]] == ["products[0].quantity", "extra"]


def test_rows_of_tables_from_the_future_are_refused(shared):
    rows = {"items": [{"item_id": "i1", "updated_at": "2199-01-01"}], "users": [{"user_id": "u1"}]}
    answer = shared.post("/v1/tables", rows, key=shared.admin).json()
    assert answer["upserted"] == {"users": 1}
    assert [(refused["id"], refused["field"]) for refused in answer["refused"]] == [("i1", "updated_at")]


def test_an_attribute_that_lower_case_would_no_longer_call_sensitive_is_refused(shared):
    users = [
        {"user_id": "u1", "customerGender": "woman"},
        {"user_id": "u2", "customer_gender": "man", "firstName": "X"},
    ]
    answer = shared.post("/v1/tables", {"users": users}, key=shared.admin).json()
    assert answer["upserted"] == {"users": 1}
    assert [(refused["id"], refused["field"]) for refused in answer["refused"]] == [("u1", "customerGender")]


def test_rows_beyond_the_limits_of_their_columns_are_refused_alone_with_the_reason(shared):
    offers = [
        {"offer_id": "odd", "kind": "miracle"},
        {"offer_id": "minus", "max_redemptions": -1},
        {"offer_id": "back", "starts_at": "2026-02-01", "ends_at": "2026-01-01"},
        {"offer_id": "none", "kind": "percent"},
        {"offer_id": "none", "kind": "none"},
        {
            "offer_id": "fine",
            "kind": "shipping",
            "max_redemptions": 0,
            "starts_at": "2026-01-01",
            "ends_at": "2199-01-01",
        },
    ]
    messages = [
        {"message_id": "m", "user_id": "u1", "channel": "email", "sent_at": "2026-01-02", "opened_at": "2026-01-01"}
    ]
    answer = shared.post("/v1/tables", {"offers": offers, "messages": messages}, key=shared.admin).json()
    assert answer["upserted"] == {"offers": 2}
    assert [(refused["id"], refused["field"], refused["message"]) for refused in answer["refused"]] == [
        ("odd", "kind", "'miracle' is none of percent, amount, shipping, gift, none"),
        ("minus", "max_redemptions", "-1 is negative"),
        ("back", "ends_at", "lies before starts_at (2026-01-01T00:00:00+00:00)"),
        ("none", "offer_id", "'none' is kept for what is of kind none"),
        ("m", "opened_at", "lies before sent_at (2026-01-01T00:00:00+00:00)"),
    ]


def test_health_metrics_and_docs_need_no_key(shared):
    assert shared.get("/healthz").status_code == 200
    assert shared.get("/readyz").json()["model_versions"] == {"recommender": "1", "propensity-churn": "1"}
    shared.post("/v1/recommend", {})
    assert 'attune_requests_total{route="/v1/recommend",status="200"}' in shared.get("/metrics").text
    assert set(shared.get("/docs.json").json()["paths"]) >= set(BODIES)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable, max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["user_id", "anonymous_id", "placement", "k", "context", "exclude", "filter", "item_id", "user_ids", "models",
     "events", "users", "items", "offers", "variants", "messages", "event_id", "event", "occurred_at", "products"]
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(sorted(BODIES)),
    body=st.dictionaries(FIELDS, json_values | st.lists(st.dictionaries(FIELDS, json_values, max_size=5), max_size=3)),
)
def test_no_body_whatever_makes_the_service_fail(shared, path, body):
    response = shared.post(path, {**BODIES[path], **body}, key=shared.admin)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error(response, response.status_code)
