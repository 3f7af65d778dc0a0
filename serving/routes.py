"""The HTTP routes: each is a body, an answer, whose key it wants, and a few lines between them and the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from data import erasing
from data.contract import TABLES
from data.errors import StateUnavailableError
from data.settings import Features
from data.state import keys
from data.state.answers import append_consents, sort_outcomes
from data.state.arrivals import Refusal, refuse_erased, sort_events
from data.state.rows import RowRefusedError, fit, refuse_times
from data.state.schema import UPSERTED
from data.state.tombstones import ERASED
from data.state.writes import add, upsert
from features.profile import sensitive
from serving import deciding
from serving.channels import channels_of
from serving.choices import consent_rows, consents_of, preference_rows
from serving.contacting import Acted
from serving.decisions.rules import ANY, MARKETING, PERSONALISATION, Person
from serving.explaining import explain
from serving.offered import NotFlushedError, Offered, store_offers
from serving.recommending import FieldError
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
    ReceiptOf,
    RecommendAnswer,
    RecommendAsk,
    Refused,
    RuleAgainst,
    ScoreAnswer,
    ScoreAsk,
    SimilarAnswer,
    SimilarAsk,
    TablesAnswer,
    TablesAsk,
    VariantsAnswer,
    VariantsAsk,
)
from serving.varying import Varied

if TYPE_CHECKING:
    from serving.app import Service
    from serving.engine import Recommended

log = logging.getLogger("attune")
Logged = TypeVar("Logged", "Recommended", "Varied")

PATIENCE_SECONDS = 0.25
"""So long decisions wait for their turn to be stored."""


@dataclass(frozen=True)
class RouteSpec:
    """One route of the contract.

    Attributes:
        path: Where it is.
        ask: Its body.
        answer: What it says.
        role: Whose key it wants.
        run: Answers, given the request's id.
        of_erased: Whether it is told who asks even if they were erased; elsewhere they are strangers.
    """

    path: str
    ask: type[Ask]
    answer: type[Answer]
    role: keys.Role
    run: Callable[[Service, Any, str], Awaitable[Answer]]
    of_erased: bool = False


async def _recommend(service: Service, ask: RecommendAsk, request_id: str) -> RecommendAnswer:
    found, stored = await service.items.answer(ask)
    decision_id = found.decision["decision_id"] if stored else None
    return RecommendAnswer(
        request_id=request_id,
        model_version=found.model_version,
        decision_id=decision_id,
        degraded=found.degraded or decision_id is None,
        items=found.items,
        note=found.note,
    )


def log_decisions(service: Service, found: Sequence[Logged], *, wait: bool = True) -> list[tuple[Logged, bool]]:
    """What was found, and whether its decision could be stored, if it has one.

    Raises:
        StateUnavailableError: it would have to be waited for, and nobody is to wait.
    """
    decisions = [one.decision for one in found if one.decision is not None]
    stored = not decisions or _stored(service, decisions, wait=wait)
    return [(one, stored or one.decision is None) for one in found]


def give_offers(service: Service, offered: Sequence[Offered], *, wait: bool = True) -> list[tuple[Offered, bool]]:
    """The offers that are given once what is limited was counted, and whether that could be stored.

    Raises:
        StateUnavailableError, NotFlushedError: it would have to be waited for, and nobody is to wait.
    """

    def store(*, flush: bool) -> list[Offered]:
        job = partial(store_offers, asked=offered, flushed=flush)
        return service.writer.commit(job, flush=flush, patience_seconds=PATIENCE_SECONDS if wait else 0)

    if not wait:
        return [(one, True) for one in store(flush=False)]
    try:
        try:
            given = store(flush=any(one.gives_limited for one in offered))
        except NotFlushedError:  # what was to be given is used up, and the next best is limited too
            given = store(flush=True)
    except StateUnavailableError as error:
        _lost(service, len(offered), error)
        return [(one.unstored(), False) for one in offered]
    return [(one, True) for one in given]


def _stored(service: Service, decisions: Sequence[Mapping[str, Any]], *, wait: bool = True) -> bool:
    """Whether the decisions are stored; what is not is no evidence."""
    # Not flushed: an answer must not wait for the disk, and a power cut takes the last moments of decisions at most.
    try:
        service.writer.commit(
            lambda connection: add(connection, "decisions", decisions),
            flush=False,
            patience_seconds=PATIENCE_SECONDS if wait else 0,
        )
    except StateUnavailableError as error:
        if not wait:
            raise
        _lost(service, len(decisions), error)
        return False
    return True


def _lost(service: Service, n: int, error: StateUnavailableError) -> None:
    log.warning("decisions could not be stored: %s", error)
    service.metrics.lose(n)


async def _similar(service: Service, ask: SimilarAsk, request_id: str) -> SimilarAnswer:
    found = await service.in_thread(service.ready.similar, ask)
    return SimilarAnswer(
        request_id=request_id, model_version=found.model_version, degraded=found.degraded, items=found.items
    )


async def _score(service: Service, ask: ScoreAsk, request_id: str) -> ScoreAnswer:
    found = await service.in_thread(service.ready.score, ask)
    if found.decisions and not await service.in_thread(_stored, service, found.decisions):
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
        done = await service.actions.answer(ask)
        if done is not None:
            break
    else:
        raise StateUnavailableError("This action is being handed out to another asker; try again shortly.")
    return ActionsAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        actions=[] if done.action is None else [done.action],
        held_back=list(done.held_back),
        waiting=list(done.waiting),
        note=done.note,
    )


def hand_out(service: Service, found: Sequence[Acted]) -> Sequence[Acted | Exception | None]:
    """What is to be done in the end, see `Acted.store`."""
    try:
        return service.writer.commit(lambda connection: [one.store(connection) for one in found], flush=True)
    except StateUnavailableError as error:
        return [error] * len(found)  # of all: none is to be tried alone


async def _offers(service: Service, ask: OffersAsk, request_id: str) -> OffersAnswer:
    """What is limited is counted, and the decision stored, before it is answered."""
    found, stored = await service.offers.answer(ask)
    return OffersAnswer(
        request_id=request_id,
        model_version=found.model_version,
        decision_id=found.decision_id if stored else None,
        degraded=found.degraded or not stored,
        offers=found.items,
        suppressed=found.suppressed,
        note=found.note,
    )


async def _variants(service: Service, ask: VariantsAsk, request_id: str) -> VariantsAnswer:
    found, stored = await service.variants.answer(ask)
    return VariantsAnswer(
        request_id=request_id,
        model_version=found.model_version,
        decision_id=found.decision["decision_id"] if found.decision is not None and stored else None,
        degraded=found.degraded or not stored,
        variants=found.items,
        suppressed=found.suppressed,
        enough=found.enough,
        note=found.note,
    )


async def _decide(service: Service, ask: DecideAsk, request_id: str) -> DecideAnswer:
    engine = service.ready
    begun = await service.in_thread(lambda: deciding.begin(engine, ask, now=datetime.now(UTC)))
    decisions = [begun.refusal] if begun.held_back else [found.decision for found in begun.items]
    decisions += [] if begun.time_row is None else [begun.time_row]
    [(offered, counted)] = (
        [(None, True)] if begun.offered is None else await service.in_thread(give_offers, service, [begun.offered])
    )
    varied: list[Varied] = []
    if not begun.held_back:
        varied = await service.in_thread(deciding.vary, engine, begun, deciding.offer_of(offered))
        decisions += [found.decision for found in varied if found.decision is not None]
    stored = not decisions or await service.in_thread(_stored, service, decisions)
    parts: list[Recommended | Varied | Offered] = [*begun.items, *varied, *([] if offered is None else [offered])]
    versions = [part.model_version for part in parts]
    versions += [] if begun.time_row is None else [begun.time_row["model_version"]]
    return DecideAnswer(
        request_id=request_id,
        model_version=", ".join(dict.fromkeys(versions)) or "rules",
        degraded=not (stored and counted and begun.person.live) or any(part.degraded for part in parts),
        held_back=[RuleAgainst(rule=one.rule, reason=one.reason) for one in begun.held_back],
        offer=None if offered is None else deciding.told_offer(offered, stored=counted),
        variants=deciding.told_variants(begun, varied, stored=stored),
        items=deciding.told_items(begun, stored=stored),
        send_time=deciding.told_time(begun, stored=stored),
    )


async def _events(service: Service, ask: EventsAsk, request_id: str) -> EventsAnswer:
    engine = service.ready
    arrivals = sort_events(
        ask.events,
        now=datetime.now(UTC),
        max_clock_skew_minutes=engine.settings.data.max_clock_skew_minutes,
        erased=engine.state.tombstones.holds,
    )
    accepted = await service.writer.write(arrivals.store) if arrivals.events else 0
    return EventsAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        accepted=accepted,
        duplicates=len(arrivals.events) - accepted,
        refused=[_refused("events", refusal) for refusal in arrivals.refused],
    )


async def _outcomes(service: Service, ask: OutcomesAsk, request_id: str) -> OutcomesAnswer:
    engine = service.ready
    found = sort_outcomes(
        ask.outcomes,
        channels=channels_of(engine.settings),
        now=datetime.now(UTC),
        max_clock_skew_minutes=engine.settings.data.max_clock_skew_minutes,
    )
    stored = await service.writer.write(found.store)
    return OutcomesAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        accepted=stored.accepted,
        duplicates=stored.duplicates,
        refused=[_refused("outcomes", refusal) for refusal in stored.refused],
    )


async def _consents(service: Service, ask: ConsentsAsk, request_id: str) -> ConsentsAnswer:
    _refuse_erased(service, ask)
    engine = service.ready
    settings, own = engine.settings, {action.purpose for action in engine.settings.actions.values()}
    purposes = {MARKETING, PERSONALISATION, *settings.rules.assumed, *own, *channels_of(settings)}
    rows = consent_rows(ask, purposes=purposes, now=datetime.now(UTC), skew=_skew(service))
    if rows:
        await service.writer.write(lambda connection: append_consents(connection, rows))
    person = await _who(service, ask)
    return ConsentsAnswer(
        request_id=request_id,
        model_version=engine.view.version,
        user_id=ask.user_id,
        consents=consents_of(person, engine.settings.rules),
    )


async def _preferences(service: Service, ask: PreferencesAsk, request_id: str) -> PreferencesAnswer:
    _refuse_erased(service, ask)
    channels = channels_of(service.ready.settings)
    rows = preference_rows(ask, channels=channels, now=datetime.now(UTC), skew=_skew(service))
    if rows:
        await service.writer.write(lambda connection: add(connection, "preferences", rows))
    person = await _who(service, ask)
    return PreferencesAnswer(
        request_id=request_id,
        model_version=service.ready.view.version,
        user_id=ask.user_id,
        preferences={name: value for name, value in sorted(person.preferences.items()) if value != ANY},
    )


def _refuse_erased(service: Service, ask: ConsentsAsk | PreferencesAsk) -> None:
    """Nothing is stored of somebody who was erased."""
    if service.ready.state.tombstones.holds(ask.user_id):
        raise FieldError("user_id", ERASED)


def _skew(service: Service) -> timedelta:
    """By how much clocks may disagree."""
    return timedelta(minutes=service.ready.settings.data.max_clock_skew_minutes)


async def _who(service: Service, ask: ConsentsAsk | PreferencesAsk) -> Person:
    """The person as of now.

    Raises:
        StateUnavailableError: what holds cannot be told.
    """
    person = await service.in_thread(lambda: service.ready.people.one(ask.user_id, now=datetime.now(UTC)))
    if not person.live:
        raise StateUnavailableError("What holds cannot be told: the state cannot be read. Ask again shortly.")
    return person


async def _tables(service: Service, ask: TablesAsk, request_id: str) -> TablesAnswer:
    engine = service.ready
    now, skew = datetime.now(UTC), _skew(service)
    rows: dict[str, list[dict[str, Any]]] = {}
    refused: list[Refused] = []
    for name in UPSERTED:
        for position, row in enumerate(getattr(ask, name)):
            try:
                if name == "users":
                    _refuse_hidden(row, service.workspace.settings.features)
                fitted = fit(TABLES[name], row)
                refuse_times(TABLES[name], fitted, now=now, skew=skew)
                refuse_erased(fitted, engine.state.tombstones.holds)
                if name == "variants":
                    engine.varying.refuse_text(fitted["text"])
                rows.setdefault(name, []).append(fitted)
            except RowRefusedError as error:
                shown = None if error.reason == ERASED else row.get(TABLES[name].key[0])
                refused.append(_refused(name, Refusal.of(error, position, shown)))
    upserted = await service.writer.write(
        lambda connection: {name: upsert(connection, name, found, at=now) for name, found in rows.items()}
    )
    return TablesAnswer(request_id=request_id, model_version=engine.view.version, upserted=upserted, refused=refused)


def _refuse_hidden(row: Mapping[str, Any], settings: Features) -> None:
    """Names are stored in lower case, in which the words of `customerGender` cannot be told apart."""
    for name in row:
        word = None if name == name.lower() else sensitive(name, settings)
        if word and not sensitive(name.lower(), settings):
            raise RowRefusedError(
                name[:64], f"is sensitive ({word}), which lower case would hide: write its words with _"
            )


async def _erase(service: Service, ask: EraseAsk, request_id: str) -> EraseAnswer:
    engine = service.ready
    receipt = await service.in_thread(
        lambda: erasing.begin(service.workspace, engine.state, ask.user_id, keep_orders=ask.keep_orders)
    )
    service.spawn(service.clear_files())
    return EraseAnswer(request_id=request_id, model_version=engine.view.version, receipt=ReceiptOf(**asdict(receipt)))


async def _explain(service: Service, ask: ExplainAsk, request_id: str) -> ExplainAnswer:
    engine = service.ready
    found = await asyncio.get_running_loop().run_in_executor(service.explaining, explain, engine, ask.user_id)
    return found.model_copy(update={"request_id": request_id})


def _refused(table: str, refusal: Refusal) -> Refused:
    return Refused(
        table=table, position=refusal.position, id=refusal.row_id, field=refusal.field, message=refusal.message
    )


ROUTES = (
    RouteSpec("/v1/recommend", RecommendAsk, RecommendAnswer, "app", _recommend),
    RouteSpec("/v1/similar", SimilarAsk, SimilarAnswer, "app", _similar),
    RouteSpec("/v1/score", ScoreAsk, ScoreAnswer, "app", _score),
    RouteSpec("/v1/offers", OffersAsk, OffersAnswer, "app", _offers),
    RouteSpec("/v1/variants", VariantsAsk, VariantsAnswer, "app", _variants),
    RouteSpec("/v1/actions", ActionsAsk, ActionsAnswer, "app", _actions),
    RouteSpec("/v1/decide", DecideAsk, DecideAnswer, "app", _decide),
    RouteSpec("/v1/events", EventsAsk, EventsAnswer, "app", _events),
    RouteSpec("/v1/outcomes", OutcomesAsk, OutcomesAnswer, "app", _outcomes),
    RouteSpec("/v1/consents", ConsentsAsk, ConsentsAnswer, "app", _consents, of_erased=True),
    RouteSpec("/v1/preferences", PreferencesAsk, PreferencesAnswer, "app", _preferences, of_erased=True),
    RouteSpec("/v1/tables", TablesAsk, TablesAnswer, "admin", _tables),
    RouteSpec("/v1/explain", ExplainAsk, ExplainAnswer, "app", _explain, of_erased=True),
    RouteSpec("/v1/erase", EraseAsk, EraseAnswer, "admin", _erase, of_erased=True),
)
"""Every route that wants a key."""
