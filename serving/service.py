"""The BentoML service: the ASGI application of one workspace, with BentoML's own extras that cost time turned off.

`bentoml serve serving.service:Attune` reads the workspace's folder from `ATTUNE_WORKSPACE`, because BentoML imports
this file in a process of its own; `attune serve` sets it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from data.workspace import Workspace
from serving.app import create_app

logging.basicConfig(format="%(asctime)s %(message)s")
logging.getLogger("attune").setLevel(logging.INFO)

workspace = Workspace(Path(os.environ.get("ATTUNE_WORKSPACE", "workspace")))
app = create_app(workspace)


class EveryRoute:
    """Hands every request to our application before BentoML's router sees it.

    BentoML's own `/healthz`, `/readyz` and 404 know nothing of loading and have another shape; the mount below
    is what starts and stops the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.bentoml = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (app if scope["type"] == "http" else self.bentoml)(scope, receive, send)


@bentoml.service(
    name="attune",
    workers=1,  # the champion, the histories and the writer live once; more machines rather than more workers
    # BentoML keeps a request's objects until its timer rings: let it ring soon after our own.
    traffic={"timeout": workspace.settings.serving.timeout_seconds + 1},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
@bentoml.asgi_app(app, path="/")
class Attune:
    """Everything is in the application."""


service: Any = Attune
service.add_asgi_middleware(EveryRoute)
