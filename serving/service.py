"""The BentoML service: runs the ASGI application of one workspace, with what costs time and gives nothing turned off.

`bentoml serve serving.service:Attune` reads the workspace's folder from `ATTUNE_WORKSPACE`, because BentoML imports
this file in processes of its own; `attune serve` sets it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import bentoml
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from data.settings import Settings

LOOK_SECONDS = 1.0
WORKSPACE = Path(os.environ.get("ATTUNE_WORKSPACE", "workspace"))


class EveryRoute:
    """Hands every request to our application before BentoML's router sees it.

    BentoML's own `/healthz`, `/readyz` and 404 know nothing of loading and have another shape.
    """

    application: ClassVar[Starlette]

    def __init__(self, app: ASGIApp) -> None:
        self.bentoml = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (self.application if scope["type"] == "http" else self.bentoml)(scope, receive, send)


async def _end_without(supervisor: int) -> None:
    """End this worker once its supervisor is gone: after a `kill -9` nobody else would, and it would keep the port."""
    while os.getppid() == supervisor:
        await asyncio.sleep(LOOK_SECONDS)
    logging.getLogger("attune").warning("the supervisor is gone, so this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)


@bentoml.service(
    name="attune",
    workers=1,  # the champion, the histories and the writer live once; more machines rather than more workers
    # BentoML keeps a request's objects until its timer rings: let it ring soon after our own.
    traffic={"timeout": Settings.load(WORKSPACE / "attune.toml").serving.timeout_seconds + 1},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class Attune:
    """Starts and stops the application."""

    def __init__(self) -> None:
        self._running = AsyncExitStack()

    @bentoml.on_startup
    async def start(self) -> None:
        """In the worker only, so that BentoML's supervisor need not import what answers."""
        from data.workspace import Workspace  # noqa: PLC0415
        from serving.app import create_app  # noqa: PLC0415

        self._running.callback(asyncio.create_task(_end_without(os.getppid())).cancel)
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("attune").setLevel(logging.INFO)
        app = create_app(Workspace(WORKSPACE), address=os.environ.get("ATTUNE_ADDRESS", "the address above"))
        await self._running.enter_async_context(app.router.lifespan_context(app))
        EveryRoute.application = app

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Store what is waiting."""
        await self._running.aclose()


service: Any = Attune
service.add_asgi_middleware(EveryRoute)
