"""The client of the service for apps, waiting (`Client`) or awaited (`AsyncClient`). Needs httpx and pydantic alone."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from serving.schemas import (
    ActionsAnswer,
    ActionsAsk,
    Answer,
    Ask,
    ConsentsAnswer,
    ConsentsAsk,
    DecideAnswer,
    DecideAsk,
    EraseAnswer,
    EraseAsk,
    ErrorAnswer,
    ErrorBody,
    EventsAnswer,
    EventsAsk,
    ExplainAnswer,
    ExplainAsk,
    OffersAnswer,
    OffersAsk,
    OutcomesAnswer,
    OutcomesAsk,
    PreferencesAnswer,
    PreferencesAsk,
    RecommendAnswer,
    RecommendAsk,
    ScoreAnswer,
    ScoreAsk,
    SimilarAnswer,
    SimilarAsk,
    TablesAnswer,
    TablesAsk,
    VariantsAnswer,
    VariantsAsk,
    malformed,
)

P = ParamSpec("P")
A = TypeVar("A", bound=Answer)

URL = "http://127.0.0.1:3000"
TRY_AGAIN = (429, 503)
"""Statuses after which to ask again, in as many seconds as they say; what was stored is not stored twice."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
LOST = (*NOT_SENT, httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
"""After these nobody knows whether the service did what it was asked."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 10.0


class ServiceError(Exception):
    """The service refused, or there was no answer.

    Attributes:
        code: What is wrong, as `docs/http.md` lists it; `unreachable` or `unreadable` where no answer of ours came.
        message: The same for a person.
        details: The fields that are wrong.
        status: HTTP's; None where there was no answer, or the client itself found the fields wrong.
        request_id: What the service's log calls the request.
    """

    def __init__(self, error: ErrorBody, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.code = error.code
        self.message = error.message
        self.details = error.details
        self.status = status
        self.request_id = request_id


class Route(Generic[P, A]):
    """A route as a method of a client: takes the fields of what is asked as keyword arguments, and gives the answer.

    Attributes:
        path: Where it is.
        ask: What is sent.
        answer: What comes back.
        repeatable: Whether doing it twice is as good as once, so that it is sent again when an answer was lost.
    """

    def __init__(self, path: str, ask: Callable[P, Ask], answer: type[A], *, repeatable: bool = True) -> None:
        self.path = path
        self.ask: Callable[..., Ask] = ask
        self.answer = answer
        self.repeatable = repeatable
        self.__doc__ = ask.__doc__

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, A]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[A]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        """The route itself from a class, a function that asks from a client."""
        if client is None:
            return self

        def ask(**fields: Any) -> Any:
            return client.send(self, self.body(fields))

        ask.__doc__ = self.__doc__
        ask.__signature__ = inspect.signature(self.ask)  # type: ignore[attr-defined] # what `help` shows
        return ask

    def body(self, fields: dict[str, Any]) -> str:
        """JSON of what was given; the rest is left to the service.

        Raises:
            ServiceError: the service would refuse the fields, or one is nothing that JSON has.
        """
        try:
            return self.ask(**fields).model_dump_json(exclude_unset=True)
        except ValidationError as error:
            wrong = malformed(error, inspect.signature(self.ask).parameters)
        except PydanticSerializationError as error:
            wrong = ErrorBody(code="malformed", message=f"{error}; send text, numbers, truths, times, lists and dicts.")
        raise ServiceError(wrong)

    def read(self, answer: httpx.Response) -> A:
        """What the service said.

        Raises:
            ServiceError: it refused, or said what this client cannot read.
        """
        told = {"status": answer.status_code, "request_id": answer.headers.get("x-request-id")}
        try:
            if answer.is_success:
                return self.answer.model_validate_json(answer.content)
            error = ErrorAnswer.model_validate_json(answer.content).error
        except ValidationError:
            error = ErrorBody(code="unreadable", message=f"HTTP {answer.status_code}, not in the service's words.")
        raise ServiceError(error, **told)

    def wait_seconds(self, answer: httpx.Response | httpx.RequestError, attempt: int) -> float | None:
        """How long to wait before asking again; None if asking again is of no use, or would do something twice."""
        backoff = FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - so that not all come at once
        if isinstance(answer, httpx.Response):
            asked = answer.headers.get("retry-after", "")
            patience = float(asked) if asked.isdecimal() else backoff
            return patience if answer.status_code in TRY_AGAIN and patience <= LONGEST_WAIT_SECONDS else None
        return backoff if isinstance(answer, LOST if self.repeatable else NOT_SENT) else None


class Routes:
    """The routes, for both clients.

    A lost answer is asked for again where that changes nothing: rows of events, outcomes and tables have their own ids,
    a person's own choice holds whether told once or twice, and a decision that got lost is evidence of nothing, for no
    outcome names it. It is not where asking is taking: an action whose answer got lost would come with `again: true`,
    and whoever skips those would never send it.
    """

    recommend = Route("/v1/recommend", RecommendAsk, RecommendAnswer)
    similar = Route("/v1/similar", SimilarAsk, SimilarAnswer)
    score = Route("/v1/score", ScoreAsk, ScoreAnswer)
    offers = Route("/v1/offers", OffersAsk, OffersAnswer)
    variants = Route("/v1/variants", VariantsAsk, VariantsAnswer)
    decide = Route("/v1/decide", DecideAsk, DecideAnswer)
    actions = Route("/v1/actions", ActionsAsk, ActionsAnswer, repeatable=False)
    events = Route("/v1/events", EventsAsk, EventsAnswer)
    outcomes = Route("/v1/outcomes", OutcomesAsk, OutcomesAnswer)
    consents = Route("/v1/consents", ConsentsAsk, ConsentsAnswer)
    preferences = Route("/v1/preferences", PreferencesAsk, PreferencesAnswer)
    tables = Route("/v1/tables", TablesAsk, TablesAnswer)
    explain = Route("/v1/explain", ExplainAsk, ExplainAnswer)
    erase = Route("/v1/erase", EraseAsk, EraseAnswer)


class Client(Routes):
    """Asks the service and waits for it. Threads may share one; connections are kept open until it is closed.

    What the service cannot do just now (503, 429), and what got lost on the way, is asked again, see `Routes`.

    Example:
        >>> said = {"request_id": "9f", "model_version": "als 3", "decision_id": "18", "degraded": False, "items": []}
        >>> service = httpx.MockTransport(lambda request: httpx.Response(200, json=said))
        >>> with Client("http://127.0.0.1:3000", key="attune_...", transport=service) as client:
        ...     client.recommend(user_id="17850", k=3).decision_id
        '18'
    """

    def __init__(
        self,
        url: str = URL,
        *,
        key: str = "",
        timeout_seconds: float = 5.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: Of the service.
            key: As `attune keys create` gave it.
            timeout_seconds: Of one attempt.
            retries: So often at most something is asked again.
            transport: What sends; httpx's own if left out.

        Raises:
            ServiceError: this cannot be a key.
        """
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=timeout_seconds, transport=transport)
        self._retries = retries

    def send(self, route: Route[P, A], body: str) -> A:
        """Send a body and read the answer.

        Raises:
            ServiceError: the service refused, or there was no answer.
        """
        for attempt in range(self._retries + 1):
            try:
                answer: httpx.Response | httpx.RequestError = self._http.post(route.path, content=body)
            except httpx.RequestError as error:
                answer = error
            wait = route.wait_seconds(answer, attempt)
            if wait is None or attempt == self._retries:
                break
            time.sleep(wait)
        return _read(route, answer)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Routes):
    """As `Client`, for an event loop: every method is awaited.

    Example:
        >>> service = httpx.MockTransport(lambda request: httpx.Response(503, headers={"Retry-After": "60"}))
        >>> async def similar() -> str:
        ...     async with AsyncClient(transport=service) as client:
        ...         try:
        ...             return str(await client.similar(item_id="85123A"))
        ...         except ServiceError as error:
        ...             return str(error)
        >>> asyncio.run(similar())
        "unreadable: HTTP 503, not in the service's words."
    """

    def __init__(
        self,
        url: str = URL,
        *,
        key: str = "",
        timeout_seconds: float = 5.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `Client`'s."""
        self._http = httpx.AsyncClient(
            base_url=url, headers=_headers(key), timeout=timeout_seconds, transport=transport
        )
        self._retries = retries

    async def send(self, route: Route[P, A], body: str) -> A:
        """Send a body and read the answer.

        Raises:
            ServiceError: the service refused, or there was no answer.
        """
        for attempt in range(self._retries + 1):
            try:
                answer: httpx.Response | httpx.RequestError = await self._http.post(route.path, content=body)
            except httpx.RequestError as error:
                answer = error
            wait = route.wait_seconds(answer, attempt)
            if wait is None or attempt == self._retries:
                break
            await asyncio.sleep(wait)
        return _read(route, answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _headers(key: str) -> dict[str, str]:
    key = key.strip()  # read from a file it ends with a line
    if not (key.isascii() and key.isprintable()):  # httpx would tell the key in its error
        raise ServiceError(ErrorBody(code="malformed", message="key: holds what no key of `attune keys create` holds."))
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _read(route: Route[P, A], answer: httpx.Response | httpx.RequestError) -> A:
    if isinstance(answer, httpx.Response):
        return route.read(answer)
    told = f"No answer from the service: {answer or type(answer).__name__}."
    lost = isinstance(answer, httpx.TransportError)  # else it came, packed in a way that it is not
    error = ErrorBody(code="unreachable" if lost else "unreadable", message=told)
    raise ServiceError(error) from answer
