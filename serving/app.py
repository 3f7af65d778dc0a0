"""The service over HTTP: keys, sizes, bodies and errors in one place; what is answered comes from `routes`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from data import erasing
from data.errors import AttuneError, StateUnavailableError
from data.state import keys
from data.state.tombstones import Tombstones, stranger
from data.workspace import Workspace
from serving.contacting import Acted
from serving.engine import Engine, Recommended
from serving.gathering import Gathering
from serving.limits import RateLimit, TooManyError
from serving.metrics import Metrics
from serving.offered import Offered
from serving.openapi import document
from serving.recommending import FieldError, UnknownItemError
from serving.routes import ROUTES, RouteSpec, give_offers, hand_out, log_decisions
from serving.schemas import (
    ActionsAsk,
    Ask,
    ErrorAnswer,
    ErrorBody,
    ErrorDetail,
    OffersAsk,
    RecommendAsk,
    VariantsAsk,
    malformed,
)
from serving.varying import Varied
from serving.writer import Writer

log = logging.getLogger("attune")
A = TypeVar("A")
T = TypeVar("T")

THREADS = 4
REFRESH_SECONDS = 0.5
CHECKPOINT_SECONDS = 1.0
CLEAR_SECONDS = 60.0
"""How often it is looked whether files are still to be cleared of somebody who was erased."""
CODE = Path(__file__).resolve().parents[1]
RETRY_AFTER_SECONDS = 1
REQUEST_ID = "X-Request-ID"
JSON, PLAIN = b"application/json", b"identity"
MOST_TOLD = 200
"""Characters of what was sent that an error tells."""
AWAY = "The live state cannot be used now; try again shortly. The log tells why."
"""What a database says of its trouble names files and hosts: it is for the log alone."""


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: HTTP's.
        body: What is told.
    """

    def __init__(self, status: int, code: str, message: str, details: Sequence[ErrorDetail] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorAnswer(error=ErrorBody(code=code, message=message, details=list(details)))


class Service:
    """What the routes share.

    Attributes:
        engine: None until it is loaded.
        limit: How many requests a key may make; None until it is loaded, or where any number.
        metrics: What operators watch.
        items: Answers who asks for items, those who ask at once together.
        offers: Answers who asks for offers.
        variants: Answers who asks for a variant.
        actions: Answers who asks what is due.
        explaining: A thread for explanations alone: of a person with a very long history one takes longer than its
            request, and is to hold no other's thread.
    """

    def __init__(self, workspace: Workspace, address: str) -> None:
        self.workspace = workspace
        self.address = address
        self.settings = workspace.settings.serving
        self.metrics = Metrics()
        self.engine: Engine | None = None
        self.limit: RateLimit | None = None
        self.trouble = "The service is still loading."
        self.items: Gathering[RecommendAsk, Recommended, tuple[Recommended, bool]] = Gathering(
            partial(self._decided, Engine.recommend_each), partial(log_decisions, self)
        )
        self.offers: Gathering[OffersAsk, Offered, tuple[Offered, bool]] = Gathering(
            partial(self._decided, Engine.offers_each), partial(give_offers, self)
        )
        self.variants: Gathering[VariantsAsk, Varied, tuple[Varied, bool]] = Gathering(
            partial(self._decided, Engine.variants_each), partial(log_decisions, self)
        )
        self.actions: Gathering[ActionsAsk, Acted, Acted | None] = Gathering(
            partial(self._decided, Engine.act_each), partial(hand_out, self)
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="attune")
        self.explaining = ThreadPoolExecutor(1, thread_name_prefix="attune-explain")
        self._writer: Writer | None = None
        self._background: list[asyncio.Task[None]] = []
        self._clearing = asyncio.Lock()

    @property
    def writer(self) -> Writer:
        """Stores what requests bring."""
        if self._writer is None:
            raise not_ready(self.trouble)
        return self._writer

    @property
    def ready(self) -> Engine:
        """The loaded engine.

        Raises:
            RequestError: it is not loaded yet.
        """
        if self.engine is None:
            raise not_ready(self.trouble)
        return self.engine

    def _decided(self, decide: Callable[[Engine, list[A]], Sequence[T]], asks: list[A]) -> Sequence[T]:
        return decide(self.ready, asks)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run what blocks, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _commit(self, job: Callable[[sa.Connection], T]) -> T:
        """Run what need not survive a power cut in a transaction, off the event loop."""
        return await self.in_thread(partial(self.writer.commit, job, flush=False))

    async def start(self) -> None:
        """Load in the background, then keep up with the state and the registry."""
        self._background.append(asyncio.create_task(self._load()))

    async def stop(self) -> None:
        """Stop the background work and store what is waiting."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for gathering in (self.items, self.offers, self.variants, self.actions):
            gathering.close()
        if self._writer is not None:
            self._writer.close()
        self.explaining.shutdown(cancel_futures=True)
        self._threads.shutdown()
        if self.engine is not None:
            self.engine.state.close()

    async def _load(self) -> None:
        while self.engine is None:
            try:
                engine = await self.in_thread(Engine, self.workspace)
                await self.in_thread(engine.load)
                self._writer = Writer(engine.state)
                if engine.state.is_file:
                    self.items.at_once = self.variants.at_once = partial(log_decisions, self, wait=False)
                    self.offers.at_once = partial(give_offers, self, wait=False)
                if per_minute := self.settings.requests_per_minute:
                    self.limit = RateLimit(per_minute, self._commit)
                gc.collect()
                gc.freeze()  # what was loaded stays; the collector need not look at it again
                self.engine = engine
                log.info("Attune serves %s at %s (Ctrl-C stops it)", self.workspace.path, self.address)
            except Exception as error:  # tried again: a state that is locked now may be free soon
                self.trouble = f"The service cannot load: {self._outside(error)}"
                log.exception("cannot load; trying again")
                await asyncio.sleep(self.settings.poll_seconds)
        engine = self.engine
        self._background += [
            asyncio.create_task(self._every(REFRESH_SECONDS, engine.refresh_access)),
            asyncio.create_task(self._forget()),
            asyncio.create_task(self._every(REFRESH_SECONDS, engine.refresh)),
            asyncio.create_task(self._every(REFRESH_SECONDS, engine.refresh_profiles)),
            asyncio.create_task(self._every(CHECKPOINT_SECONDS, engine.state.checkpoint)),
            asyncio.create_task(self._every(self.settings.poll_seconds, engine.refresh_models)),
        ]

    def _outside(self, error: Exception) -> str:
        """An error in words for those who have no key."""
        told = AWAY if isinstance(error, StateUnavailableError) else str(error)
        return told.replace(str(self.workspace.path), self.workspace.path.name)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the requests; it ends with the service at the latest."""
        self._background = [task for task in self._background if not task.done()]
        self._background.append(asyncio.create_task(work))

    async def clear_files(self) -> None:
        """Clear the files of everybody who left the state, in a process of its own: requests are not to wait for it."""
        async with self._clearing:
            if await self.in_thread(erasing.pending, self.ready.state):
                command = (sys.executable, "-m", erasing.__name__, str(self.workspace.path.resolve()))
                process = await asyncio.create_subprocess_exec(*command, cwd=CODE)
                if await process.wait():
                    log.error("the files of somebody who was erased could not be cleared; will be tried again")

    async def _forget(self) -> None:
        """Go on with what an earlier run left, then look at times."""
        while True:
            try:
                await self.clear_files()
            except AttuneError as error:
                log.warning("files will be cleared later: %s", error)
            await asyncio.sleep(CLEAR_SECONDS)

    async def _every(self, seconds: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.in_thread(work)
            except AttuneError as error:
                log.warning("%s failed, will be tried again: %s", work.__name__, error)
            except Exception:
                log.exception("%s failed, will be tried again", work.__name__)
            if self.engine is not None:
                self.metrics.observe_champions(self.engine.champions)


Endpoint = Callable[[Request], Awaitable[Response]]


class Application(Starlette):
    """Starlette, but for what is asked most: its layers and its search for the route cost as much as all else of HTTP.

    Args:
        posts: By path, what answers a POST; it tells every error itself.
        options: Of Starlette.
    """

    def __init__(self, posts: Mapping[str, Endpoint], **options: Any) -> None:
        super().__init__(**options)
        self._posts = posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        posted = scope["type"] == "http" and scope["method"] == "POST"
        if (endpoint := self._posts.get(scope["path"]) if posted else None) is None:
            await super().__call__(scope, receive, send)
        else:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)


def create_app(workspace: Workspace, *, address: str = "this process") -> Starlette:
    """The service of one workspace as an ASGI application.

    Args:
        workspace: The shop's folder.
        address: Where it is to be reached, told in the log once requests are answered.
    """
    service = Service(workspace, address)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        await service.start()
        yield
        await service.stop()

    posts = {spec.path: _endpoint(service, spec) for spec in ROUTES}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
    routes += [
        Route("/healthz", _healthz, methods=["GET"]),
        Route("/readyz", _readyz(service), methods=["GET"]),
        Route("/metrics", _metrics(service), methods=["GET"]),
        Route("/docs.json", _docs, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_error}
    app = Application(posts, routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False  # `/v1/events/` is not found, rather than sent on without its key
    app.state.service = service
    return app


def not_ready(message: str) -> RequestError:
    """503: try again later."""
    return RequestError(503, "not_ready", message)


def _endpoint(service: Service, spec: RouteSpec) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        request_id = _new_id()
        try:
            async with asyncio.timeout(service.settings.timeout_seconds):
                headers = dict(request.scope["headers"])  # Starlette's own look through all of them for each
                key_id = _authorise(service, headers, spec.role)
                if service.limit is not None:
                    await service.limit.count(key_id)
                ask = _parsed(spec.ask, await _body(request, headers, service.settings.max_body_bytes))
                if service.engine is not None and not spec.of_erased:
                    ask = _as_strangers(ask, service.engine.state.tombstones)
                answer = await spec.run(service, ask, request_id)
            response = Response(answer.model_dump_json(), 200, {REQUEST_ID: request_id}, "application/json")
        except Exception as error:  # noqa: BLE001 - every error leaves in the one shape
            response = _error_response(error, spec.path, request_id)
        service.metrics.observe(spec.path, response.status_code, time.perf_counter() - started)
        return response

    return endpoint


def _new_id() -> str:
    return secrets.token_hex(8)


Headers = Mapping[bytes, bytes]


def _authorise(service: Service, headers: Headers, role: keys.Role) -> str:
    """The id of the key that was sent; empty where none is asked for."""
    if not service.settings.require_keys:
        return ""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        key = headers.get(b"x-api-key", b"").decode("latin-1")
    has = keys.role_of(key.strip(), service.ready.api_keys)
    if has is None:
        hint = "Send `Authorization: Bearer KEY`; `attune keys create --role app` makes a key."
        raise RequestError(401, "unauthorized", f"{'The key is not in force' if key else 'There is no key'}. {hint}")
    if role == "admin" and has != "admin":
        raise RequestError(403, "forbidden", "This needs a key with the role admin; the one sent has the role app.")
    return keys.id_of(key)


async def _body(request: Request, headers: Headers, most: int) -> bytes:
    kind = headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
    if kind != JSON:
        told = kind.decode("latin-1")[:MOST_TOLD]
        raise RequestError(415, "unsupported_media_type", f"The body is {told!r}; send application/json.")
    if (encoded := headers.get(b"content-encoding", PLAIN)) != PLAIN:
        told = encoded.decode("latin-1")[:MOST_TOLD]
        raise RequestError(415, "unsupported_media_type", f"The body is encoded as {told!r}; send it as it is.")
    too_large = f"The body is larger than {most:,} bytes; send it in parts."
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise RequestError(413, "too_large", too_large)
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > most:
            raise RequestError(413, "too_large", too_large)
    return b"".join(parts)


def _parsed(schema: type[Ask], body: bytes) -> Ask:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        wrong = malformed(error, schema.model_fields)
        raise RequestError(400, wrong.code, wrong.message, wrong.details) from error


def _as_strangers(ask: Ask, tombstones: Tombstones) -> Ask:
    """Whoever was erased is somebody nobody knows, another one each time."""
    named = {name: getattr(ask, name, None) for name in ("user_id", "anonymous_id")} if tombstones else {}
    erased = {name: stranger(_new_id()) for name, id_ in named.items() if tombstones.holds(id_)}
    return ask.model_copy(update=erased) if erased else ask


def _error_response(error: Exception, path: str, request_id: str) -> Response:
    """An error in the one shape; what was not foreseen is logged with its trace, which nobody else sees."""
    headers = {REQUEST_ID: request_id}
    match error:
        case RequestError():
            found = error
        case TooManyError():
            found = RequestError(429, "too_many", str(error))
            headers["Retry-After"] = str(error.retry_after_seconds)
        case FieldError(field=field, reason=reason):
            found = RequestError(400, "malformed", str(error), [ErrorDetail(field=field, message=reason)])
        case UnknownItemError():
            found = RequestError(404, "not_found", str(error), [ErrorDetail(field="item_id", message="is not known")])
        case StateUnavailableError():
            log.warning("%s: %s", path, error)
            found = RequestError(503, "state_unavailable", AWAY if error.__cause__ else str(error))
        case TimeoutError():
            found = RequestError(503, "timeout", "This took too long; try again shortly.")
        case ClientDisconnect():
            found = RequestError(400, "malformed", "The body ended early.")
        case _:
            log.error("%s: request %s failed", path, request_id, exc_info=error)
            found = RequestError(500, "internal", f"This should not have happened; the log tells of {request_id}.")
    if found.status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(found.body.model_dump_json(), found.status, headers, "application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    phrase = HTTPStatus(status).phrase
    told = f"{phrase}: {request.method} {request.url.path[:MOST_TOLD]}. docs/http.md lists the routes."
    response = _error_response(
        RequestError(status, phrase.lower().replace(" ", "_"), told), request.url.path, _new_id()
    )
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _healthz(request: Request) -> Response:  # noqa: ARG001
    return Response('{"status":"alive"}', media_type="application/json")


def _readyz(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(request: Request) -> Response:
        try:
            engine = service.ready
        except RequestError as error:
            return _error_response(error, request.url.path, _new_id())
        return Response(engine.status.model_dump_json(), media_type="application/json")

    return readyz


def _metrics(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:  # noqa: ARG001
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    return metrics


async def _docs(request: Request) -> Response:  # noqa: ARG001
    return Response(document(ROUTES), media_type="application/json")
