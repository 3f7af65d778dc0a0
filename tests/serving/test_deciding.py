"""A page or a message is decided whole: one person, one arm, parts that fit one another, a decision for each."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from data.state.schema import tables
from serving.deciding import begin, offer_of, vary
from serving.decisions.arms import Arm
from serving.decisions.rules import Consent, Person
from serving.schemas import DecideAsk
from serving.sending import no_time

NOW = datetime.now(UTC)
YES = {"email": Consent(granted=True, at=NOW - timedelta(days=1))}
OFFERS = [{"offer_id": "ten", "name": "Ten percent", "cost": 1.0}, {"offer_id": "ship", "name": "Free delivery"}]
VARIANTS = [
    {"variant_id": "a-plain", "slot": "subject", "text": "New for {user.country|you}"},
    {"variant_id": "b-ten", "slot": "subject", "text": "Ten percent for you", "attributes": {"offer_id": "ten"}},
    {"variant_id": "c-ship", "slot": "subject", "text": "We pay the postage", "attributes": {"offer_id": "ship"}},
    {"variant_id": "d-spring", "slot": "subject", "text": "Spring is here", "campaign_id": "spring"},
    {"variant_id": "e-hero", "slot": "hero", "text": "tea.jpg"},
]
PARTS = {"offer": {}, "variants": [{"slot": "subject"}, {"slot": "hero"}], "items": [{"k": 3}, {"k": 3}]}


@pytest.fixture(scope="module")
def stocked(shared):
    """The service of a shop with two offers and five variants."""
    answer = shared.post("/v1/tables", {"offers": OFFERS, "variants": VARIANTS}, key=shared.admin)
    assert answer.json()["upserted"] == {"offers": 2, "variants": 5}, answer.text
    shared.engine.offering.refresh()
    shared.engine.varying.refresh()
    return shared


def decide(stocked, **ask):
    answer = stocked.post("/v1/decide", {**PARTS, **ask})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored(stocked, user_id):
    decisions = tables["decisions"]
    with stocked.engine.state.reading() as connection:
        return connection.execute(sa.select(decisions).where(decisions.c.user_id == user_id)).mappings().all()


def as_if(stocked, monkeypatch, arm, consents=YES):
    """Everybody is one person in one arm."""
    person = Person("u1", arm=Arm(arm, 0.1), consents=consents)
    monkeypatch.setattr(stocked.engine.people, "one", lambda *_, **__: person)


def test_each_part_is_a_decision_of_one_person_in_one_arm_at_one_moment(stocked):
    answer = decide(stocked, user_id="u30")
    parts = [answer["offer"], *answer["variants"], *answer["items"]]
    rows = {row["decision_id"]: row for row in stored(stocked, "u30")}
    assert [rows[part["decision_id"]]["kind"] for part in parts] == ["offer", "variant", "variant", "items", "items"]
    assert len(rows) == 5
    assert rows[answer["variants"][0]["decision_id"]]["candidates"] == ["a-plain"]
    assert rows[answer["items"][0]["decision_id"]]["placement"] == "default"
    assert len({(row["arm"], row["arm_share"], row["at"]) for row in rows.values()}) == 1
    assert [part["slot"] for part in answer["variants"]] == ["subject", "hero"]
    assert [len(part["items"]) for part in answer["items"]] == [3, 3]
    assert answer["held_back"] == []


def test_no_item_stands_in_two_lists(stocked):
    answer = decide(
        stocked, user_id="u1", items=[{"k": 8}, {"k": 8, "placement": "mixed"}, {"k": 8, "exclude": ["i7"]}]
    )
    shown = [item["item_id"] for part in answer["items"] for item in part["items"]]
    assert len(shown) == len(set(shown)) == 24


def test_a_variant_that_speaks_of_an_offer_is_shown_with_that_offer_alone(stocked, monkeypatch):
    as_if(stocked, monkeypatch, "random")
    ask = DecideAsk(user_id="u1", channel="email", **PARTS)
    seen = set()
    for _ in range(150):
        begun = begin(stocked.engine, ask, now=NOW)
        offer = offer_of(begun.offered)
        subject, hero = vary(stocked.engine, begun, offer)
        seen.add((offer, subject.items[0].variant_id))
        assert hero.items[0].variant_id == "e-hero"
    fits = {"none": ["a-plain"], "ten": ["a-plain", "b-ten"], "ship": ["a-plain", "c-ship"]}
    [(offer, _), *_] = sorted(seen)
    assert seen == {(offer, variant) for variant in fits[offer]}, "the offer is the person's for its horizon"
    for other, expected in {**fits, "an imported id" * 50: ["a-plain"]}.items():
        [subject, _] = vary(stocked.engine, begun, other)
        assert subject.decision["candidates"] == expected
        assert subject.decision["probability"] == [1 / len(expected)]
        against = {row["id"]: row["rule"] for row in json.loads(subject.decision["suppressed"])}
        assert against["d-spring"] == "campaign"
        assert {name for name, rule in against.items() if rule == "offer"} == {"b-ten", "c-ship"} - set(expected)


def test_a_campaign_has_its_own_variants_in_every_slot(stocked, monkeypatch):
    as_if(stocked, monkeypatch, "random")
    ask = DecideAsk(user_id="u1", campaign_id="spring", variants=PARTS["variants"])
    [subject, _] = vary(stocked.engine, begin(stocked.engine, ask, now=NOW), "none")
    assert subject.decision["candidates"] == ["a-plain", "d-spring"]


def test_every_decision_of_a_message_names_its_campaign(stocked):
    decide(stocked, user_id="u1", channel="web", campaign_id="spring", **PARTS)
    told = {row["kind"]: json.loads(row["context"]).get("campaign_id") for row in stored(stocked, "u1")}
    assert told == {"items": "spring", "offer": "spring", "variant": "spring"}


def test_what_must_not_be_sent_is_not_decided_and_that_is_logged(stocked):
    answer = decide(stocked, user_id="u31", channel="email", campaign_id="spring")
    assert answer["held_back"] == [{"rule": "consent", "reason": "there is no yes to email"}]
    assert (answer["offer"], answer["variants"], answer["items"]) == (None, [], [])
    [row] = stored(stocked, "u31")
    assert (row["kind"], row["slot"], row["chosen"]) == ("action", "spring", ["none"])
    assert json.loads(row["suppressed"]) == [{"id": "email", **answer["held_back"][0]}]
    assert json.loads(row["context"]) == {"channel": "email", "campaign_id": "spring"}
    assert decide(stocked, user_id="u31")["held_back"] == [], "on the web they came themselves"


def test_what_a_message_holds_may_be_shown_when_it_is_sent(stocked, monkeypatch):
    """It is decided outside of the hours that the person chose, and an offer and a variant end before it is sent."""
    hour, ended = (NOW.hour + 5) % 24, NOW + timedelta(hours=2)
    person = Person("u1", arm=Arm("random", 0.1), consents=YES, preferences={"hours": f"{hour}-{(hour + 1) % 24}"})
    monkeypatch.setattr(stocked.engine.people, "one", lambda *_, **__: person)
    time = no_time("").model_copy(update={"hour": hour, "probability": 1.0, "time_zone": "UTC"})
    monkeypatch.setattr(stocked.engine, "send_times", lambda *_, **__: ([time], []))
    offering, varying = stocked.engine.offering, stocked.engine.varying
    offers = {**offering.offers, "ship": replace(offering.offers["ship"], ends_at=ended)}
    monkeypatch.setattr(offering, "offers", offers)
    subject = varying._slots["subject"]
    plain = replace(subject.wordings["a-plain"], ends_at=ended)
    slots = {**varying._slots, "subject": replace(subject, wordings={**subject.wordings, "a-plain": plain})}
    monkeypatch.setattr(varying, "_slots", slots)
    ask = DecideAsk(user_id="u1", channel="email", send_time=True, offer={}, variants=[{"slot": "subject"}])
    begun = begin(stocked.engine, ask, now=NOW)
    assert begun.held_back == ()
    assert [(one.offer_id, one.rule) for one in begun.offered.suppressed] == [("ship", "ends_at")]
    [shown] = vary(stocked.engine, begun, "ten")
    assert shown.decision["candidates"] == ["b-ten"]
    assert begun.offered.decision["at"] == shown.decision["at"] == NOW


def test_the_holdout_gets_what_everybody_gets(stocked, monkeypatch):
    as_if(stocked, monkeypatch, "holdout")
    answer = decide(stocked, user_id="u1", channel="email")
    assert answer["held_back"] == []
    assert answer["offer"]["offer"] is None
    assert {one["rule"] for one in answer["offer"]["suppressed"]} == {"holdout"}
    assert [part["variant"]["variant_id"] for part in answer["variants"]] == ["a-plain", "e-hero"]
    assert answer["variants"][0]["variant"]["text"] == "New for you"
    assert {item["source"] for part in answer["items"] for item in part["items"]} == {"popularity"}


def test_a_stranger_gets_parts_too(stocked):
    answer = decide(stocked)
    assert len(answer["items"][0]["items"]) == 3
    assert answer["variants"][1]["variant"]["variant_id"] == "e-hero"


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        ({"offer": None, "variants": [], "items": []}, "items"),
        ({"variants": [{"slot": "hero"}, {"slot": "hero"}]}, "variants"),
        ({"items": [{"k": 3}, {"k": 3, "filter": "no such column > 3"}]}, "items.1.filter"),
        ({"items": [{"k": 100_000}]}, "items.0.k"),
        ({"context": {"attributes": {"shoe_size": "42"}}}, "context.attributes"),
        ({"offer": {"cart_value": -1}}, "offer.cart_value"),
        ({"items": [{"exclude": ["i1"] * 1001}]}, "items.0.exclude"),
    ],
)
def test_what_cannot_be_decided_names_its_place(stocked, ask, field):
    answer = stocked.post("/v1/decide", {**PARTS, "user_id": "u1", **ask})
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


def test_a_list_may_leave_out_as_many_as_one_of_its_own(stocked):
    [part] = decide(stocked, items=[{"k": 3, "exclude": [f"i{n}" for n in range(7, 1007)]}])["items"]
    assert {item["item_id"] for item in part["items"]} <= {f"i{n}" for n in range(7)}


def test_ten_long_lists_leave_out_more_than_one_request_may(stocked, monkeypatch):
    def long(_person, ask, **_):
        return SimpleNamespace(items=[SimpleNamespace(item_id=f"{len(ask.exclude)}-{n}") for n in range(200)])

    monkeypatch.setattr(stocked.engine, "recommend_to", long)
    begun = begin(stocked.engine, DecideAsk(user_id="u1", items=[{"k": 200}] * 10), now=NOW)
    assert [part.items[0].item_id for part in begun.items] == [f"{200 * number}-0" for number in range(10)]


def test_the_items_of_a_message_say_on_which_channel_it_went(stocked, monkeypatch):
    """So that an unsubscription by them is a no to that channel alone."""
    as_if(stocked, monkeypatch, "model")
    begun = begin(stocked.engine, DecideAsk(user_id="u1", channel="email", items=[{"k": 2}]), now=NOW)
    assert json.loads(begun.items[0].decision["context"])["channel"] == "email"
