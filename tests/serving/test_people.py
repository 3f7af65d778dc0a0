"""What is known of people is the same whether the checked tables or the state tell it, and the last word counts."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from data.contract import TABLES
from data.errors import StateUnavailableError
from data.settings import Settings
from data.state import State
from data.state.facts import facts
from data.state.reads import Watermarks
from data.state.rows import fit
from data.state.schema import APPENDED
from data.state.writes import append, upsert
from data.tables import Tables
from serving.decisions.rules import Consent
from serving.people import People

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
NOTHING = dict.fromkeys(("opened_at", "clicked_at", "unsubscribed_at", "bounced_at", "decision_id"))


def ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def message(number, channel, days, **also):
    return {"message_id": f"m{number}", "user_id": "ann", "channel": channel, "sent_at": ago(days), **NOTHING, **also}


TOLD = {
    "consents": [
        {"user_id": "ann", "purpose": "email", "granted": True, "at": ago(9)},
        {"user_id": "ann", "purpose": "email", "granted": False, "at": ago(8)},
        {"user_id": "ann", "purpose": "sms", "granted": True, "at": ago(9)},
        {"user_id": "bob", "purpose": "email", "granted": True, "at": ago(9)},
    ],
    "preferences": [
        {"user_id": "ann", "name": "topics", "value": "tea", "at": ago(3)},
        {"user_id": "ann", "name": "topics", "value": "garden", "at": ago(5)},
    ],
    "users": [
        {"user_id": "ann", "timezone": "Asia/Kolkata", "channels": ["email", "sms"], "updated_at": ago(20)},
        {"user_id": "ann", "timezone": "Asia/Tokyo", "channels": ["email"], "updated_at": ago(10)},
        {"user_id": "eve", "timezone": "Asia/Nowhere", "channels": [], "updated_at": ago(10)},
        {"user_id": "joe", "timezone": "Asia/Tokyo", "channels": None, "updated_at": ago(10)},
    ],
    "messages": [
        message(1, "email", 5),
        message(2, "email", 40, unsubscribed_at=ago(39)),
        message(3, "sms", 6, bounced_at=ago(6)),
        message(4, "push", 8, bounced_at=ago(8)),
        message(5, "push", 7, opened_at=ago(7)),
    ],
    "orders": [
        {"order_id": "o1", "line_id": "1", "user_id": "ann", "item_id": "i1", "quantity": 1.0, "occurred_at": ago(4)},
        {"order_id": "o2", "line_id": "1", "user_id": "ann", "item_id": "i1", "quantity": -1.0, "occurred_at": ago(2)},
    ],
}


def tables(**rows) -> Tables:
    return Tables.from_frames(**{name: pd.DataFrame(found).dropna(axis=1, how="all") for name, found in rows.items()})


def store(state: State, **rows) -> None:
    with state.writing() as connection:
        for name, found in rows.items():
            fitted = [fit(TABLES[name], row) for row in found]
            if name in APPENDED:
                append(connection, name, fitted)
            else:
                upsert(connection, name, fitted, at=NOW)


def people(checked: Tables | None, state: State | None = None, settings: Settings | None = None, **since) -> People:
    return People(settings or Settings(), checked, state or State.open("sqlite://"), Watermarks(**since), now=NOW)


def test_tables_and_state_tell_the_same_and_both_together_too(state_url):
    state = State.open(state_url)
    store(state, **TOLD)
    zones = tables(users=TOLD["users"][:2])
    live = people(zones, state).of(["ann", "bob", "eve", "joe", "nobody"], now=NOW)
    checked = people(tables(**TOLD)).of(["ann", "bob", "eve", "joe", "nobody"], now=NOW)
    both = people(tables(**TOLD), state).of(["ann", "bob", "eve", "joe", "nobody"], now=NOW)
    assert live == checked == both


def test_the_last_word_counts_and_older_facts_do_not():
    ann, bob, eve, joe, nobody = people(tables(**TOLD)).of(["ann", "bob", "eve", "joe", "nobody"], now=NOW)
    assert ann.consents == {
        "email": Consent(granted=False, at=NOW - timedelta(days=8)),
        "sms": Consent(granted=True, at=NOW - timedelta(days=9)),
    }
    assert ann.preferences == {"topics": "tea"}
    assert ann.timezone == "Asia/Tokyo"
    assert ann.channels == {"email"}
    assert ann.last_order_at == NOW - timedelta(days=4), "a return is no order"
    assert ann.sent["email"] == (NOW - timedelta(days=5),), "an old message counts in no cap"
    assert set(ann.unsubscribed) == {"email"}, "but what it was answered with does"
    assert set(ann.bounced) == {"sms"}, "a later open on a channel says that it works again"
    assert eve.timezone == bob.timezone == nobody.timezone == "Asia/Tokyo", (
        "a zone no clock knows: the shop's commonest"
    )
    assert eve.channels == frozenset()
    assert joe.channels is None
    assert nobody.consents == {}


def test_whoever_says_much_is_known_by_their_last_words_which_alone_are_read(state_url):
    rng = random.Random(0)
    words = [(name, value, ago(days / 3)) for name in ("email", "sms") for value in (True, False) for days in range(40)]
    words = [word for word in words if rng.random() < 0.5]
    words = list({(name, at): (name, value, at) for name, value, at in words}.values())
    rng.shuffle(words)
    said = {
        "consents": [{"user_id": "ann", "purpose": name, "granted": yes, "at": at} for name, yes, at in words],
        "preferences": [{"user_id": "ann", "name": name, "value": f"{yes}", "at": at} for name, yes, at in words],
    }
    state = State.open(state_url)
    store(state, **said)
    assert people(None, state).one("ann", now=NOW) == people(tables(**said)).one("ann", now=NOW)
    with state.reading() as connection:
        read = facts(connection, ["ann"], sent_after=NOW, since=Watermarks())
    assert (len(words) > 50, len(read)) == (True, 8)
    state.close()


def test_a_no_of_the_same_moment_goes_before_a_yes():
    state = State.open("sqlite://")
    store(state, consents=[{"user_id": "ann", "purpose": "email", "granted": False, "at": ago(1)}])
    checked = tables(consents=[{"user_id": "ann", "purpose": "email", "granted": True, "at": ago(1)}])
    [ann] = people(checked, state).of(["ann"], now=NOW)
    assert not ann.consents["email"].granted


def action(number, days, *, chosen="cart_abandoned", slot="cart_abandoned", **context):
    return {
        "decision_id": f"d{number}", "user_id": "ann", "at": ago(days), "kind": "action", "slot": slot, "arm": "model",
        "arm_share": 1.0, "chosen": [chosen], "probability": [1.0], "model_version": "1", "context": context,
    }  # fmt: skip


def test_an_action_counts_as_sent_until_its_message_is_told(state_url):
    state = State.open(state_url)
    later = (NOW + timedelta(hours=5)).isoformat()
    store(
        state,
        decisions=[
            action(1, 2, channel="email", step=0),
            action(2, 1, channel="email", step=1, send_at=later),
            action(3, 1, chosen="none", channel="email"),
            action(4, 1, slot="send-time", chosen="20", channel="email"),
        ],
        messages=[message(1, "email", 1.5, decision_id="d1")],
    )
    [ann] = people(None, state).of(["ann"], now=NOW)
    assert ann.sent == {"email": (NOW - timedelta(days=1.5), NOW + timedelta(hours=5))}
    assert ann.entered == {"cart_abandoned": NOW - timedelta(days=2)}


def test_what_is_sent_or_planned_at_one_moment_is_counted_one_by_one():
    """Hours to send at are whole hours, and imported times often whole days."""
    state = State.open("sqlite://")
    later = (NOW + timedelta(hours=5)).isoformat()
    sent = [message(1, "email", 2), message(2, "email", 2), message(3, "email", 2, decision_id="d3")]
    planned = [action(number, 0.1, channel="email", step=0, send_at=later) for number in (1, 2)]
    store(state, decisions=planned, messages=[message(1, "email", 2, decision_id="d9"), sent[1]])
    [ann] = people(tables(messages=sent), state).of(["ann"], now=NOW)
    assert ann.sent["email"] == (NOW - timedelta(days=2),) * 3 + (NOW + timedelta(hours=5),) * 2


def test_a_message_that_is_imported_and_told_live_counts_once_whatever_either_knows_of_it():
    state, at = State.open("sqlite://"), NOW - timedelta(days=2)
    live = [message(1, "email", 2), message(2, "email", 1)]
    imported = [message(1, "email", 2, decision_id="d1"), message(2, "email", 1) | {"sent_at": at.date().isoformat()}]
    store(state, messages=live, decisions=[action(1, 2, channel="email", step=0)])
    [ann] = people(tables(messages=imported), state).of(["ann"], now=NOW)
    assert ann.sent["email"] == (at, NOW - timedelta(days=1))


def test_asked_of_an_earlier_moment_what_came_after_it_counts_in_no_cap():
    state, later = State.open("sqlite://"), NOW + timedelta(hours=5)
    sent = [message(1, "email", 2), message(2, "email", -1)]
    planned = [action(1, 0.1, channel="email", step=0, send_at=later.isoformat()), action(2, -1, channel="email")]
    store(state, decisions=planned, messages=sent)
    for checked in (None, tables(messages=sent)):
        back = People(Settings(), checked, state, Watermarks(), now=NOW, back=True)
        assert back.one("ann", now=NOW).sent["email"] == (NOW - timedelta(days=2), later)


def test_a_shop_of_events_alone_tells_its_orders_too():
    bought = {"event_id": "e1", "event": "order_completed", "user_id": "ann", "occurred_at": ago(3)}
    state = State.open("sqlite://")
    store(state, events=[bought])
    assert people(tables(events=[bought])).of(["ann"], now=NOW)[0].last_order_at == NOW - timedelta(days=3)
    assert people(None, state).of(["ann"], now=NOW)[0].last_order_at == NOW - timedelta(days=3)
    assert people(None, state, events=1).of(["ann"], now=NOW)[0].last_order_at is None, "the tables have it already"


def test_caps_that_reach_further_back_see_further_back():
    settings = Settings(rules={"caps": {"email": "3 in 90"}})
    [ann] = people(tables(**TOLD), settings=settings).of(["ann"], now=NOW)
    assert len(ann.sent["email"]) == 2


def test_where_the_state_cannot_be_read_people_are_as_they_were_and_it_is_said(monkeypatch):
    state = State.open("sqlite://")
    known = people(tables(**TOLD), state)
    [before] = known.of(["ann"], now=NOW)

    def broken(*_, **__):
        raise StateUnavailableError("gone")

    monkeypatch.setattr(State, "reading", broken)
    [after] = known.of(["ann"], now=NOW)
    assert (before.live, after.live) == (True, False)
    assert after == replace(before, live=False)


def test_many_people_are_read_as_each_alone():
    state = State.open("sqlite://")
    ids = [f"u{number}" for number in range(4_000)]
    store(state, consents=[{"user_id": ids[-1], "purpose": "email", "granted": True, "at": ago(1)}])
    known = people(None, state)
    assert [bool(person.consents) for person in known.of(ids, now=NOW)] == [False] * 3_999 + [True]


def test_who_names_nobody_is_a_stranger():
    stranger = people(tables(**TOLD)).one(None, now=NOW)
    assert (stranger.arm.name, stranger.arm.share, stranger.timezone) == ("model", 1.0, "Asia/Tokyo")
