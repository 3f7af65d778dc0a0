"""A BentoML service that is as lean as one can be: it says the same bytes to everybody. Run by `benchmarks/serve.py`.

With what is known to make BentoML quick: uvloop and httptools, an `async` handler that gives Starlette's response, no
input to be read, no metrics, no tracing, no access log, and a short timer for each request.
"""

import os
from pathlib import Path
from typing import Any

import bentoml
from starlette.responses import Response

ANSWERS = Path(os.environ["ANSWERS"])
RECOMMEND, OFFERS = ((ANSWERS / f"{name}.json").read_bytes() for name in ("recommend", "offers"))


@bentoml.service(
    workers=1,
    traffic={"timeout": 3},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Lean:
    """As many routes as are compared. BentoML knows no `Response` as an annotation, but hands one on."""

    @bentoml.api(route="/v1/recommend")
    async def recommend(self) -> Any:
        """Always the same items."""
        return Response(RECOMMEND, media_type="application/json")

    @bentoml.api(route="/v1/offers")
    async def offers(self) -> Any:
        """Always the same offer."""
        return Response(OFFERS, media_type="application/json")
