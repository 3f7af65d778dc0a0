"""The HTTP routes: each is a body, an answer, whose key it wants, and a few lines between them and the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from data.contract import TABLES
from data.errors import StateUnavailableError
from data.state import keys
from data.state.arrivals import Refusal, sort_events
from data.state.rows import RowRefusedError, fit, refuse_future
from data.state.schema import UPSERTED
from data.state.writes import append, upsert
from serving.schemas import (
    ActionsAnswer,
    ActionsAsk,
    Answer,
    Ask,
    EventsAnswer,
    EventsAsk,
    RecommendAnswer,
    RecommendAsk,
    Refused,
    ScoreAnswer,
    ScoreAsk,
    SimilarAnswer,
    SimilarAsk,
    TablesAnswer,
    TablesAsk,
)

if TYPE_CHECKING:
    from serving.app import Service

log = logging.getLogger("attune")

DECISION_PATIENCE_SECONDS = 0.25


@dataclass(frozen=True)
class RouteSpec:
    """One route of the contract.

    Attributes:
        path: Where it is.
        ask: Its body.
        answer: What it says.
        role: Whose key it wants.
        run: Answers, given the request's id.
    """

    path: str
    ask: type[Ask]
    answer: type[Answer]
    role: keys.Role
    run: Callable[[Service, Any, str], Awaitable[Answer]]


async def _recommend(service: Service, ask: RecommendAsk, request_id: str) -> RecommendAnswer:
    found = await service.in_thread(service.ready.recommend, ask)
    decision_id = found.decision["decision_id"] if await _stored(service, [found.decision]) else None
    return RecommendAnswer(
        request_id=request_id,
        model_version=found.model_version,
        decision_id=decision_id,
        degraded=found.degraded or decision_id is None,
        items=found.items,
        note=found.note,
    )


async def _stored(service: Service, decisions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the decisions are stored; what is not is no evidence."""
    # Not flushed: an answer must not wait for the disk, and a power cut takes the last moments of decisions at most.
    storing = service.writer.write(lambda connection: append(connection, "decisions", decisions), flush=False)
    try:
        await asyncio.wait_for(storing, DECISION_PATIENCE_SECONDS)
    except (StateUnavailableError, TimeoutError) as error:
        log.warning("decisions could not be stored: %s", str(error) or "the state did not take them in time")
        service.metrics.decisions_lost.inc(len(decisions))
        return False
    return True


async def _similar(service: Service, ask: SimilarAsk, request_id: str) -> SimilarAnswer:
    found = await service.in_thread(service.ready.similar, ask)
    return SimilarAnswer(
        request_id=request_id, model_version=found.model_version, degraded=found.degraded, items=found.items
    )


async def _score(service: Service, ask: ScoreAsk, request_id: str) -> ScoreAnswer:
    found = await service.in_thread(service.ready.score, ask)
    if found.decisions and not await _stored(service, found.decisions):
        for user in found.users:
            if user.send_time is not None:
                user.send_time.decision_id = None
    return ScoreAnswer(
        request_id=request_id, model_version=found.model_version, users=found.users, warnings=found.warnings
    )


async def _actions(service: Service, ask: ActionsAsk, request_id: str) -> ActionsAnswer:
    """Stored before it is answered: what nobody knows to be handed out would be handed out again."""
    engine = service.ready
    for _ in range(2):  # where another worker was quicker, what it stored is the answer
        [found] = await service.in_thread(lambda: engine.act([ask.user_id], now=datetime.now(UTC), channel=ask.channel))
        if await service.writer.write(found.store):
            break
    else:
        raise StateUnavailableError("This action is being handed out to another asker; try again shortly.")
    return ActionsAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        actions=[] if found.action is None else [found.action],
        held_back=list(found.held_back),
        waiting=list(found.waiting),
        note=found.note,
    )


async def _events(service: Service, ask: EventsAsk, request_id: str) -> EventsAnswer:
    engine = service.ready
    arrivals = sort_events(
        ask.events, now=datetime.now(UTC), max_clock_skew_minutes=engine.settings.data.max_clock_skew_minutes
    )
    accepted = await service.writer.write(arrivals.store) if arrivals.events else 0
    return EventsAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        accepted=accepted,
        duplicates=len(arrivals.events) - accepted,
        refused=[_refused("events", refusal) for refusal in arrivals.refused],
    )


async def _tables(service: Service, ask: TablesAsk, request_id: str) -> TablesAnswer:
    engine = service.ready
    now = datetime.now(UTC)
    latest = now + timedelta(minutes=engine.settings.data.max_clock_skew_minutes)
    rows: dict[str, list[dict[str, Any]]] = {}
    refused: list[Refused] = []
    for name in UPSERTED:
        for position, row in enumerate(getattr(ask, name)):
            try:
                fitted = fit(TABLES[name], row)
                refuse_future(TABLES[name], fitted, latest)
                rows.setdefault(name, []).append(fitted)
            except RowRefusedError as error:
                row_id = row.get(TABLES[name].key[0])
                shown = row_id[:512] if isinstance(row_id, str) else None
                refused.append(_refused(name, Refusal(position, shown, error.field, error.reason)))
    upserted = await service.writer.write(
        lambda connection: {name: upsert(connection, name, found, at=now) for name, found in rows.items()}
    )
    return TablesAnswer(request_id=request_id, model_version=engine.view.version, upserted=upserted, refused=refused)


def _refused(table: str, refusal: Refusal) -> Refused:
    return Refused(
        table=table, position=refusal.position, id=refusal.row_id, field=refusal.field, message=refusal.message
    )


ROUTES = (
    RouteSpec("/v1/recommend", RecommendAsk, RecommendAnswer, "app", _recommend),
    RouteSpec("/v1/similar", SimilarAsk, SimilarAnswer, "app", _similar),
    RouteSpec("/v1/score", ScoreAsk, ScoreAnswer, "app", _score),
    RouteSpec("/v1/actions", ActionsAsk, ActionsAnswer, "app", _actions),
    RouteSpec("/v1/events", EventsAsk, EventsAnswer, "app", _events),
    RouteSpec("/v1/tables", TablesAsk, TablesAnswer, "admin", _tables),
)
"""Every route that wants a key."""
