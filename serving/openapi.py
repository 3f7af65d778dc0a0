"""The OpenAPI document, made from the schemas: what an app's generator or a reader needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.schemas import Answer, Ask, ErrorAnswer

REF = "#/components/schemas/{model}"
ERRORS = {
    "400": "malformed: `details` names the fields",
    "401": "no key in force",
    "403": "the key has another role",
    "404": "unknown id where one is required",
    "413": "the body is too large",
    "415": "the body is not application/json",
    "503": "not ready, or the state cannot be used; see Retry-After",
}


class Described(Protocol):
    """A route, as far as its description goes."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def ask(self) -> type[Ask]: ...  # noqa: D102
    @property
    def answer(self) -> type[Answer]: ...  # noqa: D102


def document(routes: Sequence[Described]) -> str:
    """OpenAPI 3.1 as JSON."""
    asks = [route.ask for route in routes]
    models: list[type[BaseModel]] = [*asks, *(route.answer for route in routes), ErrorAnswer]
    refs, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    errors: dict[str, Any] = {
        status: {"description": about, "content": _json(refs[ErrorAnswer, "validation"])}
        for status, about in ERRORS.items()
    }
    paths: dict[str, Any] = {
        route.path: {
            "post": {
                "summary": (route.ask.__doc__ or "").split("\n")[0],
                "operationId": route.path.rpartition("/")[2],
                "requestBody": {"required": True, "content": _json(refs[route.ask, "validation"])},
                "responses": {"200": _answer(route.answer, refs[route.answer, "validation"]), **errors},
                "security": [{"bearer": []}, {"header": []}],
            }
        }
        for route in routes
    }
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Attune", "version": "1"},
            "paths": paths,
            "components": {"schemas": definitions["$defs"], "securitySchemes": schemes},
        }
    )


def _answer(model: type[Answer], ref: Any) -> dict[str, Any]:
    return {"description": model.__doc__, "content": _json(ref)}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
