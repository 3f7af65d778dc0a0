"""Actions: what is due for whom over HTTP, with rules, arms and a log; asked twice it is done once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data.contract import TABLES
from data.errors import WorkspaceError
from data.settings import Settings
from data.state import State
from data.state.reads import Watermarks
from data.state.rows import fit
from data.state.schema import tables as state_tables
from data.state.writes import append
from data.tables import Tables
from serving.acting import Acting
from serving.decisions.arms import Arm
from serving.decisions.rules import Person
from serving.decisions.triggers import Beginning
from serving.filling import Filling
from serving.happened import Happenings, told_of
from serving.people import People
from serving.profiles import Profiles
from serving.sending import no_time
from serving.sendlist import write_from, write_list

EVENT = {"event": "product_added", "item_id": "i7"}
ORDER = {"event": "order_completed", "products": [{"item_id": "i3", "quantity": 1, "unit_price": 4.0}]}
MODEL_ALONE = """
[arms]
random = 0
usual = 0
holdout = 0
"""
"""Everybody is in the arm `model`."""


def ago(**since) -> str:
    """A moment before now, as the routes read it."""
    return (datetime.now(UTC) - timedelta(**since)).isoformat()


def did(client, user_id: str, event: dict, *, feature: str = "days_since_event", **since) -> None:
    """Somebody does something, and their features know it."""
    told = {"event_id": f"{user_id} {event['event']} {since}", "user_id": user_id, "occurred_at": ago(**since)}
    assert client.post("/v1/events", {"events": [{**event, **told}]}).json()["refused"] == []

    def known() -> bool:
        frame, found = client.engine.profiles.of([user_id])
        return bool(found) and frame[feature].iloc[0] > 0

    client.wait(known)


def says(client, user_id: str, *, email: bool) -> None:
    """Somebody says yes or no to email."""
    assert client.post("/v1/consents", {"user_id": user_id, "consents": {"email": email}}).status_code == 200


def abandon(client, user_id: str, **since) -> None:
    """Somebody who says yes to email puts something into the cart, and goes."""
    did(client, user_id, EVENT, feature="cart_items", **(since or {"hours": 30}))
    says(client, user_id, email=True)


def actions(client, user_id: str, **further) -> dict:
    """What the route says."""
    answer = client.post("/v1/actions", {"user_id": user_id, **further})
    assert answer.status_code == 200, answer.text
    return answer.json()


def logged(client, user_id: str) -> list[dict]:
    """The decisions about somebody's actions."""
    table = state_tables["decisions"]
    with client.engine.state.reading() as connection:
        query = sa.select(table).where(table.c.user_id == user_id, table.c.kind == "action")
        return [dict(row) for row in connection.execute(query).mappings()]


def acting_by(client, tmp_path, further: str) -> Acting:
    """What tells the actions of the same shop by other settings."""
    engine = client.engine
    file = tmp_path / "attune.toml"
    file.write_text(further)
    settings = Settings.load(file)
    tables = Tables.open(client.workspace.checked_dir)
    people = People(settings, tables, engine.state, engine.view.past.until, now=datetime.now(UTC))
    return Acting(settings, tables, engine.state, profiles=engine.profiles, people=people, parts=Filling(engine))


def test_a_cart_that_was_left_is_told_and_asked_again_it_is_the_same(shared):
    abandon(shared, "ann")
    [action] = actions(shared, "ann")["actions"]
    assert (action["trigger"], action["step"], action["channel"]) == ("cart_abandoned", 1, "email")
    assert (action["about_items"], action["again"]) == (["i7"], False)
    assert actions(shared, "ann")["actions"] == [{**action, "again": True}]
    [row] = logged(shared, "ann")
    assert (row["decision_id"], row["slot"]) == (action["decision_id"], "cart_abandoned")
    assert (row["chosen"], row["probability"]) == (["cart_abandoned.1"], [1.0])
    context = json.loads(row["context"])
    assert (context["step"], context["channel"], context["campaign_id"]) == (0, "email", "cart_abandoned")


def test_of_many_who_ask_at_once_each_hears_of_their_own_and_it_is_handed_out_once(shared):
    for name in ("left 1", "left 2"):
        abandon(shared, name)
    asks = [("left 1", "email"), ("left 2", None), ("nobody knows them", None), ("left 1", None), ("left 2", "sms")] * 3
    with ThreadPoolExecutor(16) as threads:
        asked = [("left 1", "pigeon"), *asks]
        refused, *answers = threads.map(
            lambda one: shared.post("/v1/actions", {"user_id": one[0], "channel": one[1]}), asked
        )
    assert refused.status_code == 400
    for (user_id, channel), answer in zip(asks, answers, strict=True):
        found = answer.json()["actions"]
        assert [one["about_items"] for one in found] == ([] if user_id[0] == "n" or channel == "sms" else [["i7"]])
    for name in ("left 1", "left 2"):
        of_them = [
            answer.json()["actions"] for (user_id, _), answer in zip(asks, answers, strict=True) if user_id == name
        ]
        told = [action for found in of_them for action in found]
        assert len({action["decision_id"] for action in told}) == 1
        assert [action["again"] for action in told].count(False) == 1
        assert [row["chosen"] for row in logged(shared, name) if row["chosen"] != ["none"]] == [["cart_abandoned.1"]]


def test_what_was_sent_is_not_answered_again_and_the_next_step_waits(shared):
    abandon(shared, "bob")
    [action] = actions(shared, "bob")["actions"]
    sent = {"message_id": "m1", "user_id": "bob", "channel": "email", "sent_at": ago(minutes=0)}
    sent["decision_id"] = action["decision_id"]
    assert shared.post("/v1/tables", {"messages": [sent]}, key=shared.admin).json()["refused"] == []
    told = actions(shared, "bob")
    assert (told["actions"], told["note"]) == ([], "Nothing is due now.")
    assert ("cart_abandoned", "waits") in {(one["trigger"], one["why"]) for one in told["waiting"]}


def test_what_was_shown_is_not_answered_again(shared):
    abandon(shared, "bea")
    [action] = actions(shared, "bea")["actions"]
    seen = {"outcome_id": "seen", "decision_id": action["decision_id"], "kind": "impression", "at": ago(minutes=0)}
    assert shared.post("/v1/outcomes", {"outcomes": [seen]}).json()["accepted"] == 1
    assert actions(shared, "bea")["actions"] == []


def test_an_order_ends_it(shared):
    abandon(shared, "cat")
    did(shared, "cat", ORDER, feature="orders_life", hours=1)
    told = actions(shared, "cat")
    assert told["actions"] == []
    assert ("cart_abandoned", "goal") in {(one["trigger"], one["why"]) for one in told["waiting"]}


def test_without_a_yes_nothing_is_sent_and_that_is_logged_once_with_the_rule(shared):
    abandon(shared, "dan")
    says(shared, "dan", email=False)
    for _ in range(2):
        told = actions(shared, "dan")
        assert told["actions"] == []
        assert {one["rule"] for one in told["held_back"] if one["channel"] == "email"} == {"consent"}
        assert "said no to email" in told["note"]
    [row] = logged(shared, "dan")
    assert row["chosen"] == ["none"]
    assert "consent" in {one["rule"] for one in json.loads(row["suppressed"])}


def test_a_no_after_it_was_handed_out_counts(shared):
    abandon(shared, "eve")
    assert actions(shared, "eve")["actions"]
    says(shared, "eve", email=False)
    assert actions(shared, "eve")["actions"] == []


def test_only_what_goes_out_on_the_channel_asked_for(shared):
    abandon(shared, "fay")
    assert actions(shared, "fay", channel="sms")["actions"] == []
    assert actions(shared, "fay", channel="email")["actions"]
    refused = shared.post("/v1/actions", {"user_id": "fay", "channel": "fax"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "channel")


def test_of_a_stranger_nothing_is_under_way(shared):
    told = actions(shared, "nobody")
    assert (told["actions"], told["held_back"], told["note"]) == ([], [], "No journey is under way.")
    assert logged(shared, "nobody") == []


def test_of_two_the_shops_order_decides_where_no_model_tells_what_they_are_worth(shared):
    abandon(shared, "gil")
    did(shared, "gil", {"event": "page_viewed", "page": "pricing"}, feature="page_viewed_7d", hours=26)
    told = actions(shared, "gil")
    assert [one["trigger"] for one in told["actions"]] == ["cart_abandoned"]
    held = [one for one in told["held_back"] if one["rule"] == "conflict"]
    assert [one["action"] for one in held] == ["key_page_seen.1"]
    assert "has the highest priority" in held[0]["reason"]
    assert logged(shared, "gil")[0]["candidates"] == ["cart_abandoned.1", "key_page_seen.1"]


def test_who_bought_last_week_does_not_hear_that_they_are_missed(shared, tmp_path):
    did(shared, "hal", ORDER, feature="orders_life", days=3)
    says(shared, "hal", email=True)
    missed = "[actions.missed]\ncondition = 'orders_life > 0'\npriority = 1000\n[[actions.missed.steps]]\n"
    acting = acting_by(shared, tmp_path, f"[arms]\nrandom = 0\nusual = 0\nholdout = 0\n{missed}")
    [found] = acting.decide(["hal"], now=datetime.now(UTC))
    assert (found.action.trigger, found.action.step) == ("after_purchase", 1)  # it is about the order
    assert [(one.action, one.rule) for one in found.held_back] == [("missed.1", "recent_purchase")]


@pytest.mark.usefixtures("registry")
def test_who_was_handed_out_more_than_a_statement_takes_values_is_read_whole(workspace, few_values):
    state, now = State.of(workspace), datetime.now(UTC)
    told = json.dumps(told_of(Beginning(now, None), 1))
    given = {"user_id": "ann", "at": ago(hours=1), "kind": "action", "slot": "welcome", "arm": "model", "context": told}
    given |= {"arm_share": 1.0, "chosen": ["email"], "probability": [1.0], "model_version": "1"}
    rows = [fit(TABLES["decisions"], {**given, "decision_id": f"d{i}"}) for i in range(300)]
    shown = {"outcome_id": "o", "decision_id": "d299", "kind": "impression", "at": now.isoformat()}
    with state.writing() as connection:
        append(connection, "decisions", rows)
        append(connection, "outcomes", [fit(TABLES["outcomes"], shown)])
    few_values(state)
    profiles = Profiles(workspace, workspace.checked, state, Watermarks())
    happenings = Happenings(workspace.checked, state, profiles, answers=(), asked=())
    handed = happenings.of(["ann"], now).handed["ann"]
    assert [one.decision_id for one in handed if one.sent] == ["d299"]
    assert len(handed) == 300
    state.close()


def test_two_workers_hand_out_one_step(shared):
    abandon(shared, "ida")
    now = datetime.now(UTC)
    one, other = (shared.engine.act(["ida"], now=now)[0] for _ in range(2))  # both before either is stored
    assert one.action.decision_id == other.action.decision_id
    with shared.engine.state.writing() as connection:
        assert one.store(connection) is not None
        assert other.store(connection) is None
    assert actions(shared, "ida")["actions"][0]["again"]
    assert len(logged(shared, "ida")) == 1


@pytest.mark.parametrize(("slot", "chosen"), [("send-time", "20"), ("cart_abandoned", "none")])
def test_an_hour_or_a_no_that_is_logged_meanwhile_takes_no_message_away(shared, slot, chosen):
    who = f"left {slot}"
    abandon(shared, who)
    [found] = shared.engine.act([who], now=datetime.now(UTC))
    logged_now = {"decision_id": f"an hour {slot}", "user_id": who, "at": ago(), "kind": "action", "slot": slot}
    logged_now |= {"arm": "model", "arm_share": 1.0, "chosen": [chosen], "probability": [1.0], "model_version": "1"}
    with shared.engine.state.writing() as connection:
        append(connection, "decisions", [fit(TABLES["decisions"], logged_now)])
        assert found.store(connection) is not None


def test_two_steps_at_once_do_not_slip_through_the_cap(shared, tmp_path):
    """Each is decided before the other is stored: the second is decided anew, and the cap holds."""
    visited = {"event": "page_viewed", "page": "pricing"}
    did(shared, "ivy", visited, feature="page_viewed_7d", hours=40)
    shared.post("/v1/consents", {"user_id": "ivy", "consents": {"email": True, "sms": True}})
    own = """
    [rules]
    caps = {all = "1 in 1"}
    quiet_hours = {}
    [actions.texted]
    events = ["page_viewed"]
    channels = ["sms"]
    best_hour = false
    [[actions.texted.steps]]
    """
    acting = acting_by(shared, tmp_path, MODEL_ALONE + own)
    now = datetime.now(UTC)
    [mail], [text] = (acting.decide(["ivy"], now=now, channel=channel) for channel in ("email", "sms"))
    assert (mail.action.trigger, text.action.trigger) == ("key_page_seen", "texted")
    with shared.engine.state.writing() as connection:
        assert mail.store(connection) is not None
        assert text.store(connection) is None
    [again] = acting.decide(["ivy"], now=now, channel="sms")
    assert again.action is None
    assert "caps" in {one.rule for one in again.held_back}


def test_a_trigger_does_not_begin_for_something_else_too_soon(shared, tmp_path):
    own = """
    [actions.looked]
    events = ["product_viewed"]
    same = "category"
    channels = ["web"]
    priority = 1000
    [[actions.looked.steps]]
    """
    acting = acting_by(shared, tmp_path, MODEL_ALONE + own)
    for item_id, category in (("i7", "tea"), ("i27", "cups")):
        viewed = {"event": "product_viewed", "item_id": item_id, "category": category}
        did(shared, "jan", viewed, hours=1 if category == "tea" else 0.5)
        [found] = acting.decide(["jan"], now=datetime.now(UTC), channel="web")
        with shared.engine.state.writing() as connection:
            done = found.store(connection)
        if category == "tea":
            assert done.action.about == "tea"
            message = {"message_id": "jan", "user_id": "jan", "channel": "web", "sent_at": ago(minutes=0)}
            message["decision_id"] = done.action.decision_id
            shared.post("/v1/tables", {"messages": [message]}, key=shared.admin)
    assert done.action is None
    assert ("looked.1", "re_entry") in {(one.action, one.rule) for one in found.held_back}


@pytest.mark.parametrize("arm", ["holdout", "usual", "random"])
def test_arms_that_models_leave_to_others(shared, tmp_path, arm):
    """Whoever is left alone gets nothing, is logged once as one who would have been written to, and goes on."""
    user_id = f"jo {arm}"
    abandon(shared, user_id)
    now = datetime.now(UTC)
    shares = dict.fromkeys(("holdout", "usual", "random"), 0) | {arm: 1}
    acting = acting_by(shared, tmp_path, "[arms]\n" + "\n".join(f"{name} = {share}" for name, share in shares.items()))
    for asked_at in (now, now + timedelta(hours=1)):
        [found] = acting.decide([user_id], now=asked_at)
        with shared.engine.state.writing() as connection:
            done = found.store(connection)
        assert (done.action is None) == (arm == "holdout")
    [row] = logged(shared, user_id)
    assert (row["arm"], row["arm_share"]) == (arm, 1.0)
    assert row["chosen"] == ["none" if arm == "holdout" else "cart_abandoned.1"]
    [later] = acting.decide([user_id], now=now + timedelta(hours=25))
    assert json.loads(later.decision["context"])["step"] == 1  # a day after the first, for those left alone too


def test_an_own_trigger_branches_by_a_forms_answer(shared, tmp_path):
    own = """
    [features]
    form_answers = ["budget"]
    [actions.form_submitted]
    enabled = false
    [actions.quote]
    events = ["form_submitted where page == 'quote'"]
    channels = ["web"]
    [[actions.quote.steps]]
    condition = "orders_life > 100"
    [[actions.quote.steps]]
    condition = "orders_life < 100"
    items = 3
    """
    for user_id, page in (("kim", "quote"), ("lea", "contact")):
        form = {"event": "form_submitted", "page": page, "budget": "large"}
        did(shared, user_id, form, feature="form_submitted_1d", hours=1)
    acting = acting_by(shared, tmp_path, MODEL_ALONE + own)
    kim, lea = acting.decide(["kim", "lea"], now=datetime.now(UTC))
    assert (kim.action.trigger, kim.action.step, len(kim.action.items)) == ("quote", 2, 3)
    assert lea.action is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[actions.welcome]\nexit = 'cart_itms == 0'\n", r"actions\.welcome\.exit: 'cart_itms' is no feature"),
        ("[[actions.welcome.steps]]\noffer = 'ten'\n", r"actions\.welcome\.steps\[0\]\.offer: 'ten' is no offer"),
        ("[[actions.welcome.steps]]\nslots = ['head']\n", r"actions\.welcome\.steps\[0\]\.slots: 'head' is no slot"),
        ('[actions.welcome]\nexit = "country == 3"\n', r"actions\.welcome\.exit: .*country is text, 3 is a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(shared, tmp_path, settings, told):
    with pytest.raises(WorkspaceError, match=told):
        acting_by(shared, tmp_path, settings)


def test_the_days_list_is_what_the_route_tells(shared, tmp_path):
    people = {"mia": "i7", "noa": "i9", "ole": "i11"}
    for user_id in people:
        abandon(shared, user_id, hours=29)
    says(shared, "ole", email=False)
    now = datetime.now(UTC)
    looked_at = write_from(shared.engine, tmp_path / "look.csv", channel="email", now=now, dry_run=True)
    assert not looked_at.stored
    assert looked_at.held_back["consent"] >= 1
    assert logged(shared, "mia") == []
    listed = write_from(shared.engine, tmp_path / "today.parquet", channel="email", now=now)
    rows = pq.read_table(tmp_path / "today.parquet").to_pylist()
    look = pacsv.read_csv(tmp_path / "look.csv").to_pylist()
    assert [row["decision_id"] for row in look] == [row["decision_id"] for row in rows]
    assert len(rows) == listed.rows
    mine = {row["user_id"]: row for row in rows if row["user_id"] in people}
    assert set(mine) == {"mia", "noa"}
    for user_id, row in mine.items():
        [action] = actions(shared, user_id, channel="email")["actions"]
        assert action["again"]
        assert (row["decision_id"], row["trigger"], row["channel"]) == (
            action["decision_id"],
            "cart_abandoned",
            "email",
        )
        assert row["send_at"] == datetime.fromisoformat(action["send_at"])
        assert [row[f"item_{n + 1}"] for n in range(len(action["items"]))] == [
            one["item_id"] for one in action["items"]
        ]
    assert len(logged(shared, "mia")) == 1


def test_whose_imported_id_no_request_may_name_is_left_out_of_the_list_and_counted(client, tmp_path):
    engine, odd = client.engine, "imported" * 100
    abandon(client, "ann")
    asked = {"event_id": "odd", "event": "form_submitted", "user_id": "ann", "occurred_at": ago(hours=1)}
    said = {"user_id": odd, "granted": True, "at": datetime.now(UTC)}
    with engine.state.writing() as connection:
        append(connection, "events", [fit(TABLES["events"], asked) | {"user_id": odd}])
        append(connection, "consents", [{**said, "purpose": purpose} for purpose in ("email", "marketing")])
    client.wait(lambda: odd in engine.profiles.everybody)
    listed = write_from(engine, tmp_path / "today.parquet", channel="email", dry_run=True)
    assert "ann" in pq.read_table(tmp_path / "today.parquet")["user_id"].to_pylist()
    assert (listed.unnamed, listed.everybody) == (1, len(engine.profiles.everybody))


def test_a_list_of_an_unknown_kind_is_refused_before_anything_is_decided(shared, tmp_path):
    with pytest.raises(WorkspaceError, match="is no kind of file"):
        write_list(shared.workspace, tmp_path / "list.xlsx")


def test_an_offer_a_variant_and_items_are_decisions_of_their_own_and_told_again_alike(shared, tmp_path):
    said = {"slot": "subject", "campaign_id": "whole"}
    rows = {
        "variants": [{"variant_id": "v1", "text": "Hello {user.country|you}", **said}, {"variant_id": "v2", **said}],
        "offers": [{"offer_id": "ten", "name": "Ten off", "cost": 1.0}],
    }
    rows["variants"][1]["text"] = "Welcome"
    assert shared.post("/v1/tables", rows, key=shared.admin).json()["refused"] == []
    shared.wait(lambda: shared.engine.varying.slots_of("whole") == ["subject"] and shared.engine.offering.offers)
    own = """
    [arms]
    random = 1
    usual = 0
    holdout = 0
    [actions.cart_abandoned]
    enabled = false
    [actions.whole]
    events = ["product_added"]
    [[actions.whole.steps]]
    offer = "ten"
    slots = ["subject"]
    items = 2
    """
    acting = acting_by(shared, tmp_path, own)
    for user_id in ("pia", "quy", "ria"):
        abandon(shared, user_id)
        now = datetime.now(UTC)
        [found] = acting.decide([user_id], now=now)
        with shared.engine.state.writing() as connection:
            action = found.store(connection).action
        assert (len(action.variants), len(action.items)) == (1, 2)
        assert action.variants[0].text in {"Hello you", "Welcome"}
        [again] = acting.decide([user_id], now=now + timedelta(hours=1))
        assert again.action == action.model_copy(update={"again": True})
        table = state_tables["decisions"]
        with shared.engine.state.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.user_id == user_id)).all()
        chosen = {row.kind: row.chosen for row in rows}
        assert sorted(row.kind for row in rows) == ["action", "items", "offer", "variant"]
        assert chosen["offer"] == ["none" if action.offer is None else "ten"]
        assert chosen["variant"] == [action.variants[0].variant_id]
        assert chosen["items"] == [item.item_id for item in action.items]


def test_a_message_for_a_later_hour_has_the_offer_and_the_text_that_may_be_shown_then(shared, tmp_path, monkeypatch):
    begins = datetime.now(UTC) + timedelta(hours=2)
    hour = (begins.hour + 3) % 24
    rows = {
        "variants": [{"variant_id": "soon", "slot": "subject", "campaign_id": "later", "text": "Soon"}],
        "offers": [{"offer_id": "soon", "name": "Soon"}],
    }
    rows = {name: [{**one, "starts_at": begins.isoformat()} for one in found] for name, found in rows.items()}
    assert shared.post("/v1/tables", rows, key=shared.admin).json()["refused"] == []
    shared.wait(lambda: shared.engine.varying.slots_of("later") and "soon" in shared.engine.offering.offers)
    time = no_time("").model_copy(update={"hour": hour, "probability": 1.0, "time_zone": "UTC"})
    monkeypatch.setattr(shared.engine, "send_times", lambda ids, *_, **__: ([time] * len(ids), []))
    own = """
    [actions.cart_abandoned]
    enabled = false
    [actions.later]
    events = ["product_added"]
    [[actions.later.steps]]
    offer = "soon"
    """
    acting = acting_by(shared, tmp_path, MODEL_ALONE + own)
    abandon(shared, "zoe")
    said = {"user_id": "zoe", "preferences": {"hours": f"{hour}-{(hour + 1) % 24}"}}
    assert shared.post("/v1/preferences", said).status_code == 200
    now = datetime.now(UTC)
    [found] = acting.decide(["zoe"], now=now)
    assert found.action.hour == hour
    assert [one.text for one in found.action.variants] == ["Soon"]
    assert found.filled.offered.suppressed == []
    with shared.engine.state.writing() as connection:
        done = found.store(connection)
    [again] = acting.decide(["zoe"], now=now + timedelta(minutes=1))
    assert again.action == done.action.model_copy(update={"again": True})


@pytest.mark.parametrize(("about", "found"), [("x" * 2_000, 0), ("Tea", 1)])
def test_a_category_that_no_filter_could_name_has_no_items(shared, monkeypatch, about, found):
    asked = []

    def recommend_to(_person, ask, **_):
        asked.append(ask.filter)
        return SimpleNamespace(items=[], decision={})

    monkeypatch.setattr(shared.engine, "recommend_to", recommend_to)
    due = SimpleNamespace(
        trigger=SimpleNamespace(declared=SimpleNamespace(same="category")),
        step=SimpleNamespace(items=2, placement="default"),
        beginning=SimpleNamespace(about=about, items=("an imported id" * 50,)),
    )
    items, _ = Filling(shared.engine)._items(Person("ann", arm=Arm("model", 1.0)), due, "email", datetime.now(UTC))
    assert (items, len(asked)) == ([], found)


def test_offers_slots_and_variants_of_any_imported_id_stop_no_message(shared):
    filling, ann, now, odd = Filling(shared.engine), Person("ann", arm=Arm("model", 1.0)), datetime.now(UTC), "id" * 400
    about, row = SimpleNamespace(name="quote"), SimpleNamespace(slot=odd, chosen=[odd], context="{}")
    due = SimpleNamespace(trigger=about, step=SimpleNamespace(slots=(odd,), offer=odd))
    assert filling._variants(ann, due, "email", odd, now=now, at=now) == ([], [])
    assert filling._text(ann, row, now, now) is None
    assert filling._offered(ann, due, "email", now=now, at=now).items == []


def test_a_message_has_no_more_items_than_an_answer_may_have(shared, tmp_path, monkeypatch):
    (tmp_path / "attune.toml").write_text("[serving]\nmax_k = 5\n")
    monkeypatch.setattr(shared.engine, "settings", Settings.load(tmp_path / "attune.toml"))
    did(shared, "max", {"event": "form_submitted"}, hours=1)
    says(shared, "max", email=True)
    [action] = actions(shared, "max")["actions"]
    assert (action["trigger"], len(action["items"])) == ("form_submitted", 5)


@pytest.mark.parametrize("arm", ["model", "usual"])
def test_an_item_of_any_imported_id_stops_no_message_in_any_arm(shared, arm):
    due = SimpleNamespace(
        trigger=SimpleNamespace(declared=SimpleNamespace(same="")),
        step=SimpleNamespace(items=2, placement="default"),
        beginning=SimpleNamespace(about="", items=("an imported id" * 50,)),
    )
    items, _ = Filling(shared.engine)._items(Person("ann", arm=Arm(arm, 1.0)), due, "email", datetime.now(UTC))
    assert len(items) == 2


def test_who_did_nothing_since_the_check_is_told_as_if_it_were_read_anew(shared, monkeypatch):
    engine, tables = shared.engine, Tables.open(shared.workspace.checked_dir)
    happenings = Happenings(tables, engine.state, engine.profiles, answers=(), asked={"lifecycle_changed"})
    did(shared, "u3", EVENT, hours=2)
    people, now = [*(f"u{number}" for number in range(10, 40)), "u3", "nobody knows them"], datetime.now(UTC)
    assert engine.profiles.newer(people) >= {"u3"}
    assert len(engine.profiles.newer(people)) < len(people) / 2

    def rows() -> list[tuple]:
        told = happenings.of(people, now).rows
        return sorted(zip(*(told[name].tolist() for name in ("user_id", "at", "event")), strict=True))

    found = rows()
    assert len({user_id for user_id, *_ in found}) > 20
    monkeypatch.setattr(engine.profiles, "newer", set)
    assert found == rows()


def test_what_a_visitor_left_in_the_cart_is_theirs_who_signs_in_and_after_they_signed_out(shared):
    """No table of the shop tells of identities yet."""
    seen = {"event": "product_added", "anonymous_id": "tab 1", "item_id": "i7", "occurred_at": ago(hours=40)}
    signed_in = {"event": "signed_in", "anonymous_id": "tab 1", "user_id": "vera", "occurred_at": ago(hours=39)}
    for number, event in enumerate((seen, signed_in)):
        assert shared.post("/v1/events", {"events": [{**event, "event_id": f"vera {number}"}]}).json()["accepted"] == 1
    says(shared, "vera", email=True)
    shared.wait(lambda: cart_of(shared, "vera") == 1)
    [action] = actions(shared, "vera")["actions"]
    assert (action["trigger"], action["about_items"]) == ("cart_abandoned", ["i7"])
    signed_out = {**seen, "event_id": "vera 3", "item_id": "i8", "occurred_at": ago(hours=1)}
    assert shared.post("/v1/events", {"events": [signed_out]}).json()["accepted"] == 1
    shared.wait(lambda: cart_of(shared, "vera") == 2)


def cart_of(client, user_id: str) -> float:
    """How many items are in somebody's cart, by their features."""
    frame, found = client.engine.profiles.of([user_id])
    return frame["cart_items"].iloc[0] if found else 0


def test_an_item_that_does_not_say_whether_it_is_available_may_get_cheaper_and_does_not_come_back(shared):
    item = {"item_id": "i33", "name": "Item 33", "category": "cups", "price": 34.0}
    did(shared, "carl", {"event": "product_viewed", "item_id": "i33"}, hours=9)
    says(shared, "carl", email=True)
    rows = [{**item, "updated_at": ago(hours=8)}, {**item, "price": 20.0, "updated_at": ago(hours=6)}]
    assert shared.post("/v1/tables", {"items": rows[:1]}, key=shared.admin).json()["refused"] == []
    assert actions(shared, "carl")["actions"] == []
    assert shared.post("/v1/tables", {"items": rows[1:]}, key=shared.admin).json()["refused"] == []
    [action] = actions(shared, "carl")["actions"]
    assert (action["trigger"], action["about"], action["began_at"][:16]) == ("price_or_stock", "i33", ago(hours=6)[:16])
