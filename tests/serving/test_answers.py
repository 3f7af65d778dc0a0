"""Outcomes join the decisions they came of; what people say for themselves holds at the next request."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from data.settings import Action, ActionStep, Rules, Settings
from data.state.schema import tables
from serving.decisions.rules import Contact, held_back

LATER = timedelta(minutes=5)


def ask(shared, path, **body):
    answer = shared.post(f"/v1/{path}", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def decided(shared, user_id="u1", **body) -> dict:
    return ask(shared, "recommend", user_id=user_id, k=2, **body)


def outcome(number, decision, kind="click", at=None, **also) -> dict:
    at = datetime.now(UTC) if at is None else at
    decision_id = decision if isinstance(decision, str) else decision["decision_id"]
    return {"outcome_id": f"o-{number}", "decision_id": decision_id, "kind": kind, "at": at.isoformat(), **also}


def sent(shared, *rows):
    answer = ask(shared, "outcomes", outcomes=list(rows))
    refused = {row["id"]: (row["field"], row["message"]) for row in answer["refused"]}
    return answer["accepted"], answer["duplicates"], refused


def stored(shared, name, column, value):
    table = tables[name]
    with shared.engine.state.reading() as connection:
        return connection.execute(sa.select(table).where(table.c[column] == value)).mappings().all()


def rules_against(shared, user_id, channel):
    [person] = shared.engine.people.of([user_id], now=datetime.now(UTC))
    found = held_back(person, Contact(channel), shared.engine.settings, now=datetime.now(UTC))
    return {suppressed.rule for suppressed in found} - {"hours"}


def test_an_outcome_is_stored_once_however_often_it_is_sent(shared):
    decision = decided(shared)
    row = outcome("once", decision, chosen_id=decision["items"][0]["item_id"], position=0, value=3.5)
    assert sent(shared, row) == (1, 0, {})
    assert sent(shared, row, {**row, "kind": "conversion"}) == (0, 2, {})
    [kept] = stored(shared, "outcomes", "outcome_id", "o-once")
    assert (kept["kind"], kept["value"]) == ("click", 3.5)


def test_a_late_outcome_is_taken_one_before_its_decision_is_not(shared):
    decision = decided(shared)
    now = datetime.now(UTC)
    late = outcome("late", decision, "conversion", at=now + timedelta(minutes=50))
    early = outcome("early", decision, at=now - timedelta(hours=2))
    future = outcome("future", decision, at=now + timedelta(days=1))
    accepted, _, refused = sent(shared, late, early, future)
    assert accepted == 1
    assert refused["o-early"][0] == "at"
    assert refused["o-early"][1].startswith("lies before the decision (")
    assert refused["o-future"][1].startswith("lies in the future")


def test_what_is_no_outcome_of_its_decision_is_refused_alone_and_says_why(shared):
    decision = decided(shared)
    good = outcome("good", decision)
    strange = outcome("strange", "no such decision")
    other = outcome("other", decision, chosen_id="no such item")
    applause = outcome("applause", decision, "applause")
    nameless = {**good, "outcome_id": None}
    accepted, _, refused = sent(shared, strange, other, applause, nameless, good)
    assert accepted == 1
    assert refused["o-strange"] == ("decision_id", "is not known: it was never answered, or its person was erased")
    assert refused["o-other"][0] == "chosen_id"
    assert refused["o-applause"] == (
        "kind", "'applause' is none of impression, open, click, conversion, unsubscribe"
    )  # fmt: skip
    assert refused[None] == ("outcome_id", "is missing")


def test_too_many_outcomes_are_refused_whole(shared):
    rows = [outcome(number, "d") for number in range(1001)]
    assert shared.post("/v1/outcomes", {"outcomes": rows}).status_code == 400
    body = b'{"outcomes": [' + b",".join([b'{"outcome_id": "1"}'] * 1_000_000) + b"]}"
    answer = shared.post("/v1/outcomes", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("user", "also", "against"),
    [("u20", {"channel": "email"}, {"email"}), ("u21", {}, {"email", "sms"})],
    ids=["of its channel", "of all marketing where the channel is not known"],
)
def test_an_unsubscription_is_a_no_at_once(shared, user, also, against):
    ask(shared, "consents", user_id=user, consents={"email": True, "sms": True})
    assert not rules_against(shared, user, "email") | rules_against(shared, user, "sms")
    row = outcome(f"unsubscribe-{user}", decided(shared, user), "unsubscribe", **also)
    assert sent(shared, row)[0] == 1
    assert {channel for channel in ("email", "sms") if rules_against(shared, user, channel) == {"consent"}} == against
    ask(shared, "consents", user_id=user, consents=dict.fromkeys(["email", "marketing"], True))
    assert sent(shared, row)[1] == 1, "told again, it changes nothing:"
    assert not rules_against(shared, user, "email")


def test_an_unsubscription_from_a_channel_that_there_is_not_is_refused(shared):
    row = outcome("slip", decided(shared), "unsubscribe", channel="Email")
    accepted, _, refused = sent(shared, row)
    assert (accepted, refused["o-slip"]) == (0, ("channel", "'Email' is none of email, sms, push, web, in_app, ads"))


def test_an_unsubscription_told_of_a_message_is_a_no_until_a_later_yes(shared):
    now = datetime.now(UTC)
    ask(shared, "consents", user_id="u22", consents={"email": True}, at=(now - timedelta(days=2)).isoformat())
    message = {
        "message_id": "m-u22", "user_id": "u22", "channel": "email", "sent_at": (now - timedelta(days=1)).isoformat(),
        "unsubscribed_at": (now - timedelta(hours=3)).isoformat(),
    }  # fmt: skip
    assert shared.post("/v1/tables", {"messages": [message]}, key=shared.admin).json()["upserted"] == {"messages": 1}
    assert rules_against(shared, "u22", "email") == {"unsubscribed"}
    assert ask(shared, "consents", user_id="u22")["consents"]["email"]["granted"] is False
    held = ask(shared, "consents", user_id="u22", consents={"email": True})["consents"]["email"]
    assert held["granted"] is True
    assert rules_against(shared, "u22", "email") == set()


def test_a_consent_holds_at_the_next_request(shared):
    assert {item["source"] for item in decided(shared, "u3")["items"]} == {"item_neighbours"}
    held = ask(shared, "consents", user_id="u3", consents={"personalisation": False})["consents"]
    assert held["personalisation"]["granted"] is False
    assert held["web"] == {"granted": True, "at": None}
    assert "email" not in held, "it needs a yes"
    assert {item["source"] for item in decided(shared, "u3")["items"]} == {"popularity"}
    ask(shared, "consents", user_id="u3", consents={"personalisation": True})
    assert {item["source"] for item in decided(shared, "u3")["items"]} == {"item_neighbours"}


@pytest.mark.parametrize("first", [True, False])
def test_of_a_yes_and_a_no_of_one_moment_the_no_holds(shared, first):
    at = datetime.now(UTC).isoformat()
    for granted in (first, not first):
        held = ask(shared, "consents", user_id=f"both-{first}", consents={"email": granted}, at=at)
    assert held["consents"]["email"]["granted"] is False


def test_an_older_word_told_later_does_not_hold(shared):
    ask(shared, "consents", user_id="u23", consents={"email": False})
    older = (datetime.now(UTC) - LATER).isoformat()
    held = ask(shared, "consents", user_id="u23", consents={"email": True}, at=older)
    assert held["consents"]["email"]["granted"] is False
    assert len(stored(shared, "consents", "user_id", "u23")) == 2


def test_a_preference_holds_until_it_is_taken_back(shared):
    chosen = {"topics": ["Tea", "Cups"], "frequency": "weekly", "hours": "20-23", "newsletter": "short"}
    held = ask(shared, "preferences", user_id="u4", preferences=chosen)["preferences"]
    assert held == {**chosen, "topics": "Tea, Cups"}
    held = ask(shared, "preferences", user_id="u4", preferences={"topics": None, "hours": "8-9"})["preferences"]
    assert held == {"frequency": "weekly", "hours": "8-9", "newsletter": "short"}
    assert ask(shared, "preferences", user_id="u4")["preferences"] == held


def test_an_empty_list_is_none_of_them_and_null_any(shared):
    ask(shared, "consents", user_id="u24", consents={"email": True})
    held = ask(shared, "preferences", user_id="u24", preferences={"channels": [], "topics": []})["preferences"]
    assert held == {"channels": "none", "topics": "none"}
    assert rules_against(shared, "u24", "email") == {"channels"}
    assert (
        ask(shared, "preferences", user_id="u24", preferences={"channels": None, "topics": None})["preferences"] == {}
    )
    assert rules_against(shared, "u24", "email") == set()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("offers", {}),
        ("variants", {"slot": "subject"}),
        ("decide", {"items": [{}]}),
        ("actions", {}),
        ("preferences", {}),
    ],
)
def test_a_channel_that_there_is_not_is_refused_with_those_that_there_are(shared, path, body):
    asked = {"channel": "emial"} if path != "preferences" else {"preferences": {"channels": ["email", "emial"]}}
    answer = shared.post(f"/v1/{path}", {"user_id": "u5", **body, **asked})
    assert answer.status_code == 400, answer.text
    [detail] = answer.json()["error"]["details"]
    assert detail["field"] == ("channel" if path != "preferences" else "preferences.channels")
    assert detail["message"].startswith("'emial' is none of email, sms, push, web, in_app, ads")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("preferences", {"preferences": {"hours": []}}, "preferences.hours"),
        ("preferences", {"preferences": {"hours": "evenings"}}, "preferences.hours"),
        ("preferences", {"preferences": {"frequency": "often"}}, "preferences.frequency"),
        ("preferences", {"preferences": {"frequency": "2 in 365"}}, "preferences.frequency"),
        ("preferences", {"preferences": {"topics": "\ud800"}}, ""),
        ("preferences", {"preferences": {"note": "  "}}, "preferences.note"),
        ("consents", {"consents": {"email": "yes"}}, "consents.email"),
        ("consents", {"consents": {"email": True}, "at": "yesterday"}, "at"),
        ("consents", {"consents": {"email": True}, "at": "2199-01-01"}, "at"),
        ("consents", {"consents": {"": True}}, "consents..[key]"),
        ("consents", {"consents": {"Email": False}}, "consents.Email"),
        ("consents", {"consents": {"personalisation ": False}}, "consents.personalisation "),
        ("preferences", {"preferences": {"Topics": ["Tea"]}}, "preferences.Topics"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_field(shared, path, body, field):
    answer = shared.post(f"/v1/{path}", {"user_id": "u5", **body})
    assert answer.status_code == 400
    assert field in [detail["field"] for detail in answer.json()["error"]["details"]] or not field


@pytest.mark.parametrize("meant", ["marketing", "personalisation", "newsletter"])
def test_a_slip_of_a_purpose_that_needs_a_yes_is_refused_too(shared, monkeypatch, meant):
    action = Action(events=("order",), purpose="newsletter", steps=(ActionStep(),))
    settings = Settings(rules=Rules(assumed=()), actions={"news": action})
    monkeypatch.setattr(shared.engine, "settings", settings)
    answer = shared.post("/v1/consents", {"user_id": "u5", "consents": {meant.capitalize(): True}})
    assert answer.status_code == 400
    assert f"is written {meant!r}" in answer.text
