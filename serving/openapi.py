"""The OpenAPI document, made from the routes and their schemas: what an app's generator or a reader needs."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.schemas import Answer, Ask, ErrorAnswer, Status

REF = "#/components/schemas/{model}"
ABOUT = """\
What to show, offer and send to each person, and what the shop tells of them. Every error has one shape, and every
answer names its request in the header X-Request-ID. Rows have ids: sending them twice changes nothing.
"""
CHOOSE, TELL, PEOPLE, TABLES, WATCH = "choose", "tell", "people", "tables", "watch"
TAGS = {
    CHOOSE: "What to show, offer and send; what is expected of people.",
    TELL: "What happened, and what came of decisions.",
    PEOPLE: "What people chose themselves, what is known of them, and their erasure.",
    TABLES: "The catalogue and the customers.",
    WATCH: "For operators and load balancers. Needs no key.",
}
TAG_OF = {
    "/v1/events": TELL,
    "/v1/outcomes": TELL,
    "/v1/consents": PEOPLE,
    "/v1/preferences": PEOPLE,
    "/v1/explain": PEOPLE,
    "/v1/erase": PEOPLE,
    "/v1/tables": TABLES,
}
"""Of every route that does not choose."""
ERRORS = {
    400: "malformed: `details` names the fields",
    401: "unauthorized: no key that is in force",
    403: "forbidden: this needs a key with the role admin",
    404: "not_found: nobody knows the item",
    413: "too_large: send less at once",
    415: "unsupported_media_type: the body is not application/json, or compressed",
    429: "too_many: the requests of this minute are used up; send it again after Retry-After seconds",
    500: "internal: a fault of the service, whose log tells of the request",
    503: "not_ready, state_unavailable or timeout: send it again after Retry-After seconds",
}
FURTHER = {"/v1/similar": (404,)}
"""Errors of single routes, beside those that any may give."""
HEADERS = {"X-Request-ID": {"description": "names the request in the log", "schema": {"type": "string"}}}
RETRY = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}


class Described(Protocol):
    """A route, as far as its description goes."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def ask(self) -> type[Ask]: ...  # noqa: D102
    @property
    def answer(self) -> type[Answer]: ...  # noqa: D102
    @property
    def role(self) -> str: ...  # noqa: D102


@lru_cache(maxsize=1)
def document(routes: tuple[Described, ...]) -> str:
    """OpenAPI 3.1 as JSON; made once, for who asks needs no key."""
    answers: list[type[BaseModel]] = [*(route.answer for route in routes), ErrorAnswer, Status]
    refs, definitions = models_json_schema(
        [*((route.ask, "validation") for route in routes), *((answer, "serialization") for answer in answers)],
        ref_template=REF,
    )
    error = refs[ErrorAnswer, "serialization"]
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "a key of `attune keys create`"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same in its own header"},
    }
    paths = {
        route.path: {
            "post": {
                "operationId": route.path.rpartition("/")[2],
                "tags": [TAG_OF.get(route.path, CHOOSE)],
                **_told(route),
                "requestBody": {
                    "required": True,
                    "content": _json(refs[route.ask, "validation"], examples=_examples(route.ask)),
                },
                "responses": {
                    "200": _answer(route.answer.__doc__ or "", refs[route.answer, "serialization"]),
                    **{str(status): _error(status, error) for status in statuses(route)},
                },
                "security": [{"bearer": []}, {"header": []}],
            }
        }
        for route in routes
    }
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Attune",
                "version": "1",
                "description": ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
            "paths": paths | _watching(refs[Status, "serialization"], error),
            "components": {"schemas": definitions["$defs"], "securitySchemes": schemes},
        }
    )


def statuses(route: Described) -> list[int]:
    """The errors that a route may give.

    Example:
        >>> from serving.routes import ROUTES
        >>> statuses(ROUTES[0])
        [400, 401, 413, 415, 429, 500, 503]
    """
    further = (*FURTHER.get(route.path, ()), *([403] if route.role == "admin" else []))
    return sorted({*ERRORS} - {403, 404} | {*further})


def _told(route: Described) -> dict[str, str]:
    """The schema's own words: the first line, and what follows it."""
    summary, _, description = (route.ask.__doc__ or "").partition("\n")
    role = "Needs a key with the role admin." if route.role == "admin" else ""
    further = " ".join([*description.split(), role]).strip()
    return {"summary": summary} | ({"description": further} if further else {})


def _examples(ask: type[Ask]) -> dict[str, Any]:
    extra = ask.model_config.get("json_schema_extra")
    found = extra.get("examples") if isinstance(extra, dict) else None
    return {f"example {number}": {"value": value} for number, value in enumerate(found, 1)} if found else {}  # type: ignore[arg-type]


def _watching(status: Any, error: Any) -> dict[str, Any]:
    """The routes without a key."""
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    anything = {"application/json": {"schema": {"type": "object"}}}
    about: dict[str, tuple[str, str, dict[str, Any]]] = {
        "/healthz": ("Whether the process lives.", "It does.", {"content": anything}),
        "/readyz": ("What is in force, and what is amiss.", "Requests are answered.", {"content": _json(status)}),
        "/metrics": ("Counts and times for Prometheus.", "Prometheus text.", text),
        "/docs.json": ("This document.", "OpenAPI 3.1.", {"content": anything}),
    }
    found: dict[str, Any] = {
        path: {
            "get": {
                "operationId": path.strip("/").partition(".")[0],
                "tags": [WATCH],
                "summary": summary,
                "responses": {"200": {"description": description, **answer}},
                "security": [],
            }
        }
        for path, (summary, description, answer) in about.items()
    }
    found["/readyz"]["get"]["responses"]["503"] = _error(503, error)
    return found


def _answer(about: str, schema: Any) -> dict[str, Any]:
    return {"description": about, "headers": HEADERS, "content": _json(schema)}


def _error(status: int, schema: Any) -> dict[str, Any]:
    return {**_answer(ERRORS[status], schema), "headers": HEADERS | (RETRY if status in (429, 503) else {})}


def _json(schema: Any, *, examples: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema} | ({"examples": examples} if examples else {})}
