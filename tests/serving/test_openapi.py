"""The OpenAPI document: complete, and true of the service that gives it."""

import json
from pathlib import Path

import pytest

from serving.openapi import ERRORS, statuses
from serving.routes import ROUTES


@pytest.fixture(scope="module")
def document(shared):
    """The document, of a service that has come to know the item of the examples."""
    shared.post("/v1/tables", {"items": [{"item_id": "85123A"}]}, key=shared.admin)
    shared.wait(lambda: shared.post("/v1/similar", {"item_id": "85123A"}).status_code == 200)
    return shared.get("/docs.json").json()


def examples(spec):
    return spec.ask.model_config["json_schema_extra"]["examples"]


EXAMPLES = [pytest.param(spec, body, id=f"{spec.path} {n}") for spec in ROUTES for n, body in enumerate(examples(spec))]


@pytest.mark.parametrize(("spec", "body"), EXAMPLES)
def test_the_service_accepts_every_example(shared, document, spec, body):
    content = document["paths"][spec.path]["post"]["requestBody"]["content"]["application/json"]
    assert {"value": body} in content["examples"].values()
    response = shared.post(spec.path, body, key=shared.admin)
    assert response.status_code == 200, response.text
    # Here nobody made the decision that the example's outcome is of.
    assert {refused["field"] for refused in response.json().get("refused", ())} <= {"decision_id"}


def test_every_route_is_there_with_its_name_words_and_errors(document):
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert {f"/v1/{name}" for name in names} >= {spec.path for spec in ROUTES}
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert set(operation["tags"]) <= tags
        assert all(response["description"] for response in operation["responses"].values())


def test_every_request_is_described_and_refuses_unknown_fields(document):
    schemas = document["components"]["schemas"]
    asks = {spec.ask.__name__: schemas[spec.ask.__name__] for spec in ROUTES}
    assert all(schema["additionalProperties"] is False for schema in asks.values())
    assert all(schema["description"] for schema in asks.values())


def test_only_what_admins_may_do_says_that_a_role_may_be_missing():
    assert {spec.path for spec in ROUTES if 403 in statuses(spec)} == {s.path for s in ROUTES if s.role == "admin"}
    assert {status for spec in ROUTES for status in statuses(spec)} == set(ERRORS)


@pytest.mark.parametrize("spec", ROUTES, ids=lambda spec: spec.path)
def test_what_a_route_answers_wrongly_asked_is_in_its_description(shared, document, spec):
    told = document["paths"][spec.path]["post"]["responses"]
    wrong = [
        shared.post(spec.path, content=b"{"),
        shared.post(spec.path, {"no such field": 1}, key=shared.admin),
        shared.post(spec.path, {}, key="attune_0_0"),
        shared.post(spec.path, {}, headers={"Content-Type": "text/plain"}),
        shared.post(spec.path, content=b" " * 3_000_000),
    ]
    assert {str(response.status_code) for response in wrong} <= set(told)


@pytest.mark.parametrize("spec", ROUTES, ids=lambda spec: spec.path)
def test_the_page_names_every_field(spec):
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    _, _, asks, answers, _ = next(line for line in page.splitlines() if line.startswith(f"| `{spec.path}`")).split("|")
    assert [field for field in spec.ask.model_fields if f"`{field}`" not in asks] == []
    of_every_answer = {"request_id", "model_version"}
    assert [field for field in spec.answer.model_fields.keys() - of_every_answer if f"`{field}`" not in answers] == []


def test_every_reference_leads_somewhere(document):
    references = {line.split('"')[0] for line in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])
