"""Offers: who may get which, what they get by their arm, and limits that hold whoever writes at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import StateUnavailableError, WorkspaceError
from data.settings import Offers, Settings
from data.state import State, tombstones
from data.state.counting import used
from data.state.schema import tables as state_tables
from data.state.writes import upsert
from data.tables import Tables
from data.workspace import Workspace
from features.answers import own_answers
from models.kinds import write_examples
from models.offers import BEST, OfferModel, OfferProfit, unless_usual
from models.uplift import PooledEffects, best_arms
from registry.folder import seal
from serving.champions import Champion, load_champion
from serving.decisions.arms import Arm
from serving.decisions.offers import Offer, Profit, explored, give, ranked, withheld
from serving.decisions.rules import Consent, Person
from serving.explaining import ANSWERS, _use
from serving.metrics import Metrics
from serving.offered import BUDGET, GIVEN, REDEMPTIONS, NotFlushedError
from serving.offering import Offering
from serving.past import Past
from serving.profiles import Profiles
from serving.routes import give_offers
from serving.schemas import OffersAsk
from serving.writer import Writer
from training.cards import write_card

NOW = datetime(2026, 2, 20, 12, tzinfo=UTC)
EMPTY = dict.fromkeys(
    ("name", "kind", "value", "cost", "min_spend", "category", "channels", "segment", "starts_at", "ends_at",
     "max_redemptions", "extra")
)  # fmt: skip


def offer(offer_id: str, **about: object) -> dict[str, object]:
    """A row of `offers`."""
    return {**EMPTY, "offer_id": offer_id, **about}


def person(user_id: str, arm: str = "model", share: float = 1.0, **about: object) -> Person:
    """Somebody in an arm."""
    return Person(user_id, arm=Arm(arm, share), **about)  # type: ignore[arg-type]


@pytest.fixture
def state(tmp_path) -> State:
    return State.open(f"sqlite:///{tmp_path}/state.db")


def offering_of(state: State, *offers: dict[str, object], settings: Settings | None = None) -> Offering:
    """Without tables and models: everybody is a stranger."""
    with state.writing() as connection:
        upsert(connection, "offers", list(offers), at=NOW)
    return Offering(settings or Settings(), None, state, None)


@pytest.mark.parametrize(
    ("about", "asked", "rule"),
    [
        ({}, {}, None),
        ({"starts_at": NOW + timedelta(days=1)}, {}, "starts_at"),
        ({"starts_at": NOW}, {}, None),
        ({"ends_at": NOW}, {}, "ends_at"),
        ({"ends_at": NOW + timedelta(seconds=1)}, {}, None),
        ({"channels": frozenset({"email"})}, {"channel": "web"}, "channels"),
        ({"channels": frozenset({"email"})}, {"channel": "email"}, None),
        ({"segment": "loyal"}, {}, "segment"),
        ({"segment": "loyal"}, {"segments": {"loyal"}}, None),
        ({"min_spend": 50.0}, {"cart_value": 49.0}, "min_spend"),
        ({"min_spend": 50.0}, {"cart_value": 50.0}, None),
        ({"min_spend": 50.0}, {}, None),
    ],
)
def test_what_speaks_against_an_offer(about, asked, rule) -> None:
    found = withheld(Offer("gift", **about), **{"now": NOW, "channel": "web", "segments": (), **asked})
    assert (None if found is None else found.rule) == rule


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=6))
def test_ranked_first_is_the_best_arm_of_the_offline_policy(profits: list[float]) -> None:
    arms = [f"o{i}" for i in range(len(profits))]
    told = {arm: Profit(value, value, value) for arm, value in zip(arms, profits, strict=True)}
    best = best_arms(np.array([[0.0, *profits]]))[0]
    assert ranked(told, arms, policy=BEST)[0] == ["none", *arms][best]


def test_chance_deals_evenly_and_the_same_for_a_horizon() -> None:
    order = ["a", "b", "none"]
    about = {"usual": "none", "salt": "s", "horizon_days": 14}
    dealt = [give("random", order, user_id=f"u{i}", now=NOW, **about) for i in range(3000)]
    assert all(one.probability == (1 / 3,) for one in dealt)
    counts = pd.Series([one.chosen[0] for one in dealt]).value_counts()
    assert counts.between(900, 1100).all()
    again = [give("random", order, user_id=f"u{i}", now=NOW + timedelta(minutes=9), **about) for i in range(50)]
    assert [one.chosen for one in again] == [one.chosen for one in dealt[:50]]
    fewer = [give("random", ["b", "none"], user_id=f"u{i}", now=NOW, **about) for i in range(50)]
    kept = [(one.chosen, before.chosen) for one, before in zip(fewer, dealt, strict=False) if before.chosen != ("a",)]
    assert all(after == before for after, before in kept)
    assert {one.probability for one in fewer} == {(0.5,)}


def test_several_at_once_end_at_no_offer_with_the_chances_of_each_place() -> None:
    about = {"usual": "b", "user_id": "ann", "salt": "s", "horizon_days": 14, "now": NOW, "k": 3}
    assert give("model", ["a", "b", "none", "c"], **about).chosen == ("a", "b")
    assert give("model", ["none", "a"], **about).chosen == ("none",)
    assert give("usual", ["a", "b", "none"], **about).chosen == ("b",)
    assert give("holdout", ["a", "none"], **about).chosen == ("none",)
    dealt = give("random", ["a", "b", "c", "none"], **about)
    assert dealt.probability == tuple(1 / (4 - place) for place in range(len(dealt.chosen)))


def test_an_offer_that_ended_is_suppressed_with_its_rule(state) -> None:
    found = offering_of(state, offer("old", ends_at=NOW - timedelta(days=1)), offer("gift"))
    told = found.decide(person("ann"), OffersAsk(user_id="ann"), now=NOW)
    assert [(one.offer_id, one.rule) for one in told.suppressed] == [("old", "ends_at")]
    assert told.order == ["none", "gift"]


def test_only_the_offers_that_are_asked_for_are_candidates(state) -> None:
    found = offering_of(state, offer("gift"), offer("ten"))
    told = found.decide(person("ann"), OffersAsk(user_id="ann", offers=["ten", "gone"]), now=NOW)
    assert told.order == ["none", "ten"]
    assert [(one.offer_id, one.rule) for one in told.suppressed] == [("gone", "asked")]


def test_consent_and_the_holdout_speak_against_every_offer(state) -> None:
    found = offering_of(state, offer("gift"))
    no = person("ann", consents={"marketing": Consent(granted=False, at=NOW)})
    told = found.decide(no, OffersAsk(user_id="ann"), now=NOW)
    assert ([one.rule for one in told.suppressed], told.items) == (["consent"], [])
    left = found.decide(person("bob", "holdout", 0.05), OffersAsk(user_id="bob"), now=NOW)
    assert left.suppressed[0].rule == "holdout"
    assert left.decision["chosen"] == ["none"]
    assert (left.decision["arm"], left.decision["arm_share"]) == ("holdout", 0.05)


def test_without_a_model_the_usual_rule_decides_and_that_is_said(state) -> None:
    rule = Settings(offers=Offers(usual="orders_life > 0 -> gift else ten"))
    found = offering_of(state, offer("gift"), offer("ten"), settings=rule)
    told = found.decide(person("ann"), OffersAsk(user_id="ann"), now=NOW)
    assert ([one.offer_id for one in told.items], told.degraded) == (["ten"], True)


@pytest.mark.parametrize("limit", ["max_redemptions", "budget"])
def test_limits_hold_while_two_processes_write_at_once(tmp_path, limit: str) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    states = [State.open(url), State.open(url)]
    limited = offer("gift", cost=2.0, max_redemptions=20 if limit == "max_redemptions" else None)
    rules = Settings(
        offers=Offers(usual="orders_life > 0 -> none else gift", budget=None if limit != "budget" else 40.0)
    )
    with states[0].writing() as connection:
        upsert(connection, "offers", [limited], at=NOW)
    offerings = [Offering(rules, None, state, None) for state in states]

    def ask(number: int) -> str:
        user, which = f"u{number % 45}", number % 2  # half of them ask twice
        told = offerings[which].decide(person(user), OffersAsk(user_id=user), now=NOW)
        while True:
            try:
                with states[which].writing(flush=False) as connection:
                    return user * ("gift" in told.store(connection).given.chosen)
            except StateUnavailableError:  # busy for longer than a second, on a slow machine
                continue

    with ThreadPoolExecutor(8) as threads:
        given_to = list(threads.map(ask, range(90)))
    assert len({user for user in given_to if user}) == 20
    with states[0].reading() as connection:
        counted = used(connection, [REDEMPTIONS if limit == "max_redemptions" else BUDGET])
        decisions = connection.execute(sa.select(state_tables["decisions"])).mappings().all()
    assert list(counted.values()) == [20.0 if limit == "max_redemptions" else 40.0]
    assert len(decisions) == 90
    out = [row for row in decisions if row["chosen"] == ["none"]]
    assert all(json.loads(row["suppressed"])[0]["rule"] == limit for row in out)


def test_a_budget_of_three_offers_is_three_offers_in_cents_too(state) -> None:
    rules = Settings(offers=Offers(usual="orders_life > 0 -> none else gift", budget=3.3))
    found = offering_of(state, offer("gift", cost=1.1), settings=rules)
    given = []
    for number in range(4):
        with state.writing() as connection:
            told = found.decide(person(f"u{number}"), OffersAsk(user_id=f"u{number}"), now=NOW).store(connection)
        given.append(told.given.chosen[0])
    assert given == ["gift", "gift", "gift", "none"]


def test_chances_are_those_of_the_offers_that_are_left(state) -> None:
    found = offering_of(state, offer("a", max_redemptions=0), offer("b"))
    with state.writing() as connection:
        for number in range(20):
            user = f"u{number}"
            told = found.decide(person(user, "random", 0.1), OffersAsk(user_id=user), now=NOW).store(connection)
            assert told.decision["candidates"] == ["none", "b"]
            assert told.decision["probability"] == [0.5]


def test_of_whoever_was_erased_since_they_asked_no_counter_keeps_the_id(state) -> None:
    found = offering_of(state, offer("gift", max_redemptions=5))
    usual = replace(found.decide(person("ann", "usual"), OffersAsk(user_id="ann"), now=NOW), usual="gift")
    with state.writing() as connection:
        tombstones.add(connection, [state.tombstones.hash("ann")], keep_orders=False)
    with state.writing() as connection:
        told = usual.store(connection)
        counted = used(connection, [GIVEN, REDEMPTIONS], user_ids=["ann"])
    assert told.decision["user_id"] == f"stranger-{told.decision_id}"
    assert {one.user_id for one in counted} == {""}


def test_no_offer_that_was_drawn_says_so(state) -> None:
    found = offering_of(state, offer("ten"), offer("gift"))
    profits = {"ten": Profit(-0.2, -1.0, 1.0, 0.3), "gift": Profit(0.1, -1.0, 1.0, 0.4), "none": Profit(0, 0, 0, 0.3)}
    asked = (found.decide(person(f"u{number}"), OffersAsk(user_id=f"u{number}"), now=NOW) for number in range(300))
    told = (replace(one, order=["ten", "gift", "none"], profits=profits) for one in asked)
    drawn = next(one for one in told if one.given.chosen == ("none",))
    assert drawn.given.probability[0] < 0.1
    assert "it was drawn" in drawn.note


def test_what_cannot_be_counted_is_not_given(state) -> None:
    rule = Settings(offers=Offers(usual="orders_life > 0 -> none else gift"))
    found = offering_of(state, offer("gift", max_redemptions=5), settings=rule)
    told = found.decide(person("ann"), OffersAsk(user_id="ann"), now=NOW).unstored()
    assert (told.items, told.suppressed[0].rule) == ([], "not_stored")


def test_only_what_is_limited_waits_for_the_disk_and_always_does(state, monkeypatch) -> None:
    found = offering_of(state, offer("gone", max_redemptions=0), offer("free"), offer("gift", max_redemptions=5))
    profits = {name: Profit(1.0, 0.0, 2.0, 0.3) for name in ("gone", "free", "gift")}
    asked = [
        replace(found.decide(person(user), OffersAsk(user_id=user), now=NOW), order=[*profits, "none"], profits=profits)
        for user in (f"u{number}" for number in range(300))
    ]
    flushed: list[bool] = []
    writing = State.writing
    monkeypatch.setattr(State, "writing", lambda self, **how: (flushed.append(how["flush"]), writing(self, **how))[1])
    service = SimpleNamespace(writer=Writer(state), metrics=Metrics())
    for one in asked:
        flushed.clear()
        [(told, stored)] = give_offers(service, [one])
        assert stored
        assert told.given.chosen != ("gone",)
        assert flushed[0] == (one.given.chosen != ("free",))
        assert flushed[-1] or told.given.chosen == ("free",)
        # What is used up was to be drawn from too: without it the draw may fall on what is limited.
        if one.given.chosen == ("free",) and told.given.chosen == ("gift",):
            assert flushed == [False, True]
            break
    else:
        pytest.fail("nobody's draw changed")
    service.writer.close()


def test_what_is_given_again_need_not_wait_for_the_disk(state) -> None:
    found = offering_of(state, offer("gift", max_redemptions=5))
    one = replace(found.decide(person("ann"), OffersAsk(user_id="ann"), now=NOW), order=["gift"])
    service = SimpleNamespace(writer=Writer(state), metrics=Metrics())
    with pytest.raises(NotFlushedError):
        give_offers(service, [one], wait=False)
    with state.reading() as connection:
        assert used(connection, [GIVEN, REDEMPTIONS], user_ids=["ann"]) == {}
    for wait in (True, False):
        again = replace(one, decision_id=f"{one.decision_id} {wait}")
        [(told, stored)] = give_offers(service, [again], wait=wait)
        assert (told.given.chosen, stored) == (("gift",), True)
    with state.reading() as connection:
        counted = used(connection, [GIVEN, REDEMPTIONS], user_ids=["ann"])
        assert connection.scalar(sa.select(sa.func.count()).select_from(state_tables["decisions"])) == 2
    assert set(counted.values()) == {1}
    service.writer.close()


@pytest.fixture(scope="session")
def model(shop, tmp_path_factory) -> OfferModel:
    """Gifts pay with those who order much, the ten percent with the others."""
    frame = pd.read_parquet(next((shop / "snapshots").rglob("cutoff=*.parquet")), partitioning=None)
    rng = np.random.default_rng(0)
    table = frame.drop(columns="user_id").iloc[rng.integers(len(frame), size=900)].reset_index(drop=True)
    arm, much = rng.integers(3, size=900), table["orders_life"].to_numpy() > 3
    chance = np.select([arm == 1, arm == 2], [np.where(much, 0.9, 0.1), np.where(much, 0.1, 0.6)], 0.3)
    orders = (rng.random(900) < chance).astype(float)
    about = {"brought": orders, "by_message": 5 * orders}
    uplift = PooledEffects().fit(table, arm, 5 * orders, arms=["none", "gift", "ten"], **about)
    return OfferModel(uplift.arms, uplift.effects, uplift=uplift)


def test_what_the_usual_rule_gives_stands_until_another_is_likely_better() -> None:
    arms = ["none", "gift", "ten"]
    profit = np.array([[0.0, 1.0, 1.2], [0.0, 1.0, 3.0], [0.0, -1.0, 0.2], [0.0, 1.0, 1.2]])
    half = np.array([0, 1, 1])
    found = OfferProfit(profit, profit - half, profit + half, np.full((4, 3), 1 / 3))
    usual = np.array([1, 1, 0, -1])
    assert unless_usual(found, usual).tolist() == [1, 2, 0, 2]
    for row, code in enumerate(usual):
        told = {
            arm: Profit(*(float(part[row, place]) for part in (found.profit, found.low, found.high)))
            for place, arm in enumerate(arms)
        }
        held = arms[code] if code >= 0 else "gone"
        assert ranked(told, arms[1:], policy=BEST, usual=held)[0] == arms[unless_usual(found, usual)[row]]


def test_the_model_arm_draws_by_the_chances_it_logs() -> None:
    profits = {
        "gift": Profit(2.0, 1.0, 3.0, 0.6), "ten": Profit(1.5, 0.5, 2.5, 0.4), "loss": Profit(-9.0, -9.5, -8.5),
        "none": Profit(0.0, 0.0, 0.0),
    }  # fmt: skip
    order = ranked(profits, ["gift", "loss", "ten", "new"], policy=BEST)
    chances = explored(order, profits, share=0.5)
    assert sum(chances) == pytest.approx(1)
    assert dict(zip(order, chances, strict=True)) == pytest.approx(
        {"gift": 0.79, "ten": 0.21, "none": 0.0, "loss": 0.0, "new": 0.0}
    )
    about = {"usual": "none", "salt": "s", "horizon_days": 14, "now": NOW, "chances": chances}
    dealt = [give("model", order, user_id=f"u{number}", **about) for number in range(3000)]
    assert np.mean([given.chosen == ("gift",) for given in dealt]) == pytest.approx(0.79, abs=0.03)
    assert {given.chosen[0]: given.probability[0] for given in dealt} == {"gift": chances[0], "ten": chances[1]}
    assert give("model", order, user_id="u1", k=2, **about).probability == (1.0, 1.0)
    assert explored(order, profits, share=0) == () == explored(["none", "new"], {}, share=0.5)


@pytest.fixture
def served(workspace: Workspace, model: OfferModel) -> Offering:
    """The shop with that model in force."""
    state = State.of(workspace)
    tables = Tables.open(workspace.checked_dir)
    profiles = Profiles(workspace, tables, state, Past.of(None, workspace.settings.recommender).until)
    with state.writing() as connection:
        upsert(connection, "offers", [offer("gift"), offer("ten"), offer("new")], at=NOW)
    certain = workspace.settings.model_copy(update={"offers": Offers(explore=0)})
    return Offering(certain, tables, state, profiles, Champion("offers", 1, model))


def test_served_and_offline_rankings_are_worth_the_same(served: Offering, model: OfferModel) -> None:
    assert served._profiles is not None
    users = served._profiles.everybody
    frame, ids = served._profiles.of(users)
    expected = model.predict(frame)
    offline = np.asarray(model.arms, dtype=object)[model.choose(expected.profit)]
    worth = 0.0
    for row, user in enumerate(ids):
        told = served.decide(person(user), OffersAsk(user_id=user), now=NOW)
        assert told.given.chosen == (offline[row],)
        assert told.order[-1] == "new"
        worth += told.items[0].expected_profit or 0.0 if told.items else 0.0
    assert worth == pytest.approx(expected.profit[np.arange(len(ids)), model.choose(expected.profit)].sum(), abs=1e-9)
    assert {"gift", "ten"} <= set(offline)


def test_how_somebody_answered_an_offer_before_tells_what_it_brings_of_them(
    served: Offering, model: OfferModel, tmp_path: Path
) -> None:
    assert served._profiles is not None
    assert model.uplift is not None
    model.save(tmp_path / "own")
    told_apart = OfferModel.load(tmp_path / "own")
    assert told_apart.uplift is not None
    assert not told_apart.reads_answers
    assert ANSWERS not in _use(Champion("offers", 2, told_apart)).uses
    told_apart.uplift.shape = 1.0
    assert _use(Champion("offers", 2, told_apart)).uses == [*model.features, ANSWERS]
    everybody, users = served._profiles.of(served._profiles.everybody)
    fans = [user for user, gain in zip(users, model.predict(everybody).profit[:, 1], strict=True) if gain > 1][:2]
    sent = pd.DataFrame({
        "message_id": [f"m{number}" for number in range(12)], "user_id": [fans[0]] * 6 + [fans[1]] * 6,
        "channel": "email", "offer_id": "gift",
        "sent_at": [NOW - timedelta(days=60 - number % 6) for number in range(12)],
    })  # fmt: skip
    bought = sent.iloc[8:].assign(event_id=sent["message_id"], event="order_completed", occurred_at=sent["sent_at"])
    tables = Tables.from_frames(
        messages=sent, events=bought[["event_id", "user_id", "event", "channel", "occurred_at"]]
    )
    own = Offering(served._settings, tables, served._state, served._profiles, Champion("offers", 2, told_apart))
    frame, ids = served._profiles.of([*fans, "fresh"])
    people = pd.DataFrame({"user_id": ids, "at": pd.Timestamp(NOW)}, index=frame.index)
    offline = told_apart.predict(frame.join(own_answers(tables, people, ["gift", "ten"])))
    for row, user in enumerate(ids):
        found, before = (of.decide(person(user), OffersAsk(user_id=user), now=NOW).profits for of in (own, served))
        assert found["gift"].expected == pytest.approx(offline.profit[row, 1], abs=1e-9)
        assert found["ten"] == before["ten"]
        usual = before["gift"].expected
        told = found["gift"].expected / usual if usual > 0 else 1.0
        assert told < 0.9 if user == ids[0] else told > 1.1 if user == ids[1] else told == 1.0


def test_a_stranger_gets_what_pays_on_average_and_a_reason_in_words(served: Offering, model: OfferModel) -> None:
    told = served.decide(person("nobody knows them"), OffersAsk(user_id="nobody knows them"), now=NOW)
    averages = {arm: effect.average for arm, effect in zip(model.arms[1:], model.effects, strict=True)}
    best = max(averages, key=lambda arm: averages[arm])
    [first] = told.items
    assert first.offer_id == best
    assert first.expected_profit == pytest.approx(averages[best])
    assert "USD against no offer within 14 days, after its cost" in first.reason


def test_no_offer_wins_where_offers_lose_money_on_a_person(served: Offering, model: OfferModel) -> None:
    costs = Settings(offers=Offers(contact_costs={"print": 100.0}))
    dear = Offering(costs, None, served._state, served._profiles, served.champion)
    told = dear.decide(person("u1"), OffersAsk(user_id="u1", channel="print"), now=NOW)
    assert told.given.chosen == ("none",)
    asked = person("u1", consents={"print": Consent(granted=True, at=NOW)})
    told = dear.decide(asked, OffersAsk(user_id="u1", channel="print"), now=NOW)
    assert told.items == []
    assert told.note is not None
    assert "no offer: the best," in told.note
    assert "is expected to bring -9" in told.note


def test_a_model_that_reads_what_is_no_feature_here_is_not_asked(served: Offering, model: OfferModel) -> None:
    bare = Offering(Settings(), None, served._state, None, Champion("offers", 1, model))
    told = bare.decide(person("ann"), OffersAsk(user_id="ann"), now=NOW)
    assert (told.degraded, told.model_version) == (True, "usual")


def test_a_rule_that_names_an_unknown_feature_is_refused_at_the_start(served: Offering) -> None:
    wrong = Settings(offers=Offers(usual="orders_lif > 0 -> gift else none"))
    with pytest.raises(WorkspaceError, match=r"\[offers\]\.usual: .*'orders_lif' is no feature.*orders_life"):
        Offering(wrong, None, served._state, served._profiles)


def test_a_rule_that_names_an_offer_that_there_is_not_is_refused_at_the_start(state) -> None:
    checked = Tables.from_frames(offers=pd.DataFrame({"offer_id": ["gift"]}))
    with state.writing() as connection:
        upsert(connection, "offers", [offer("ten")], at=NOW)
    for usual in ("orders_life > 0 -> gift else ten", "orders_life > 0 -> ten else none"):
        Offering(Settings(offers=Offers(usual=usual)), checked, state, None)
    for usual in ("orders_life > 0 -> gifts else none", "orders_life > 0 -> ten else gifts"):
        with pytest.raises(WorkspaceError, match=r"\[offers\]\.usual: 'gifts' is no offer; did you mean 'gift'\?"):
            Offering(Settings(offers=Offers(usual=usual)), checked, state, None)


def test_over_http_an_offer_is_decided_stored_and_told(workspace, registry, request, model: OfferModel) -> None:
    folder = workspace.path / "versions" / "offers" / "1"
    model.save(folder)
    write_examples("offers", model, {"rows": [dict.fromkeys(model.features, 1.0)]}, folder)
    write_card(folder, {"seed": 0, "fitted_until": NOW, "horizon_days": 14, "definitions_hash": ""})
    seal(folder)
    assert str(load_champion("offers", 1, folder)) == "offers 1"
    registry.champions["offers"] = 1
    client = request.getfixturevalue("client").ready()  # only now, so that it finds the champion
    rows = [
        {"offer_id": "gift", "max_redemptions": 1},
        {"offer_id": "ten"},
        {"offer_id": "old", "ends_at": "2020-01-01"},
    ]
    assert client.post("/v1/tables", {"offers": rows}, key=client.admin).json()["upserted"] == {"offers": 3}
    client.wait(lambda: "old" in client.engine.offering.offers)
    answers = {user: client.post("/v1/offers", {"user_id": user}).json() for user in ("u1", "u2", "u3", "u4", "who")}
    assert all(answer["model_version"] == "offers 1" for answer in answers.values())
    assert all(answer["suppressed"][0]["rule"] == "ends_at" for answer in answers.values())
    gifts = [user for user, answer in answers.items() if answer["offers"] and answer["offers"][0]["offer_id"] == "gift"]
    assert len(gifts) <= 1
    assert client.post("/v1/offers", {"user_id": "u1", "k": 0}).status_code == 400
    with client.engine.state.reading() as connection:
        stored = connection.execute(sa.select(state_tables["decisions"].c.decision_id)).scalars().all()
    assert {answer["decision_id"] for answer in answers.values()} <= set(stored)
