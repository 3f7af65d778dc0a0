"""Who asks at once is answered as if alone: the same items and offers, and what fails fails alone."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.state.schema import tables
from serving.gathering import FEW, LONGEST_SECONDS, MOST, Gathering
from serving.recommending import FieldError
from serving.schemas import OffersAsk, RecommendAsk


class Slow:
    """Decides when it is let to, and remembers which asks it was given together."""

    def __init__(self):
        self.groups = []
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def decide(self, asks):
        self.groups.append(asks)
        self.begun.set()
        assert self.may_go_on.wait(10)
        return [ValueError(ask) if ask == "bad" else ask.upper() for ask in asks]

    def store(self, found):
        if "POISON" in found:
            raise KeyError(found[0])
        return [f"{one} of {len(found)}" for one in found]


def asked(slow, *asks, cancelled=()):
    """The answers to a first ask and, while that is decided about, to further ones."""

    async def run():
        with closing(Gathering(slow.decide, slow.store)) as gathering:
            waiting = [asyncio.create_task(gathering.answer(asks[0]))]
            await asyncio.to_thread(slow.begun.wait, 10)
            waiting += [asyncio.create_task(gathering.answer(ask)) for ask in asks[1:]]
            await asyncio.sleep(0)
            for number in cancelled:
                waiting[number].cancel()
            await asyncio.sleep(0)
            slow.may_go_on.set()
            return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(run())


def test_the_first_does_not_wait_and_the_others_go_together():
    slow = Slow()
    assert asked(slow, "a", "b", "c") == ["A of 1", "B of 2", "C of 2"]
    assert slow.groups == [["a"], ["b", "c"]]


def test_a_group_is_bounded():
    slow = Slow()
    answers = asked(slow, *map(str, range(2 * MOST)))
    assert [len(group) for group in slow.groups] == [1, MOST, MOST - 1]
    assert [answer.split()[0] for answer in answers] == [str(number) for number in range(2 * MOST)]


def test_a_bad_one_fails_alone_whether_it_is_decided_or_stored():
    first, a, bad, poison, b = asked(Slow(), "first", "a", "bad", "poison", "b")
    assert (first, a, b) == ("FIRST of 1", "A of 1", "B of 1")
    assert isinstance(bad, ValueError)
    assert isinstance(poison, KeyError)


def test_who_gave_up_is_not_decided_about():
    slow = Slow()
    assert asked(slow, "a", "b", "c", cancelled=[1])[2] == "C of 1"
    assert slow.groups == [["a"], ["c"]]


def test_what_fails_for_all_is_told_to_all():
    def gone(_):
        raise StateUnavailableError("gone")

    async def run():
        with closing(Gathering(gone, gone)) as gathering:
            return await asyncio.gather(*(gathering.answer(number) for number in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [StateUnavailableError] * 3


def test_who_waits_when_it_is_closed_is_answered():
    async def run():
        gathering = Gathering(list, list)
        waiting = [asyncio.create_task(gathering.answer(number)) for number in range(40)]
        await asyncio.sleep(0)
        gathering.close()
        return await asyncio.gather(*waiting)

    assert asyncio.run(run()) == list(range(40))


class Told:
    """Tells of each ask how large its group was, and whether it was stored in the event loop; a clock of its own."""

    def __init__(self, monkeypatch, *, seconds=1e-9):
        self.seconds, self.decided, self.loop, self.clock = seconds, [], threading.get_ident(), 0.0
        monkeypatch.setattr("serving.gathering.time", SimpleNamespace(perf_counter=lambda: self.clock))

    def decide(self, asks):
        self.decided.append(len(asks))
        self.clock += self.seconds * len(asks)
        return asks

    def store(self, found):
        return [(ask, len(found), threading.get_ident() == self.loop) for ask in found]

    def rounds(self, at_once, *rounds):
        """The answers to several rounds of asks, those of a round sent together."""

        async def run():
            with closing(Gathering(self.decide, self.store)) as gathering:
                gathering.at_once = at_once
                return [await asyncio.gather(*map(gathering.answer, asks)) for asks in rounds]

        return asyncio.run(run())


def test_a_quick_group_is_worked_on_in_the_event_loop(monkeypatch):
    told = Told(monkeypatch)
    answers = told.rounds(told.store, "a", "bcd", "e")
    assert answers == [[("a", 1, False)], [("b", 3, True), ("c", 3, True), ("d", 3, True)], [("e", 1, True)]]


def test_asks_that_take_long_leave_the_event_loop_free(monkeypatch):
    told = Told(monkeypatch, seconds=1.1 * LONGEST_SECONDS / FEW)
    assert told.rounds(told.store, "a", "bc") == [[("a", 1, False)], [("b", 2, False), ("c", 2, False)]]


def test_a_group_keeps_the_event_loop_for_a_moment_only(monkeypatch):
    told = Told(monkeypatch, seconds=LONGEST_SECONDS / (FEW + 4.5))
    [_, answers] = told.rounds(told.store, "a", range(MOST))
    assert [ask for ask, *_ in answers] == list(range(MOST))
    assert told.decided == [1, FEW + 4, MOST - FEW - 4]


def test_what_cannot_be_stored_at_once_is_stored_beside_without_being_decided_again(monkeypatch):
    told, tried = Told(monkeypatch), []

    def busy(found):
        tried.extend(found)
        raise StateUnavailableError("busy")

    assert told.rounds(busy, "a", "bc") == [[("a", 1, False)], [("b", 2, False), ("c", 2, False)]]
    assert (tried, told.decided) == (["b", "c"], [1, 2])


def test_who_comes_in_the_next_turn_of_the_event_loop_goes_with_the_group(monkeypatch):
    told = Told(monkeypatch)

    async def run():
        with closing(Gathering(told.decide, told.store)) as gathering:
            first = asyncio.create_task(gathering.answer("a"))
            await asyncio.sleep(0)
            return await asyncio.gather(first, gathering.answer("b"))

    assert asyncio.run(run()) == [("a", 2, False), ("b", 2, False)]


ASKS = [
    {"user_id": "u1"},
    {"user_id": "u2", "placement": "mixed", "context": {"viewing": "i25"}},
    {"user_id": "nobody"},
    {"user_id": "fresh"},
    {},
    {"anonymous_id": "together visitor"},
    {"user_id": "together", "anonymous_id": "together visitor"},
    {"user_id": "together"},
    {"user_id": "u1", "exclude": ["i1"], "filter": "price < 30"},
    {"user_id": "together no"},
]


@pytest.fixture
def lively(shared, now):
    """Some of those who ask did something, and one wants nothing personal."""
    viewed = {"event": "product_viewed", "occurred_at": now}
    rows = [
        {**viewed, "event_id": "together 1", "user_id": "together", "item_id": "i25"},
        {**viewed, "event_id": "together 2", "anonymous_id": "together visitor", "item_id": "i3"},
        {**viewed, "event_id": "together 3", "user_id": "u2", "item_id": "i7"},
        {**viewed, "event_id": "together 4", "user_id": "together no", "item_id": "i8"},
    ]
    assert shared.post("/v1/events", {"events": rows}).status_code == 200
    shared.post("/v1/consents", {"user_id": "together no", "consents": {"personalisation": False}})
    return shared


def test_several_at_once_are_shown_what_each_is_alone(lively):
    asks = [RecommendAsk.model_validate({"k": 6, **ask}) for ask in ASKS]
    together = lively.engine.recommend_each(asks)
    for ask, found in zip(asks, together, strict=True):
        alone = lively.engine.recommend(ask)
        assert (found.items, found.model_version, found.degraded) == (alone.items, alone.model_version, alone.degraded)
        ours, theirs = (dict(one.decision) for one in (found, alone))
        for own in ("decision_id", "at"):
            assert ours.pop(own) != theirs.pop(own)
        if ask.user_id or ask.anonymous_id:
            assert ours == theirs
    assert len({found.decision["decision_id"] for found in together}) == len(ASKS)
    assert together[-1].model_version == "popularity"


def test_one_that_cannot_be_answered_fails_alone(lively):
    bad = [{"k": 10_000}, {"filter": "shade == 'red'"}, {"context": {"attributes": {"shoe size": "44"}}}]
    asks = [RecommendAsk.model_validate(ask) for ask in (ASKS[0], bad[0], ASKS[1], bad[1], bad[2])]
    good, *_ = found = lively.engine.recommend_each(asks)
    assert [isinstance(one, FieldError) for one in found] == [False, True, False, True, True]
    assert good.items == lively.engine.recommend(asks[0]).items


def test_over_http_many_at_once_are_answered_each_with_its_own(lively):
    bodies = [{"k": 3, **ask} for ask in ASKS] * 3 + [{"k": 0}, {"k": 10_000}]
    alone = {json.dumps(body): lively.post("/v1/recommend", body).json()["items"] for body in bodies[: len(ASKS)]}
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda body: lively.post("/v1/recommend", body), bodies))
    assert [answer.status_code for answer in answers] == [200] * 3 * len(ASKS) + [400, 400]
    answers = [answer.json() for answer in answers[:-2]]
    assert [answer["items"] for answer in answers] == [alone[json.dumps(body)] for body in bodies[:-2]]
    with lively.engine.state.reading() as connection:
        log = tables["decisions"].c
        rows = dict(connection.execute(sa.select(log.decision_id, log.user_id)).tuples().all())
    for body, answer in zip(bodies, answers, strict=False):
        named = body.get("user_id") or body.get("anonymous_id")
        assert rows[answer["decision_id"]] == named or f"stranger-{answer['decision_id']}"


def test_offers_of_several_at_once_are_those_of_each_alone(lively):
    asks = [OffersAsk(user_id=ask.get("user_id"), anonymous_id=ask.get("anonymous_id")) for ask in ASKS]
    for ask, found in zip(asks, lively.engine.offers_each(asks), strict=True):
        [alone] = lively.engine.offers_each([ask])
        assert (found.items, found.suppressed, found.note) == (alone.items, alone.suppressed, alone.note)


def test_variants_at_once_are_each_asks_own_and_a_bad_ask_fails_alone(lively):
    row = {"variant_id": "only", "slot": "together", "text": "For {user.country|you}"}
    assert lively.post("/v1/tables", {"variants": [row]}, key=lively.admin).status_code == 200
    lively.wait(lambda: lively.post("/v1/variants", {"slot": "together"}).json()["variants"], 2)
    bodies = [{"slot": "together", **ask} for ask in ({"user_id": "u1"}, {"channel": "emial"}, {}, {"slot": "empty"})]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda body: lively.post("/v1/variants", body), bodies * 4))
    assert [answer.status_code for answer in answers] == [200, 400, 200, 200] * 4
    for answer in answers[::4] + answers[2::4]:
        [shown] = answer.json()["variants"]
        assert (shown["variant_id"], shown["probability"]) == ("only", 1.0)
        assert answer.json()["decision_id"]
    assert {(answer.json()["decision_id"], answer.json()["degraded"]) for answer in answers[3::4]} == {(None, False)}


def test_a_no_holds_in_the_next_request(shared):
    shared.post("/v1/consents", {"user_id": "u5", "consents": {"personalisation": True}})
    for allowed in (True, False, True, False):
        shared.post("/v1/consents", {"user_id": "u5", "consents": {"personalisation": allowed}})
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: shared.post("/v1/recommend", {"user_id": "u5"}).json(), range(8)))
        assert {answer["model_version"] for answer in found} == {"recommender 1" if allowed else "popularity"}
