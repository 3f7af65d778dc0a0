"""People's control over HTTP: what is known is told, and who is erased is a stranger at once and for good."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pandas as pd
import pytest

from data.state import State
from serving.schemas import ExplainAnswer


def explained(shared, user_id):
    answer = shared.post("/v1/explain", {"user_id": user_id})
    assert answer.status_code == 200, answer.text
    return ExplainAnswer.model_validate(answer.json())


def erased(shared, user_id, **more):
    answer = shared.post("/v1/erase", {"user_id": user_id, **more}, key=shared.admin)
    assert answer.status_code == 200, answer.text
    return answer.json()["receipt"]


def event(event_id, now, **more):
    return {"event_id": event_id, "event": "product_viewed", "item_id": "i1", "occurred_at": now, **more}


def test_what_is_known_is_told_with_what_it_is_used_for(shared, now):
    with State.open(shared.workspace.state_url).writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO consents (user_id, purpose, granted, at) VALUES "
            "('u1', 'email', 1, '2026-01-01 00:00:00'), ('u1', 'email', 0, '2026-01-02 00:00:00')"
        )
    shared.post("/v1/events", {"events": [event("live", now, user_id="u1", anonymous_id="phone")]})
    shared.items(user_id="u1", placement="home")
    told = explained(shared, "u1")
    rows = {known.table: known for known in told.known}
    history = pd.read_parquet(shared.workspace.checked_dir / "events.parquet")
    assert rows["events"].rows == (history.user_id == "u1").sum() + 1
    assert rows["events"].first < rows["events"].last
    assert rows["decisions"].rows == 1
    assert told.visitors == 1
    assert told.attributes["country"] == "AT"
    assert {"orders_life"} <= {feature.feature for feature in told.features}
    assert all(feature.about and feature.unit for feature in told.features)
    uses = {use.model: use.uses for use in told.models}
    assert uses["propensity-churn 1"] == ["orders_life", "days_since_order"]
    assert told.consents["email"].value == "no"
    [decision] = told.decisions
    assert decision.where == "home"
    assert decision.chosen
    assert decision.why
    assert not told.erased


def test_columns_that_nothing_looks_at_are_named(shared):
    row = {"user_id": "u3", "country": "DE", "religion": "none of yours", "shoe_size": 42, "timezone": "Europe/Berlin"}
    shared.post("/v1/tables", {"users": [row]}, key=shared.admin)
    users = shared.workspace.checked_dir / "users.parquet"
    assert "religion" not in pd.read_parquet(users).columns
    told = explained(shared, "u3")
    assert (told.attributes["religion"], told.attributes["shoe_size"]) == ("none of yours", "42")
    assert told.never_used == ["religion", "shoe_size"]


def test_nothing_is_known_of_a_stranger(shared):
    told = explained(shared, "nobody was ever called so")
    assert (told.known, told.features, told.decisions, told.attributes, told.erased) == ([], [], [], {}, False)
    assert told.note.startswith("nothing is known of this id")
    assert explained(shared, "u2").note is None


def test_what_was_not_sent_is_not_said_to_be_chosen(shared):
    shared.post("/v1/decide", {"user_id": "u31", "channel": "email", "items": [{}]})
    [decision] = explained(shared, "u31").decisions
    assert decision.why == "nothing was sent: the rules in `suppressed` spoke against it"
    assert "consent" in {one["rule"] for one in decision.suppressed}


def test_a_visitor_may_see_what_is_known_of_them_and_be_erased(shared, now):
    shared.post("/v1/events", {"events": [event("of a visitor", now, anonymous_id="visitor-9")]})
    shared.post("/v1/consents", {"user_id": "visitor-9", "consents": {"personalisation": False}})
    known = {table.table: table.rows for table in explained(shared, "visitor-9").known}
    assert known == {"events": 1, "consents": 1}
    assert erased(shared, "visitor-9")["state"] == {"events": 1, "consents": 1}
    told = explained(shared, "visitor-9")
    assert (told.erased, told.known) == (True, [])


def test_the_answer_is_bounded_however_much_is_known(shared, now):
    for start in range(0, 3000, 1000):
        shared.post("/v1/events", {"events": [event(f"e{start + i}", now, user_id="u5") for i in range(1000)]})
    for _ in range(25):
        shared.items(user_id="u5")
    told = shared.post("/v1/explain", {"user_id": "u5"})
    assert len(told.content) < 100_000
    assert len(told.json()["decisions"]) == 20


def test_explanations_that_take_longer_than_their_requests_hold_up_no_other(shared, monkeypatch):
    done = Event()
    monkeypatch.setattr("serving.routes.explain", lambda *_: done.wait(60))
    with ThreadPoolExecutor(6) as pool:
        asked = list(pool.map(lambda _: shared.post("/v1/explain", {"user_id": "u1"}).status_code, range(6)))
    score = shared.post("/v1/score", {"user_ids": ["u1"]}).status_code
    done.set()
    assert (asked, score) == ([503] * 6, 200)


def test_of_many_rows_the_newest_and_the_last_words_are_told(shared, now):
    for at in ("2026-01-02", "2026-01-03", "2026-01-01"):
        chosen = {"user_id": "u17", "preferences": {"topics": [f"of {at}"]}, "at": f"{at}T00:00:00Z"}
        assert shared.post("/v1/preferences", chosen).status_code == 200
    for at, granted in (("2026-01-02", False), ("2026-01-01", True)):
        said = {"user_id": "u17", "consents": {"email": granted}, "at": f"{at}T00:00:00Z"}
        assert shared.post("/v1/consents", said).status_code == 200
    for country in ("DE", "AT"):
        shared.post("/v1/tables", {"users": [{"user_id": "u17", "country": country}]}, key=shared.admin)
    for number, user_id in enumerate(["u17", "another", None, None]):
        at = now if number else "2026-01-01"
        row = event(f"of a shared phone {number}", at, user_id=user_id, anonymous_id="shared phone")
        assert shared.post("/v1/events", {"events": [row]}).json()["refused"] == []
    for _ in range(25):
        shared.items(user_id="u17")
    told = explained(shared, "u17")
    assert (told.preferences["topics"].value, told.consents["email"].value) == ("of 2026-01-03", "no")
    assert told.attributes["country"] == "AT"
    assert told.visitors == 1
    at = [decision.at for decision in told.decisions]
    assert at == sorted(at, reverse=True)
    known = {table.table: table for table in told.known}
    assert (len(at), known["decisions"].rows, known["decisions"].last) == (20, 25, at[0])
    history = pd.read_parquet(shared.workspace.checked_dir / "events.parquet")
    assert known["events"].rows == (history.user_id == "u17").sum() + 3
    assert known["identities"].rows == 1


def test_who_is_erased_is_a_stranger_at_once(shared, now):
    known = shared.post("/v1/score", {"user_ids": ["u9"], "models": ["churn"]}).json()["users"][0]
    assert known["scores"]["churn"]["probability"] is not None
    shared.post("/v1/events", {"events": [event("of u9", now, user_id="u9")]})
    receipt = erased(shared, "u9")
    assert receipt["state"]["events"] == 1

    def forgotten():
        [score] = shared.post("/v1/score", {"user_ids": ["u9"], "models": ["churn"]}).json()["users"]
        return score["scores"]["churn"]["probability"] is None

    shared.wait(forgotten, 2)
    told = explained(shared, "u9")
    assert told.erased
    assert told.note.startswith("they were erased")
    assert (told.known, told.features, told.decisions) == ([], [], [])
    strange = shared.items(user_id="nobody")
    assert shared.items(user_id="u9") == strange
    shared.wait(lambda: erased(shared, "u9")["complete"], 60)
    done = erased(shared, "u9")
    assert done["erasure_id"] == receipt["erasure_id"]
    assert done["files"]["checked/events.parquet"] > 0
    assert "u9" not in set(pd.read_parquet(shared.workspace.checked_dir / "events.parquet").user_id)
    shared.wait(lambda: shared.engine.view.past.of_user("u9") is None, 60)
    assert shared.engine.view.past.of_user("u11") is not None


def test_who_was_erased_leaves_no_trace_of_coming_back(shared, now):
    ann = "ann@example.org"
    shared.post("/v1/events", {"events": [event("of ann", now, user_id=ann)]})
    shared.items(user_id=ann)
    assert erased(shared, ann)["state"] == {"events": 1, "decisions": 1}
    rows = [event("again", now, user_id=ann), event("other", now, user_id="u2")]
    answer = shared.post("/v1/events", {"events": rows}).json()
    assert (answer["accepted"], [refusal["field"] for refusal in answer["refused"]]) == (1, ["user_id"])
    assert ann not in str(answer)
    answer = shared.post("/v1/tables", {"users": [{"user_id": ann, "country": "DE"}]}, key=shared.admin).json()
    assert (answer["upserted"], answer["refused"][0]["id"]) == ({}, None)
    shared.items(user_id=ann)
    shared.post("/v1/score", {"user_ids": [ann]})
    held = b"".join(path.read_bytes() for path in shared.workspace.path.glob("state.db*"))
    assert ann.encode() not in held


def test_an_erasure_from_the_command_line_reaches_the_running_service(shared):
    from data.erasing import erase

    assert explained(shared, "u7").known
    erase(shared.workspace, State.of(shared.workspace), "u7")
    shared.wait(lambda: explained(shared, "u7").erased, 2)
    assert not explained(shared, "u7").known


def test_an_app_may_not_erase(shared):
    assert shared.post("/v1/erase", {"user_id": "u1"}).status_code == 403


@pytest.mark.parametrize("keep_orders", [True, False])
def test_orders_stay_where_books_must_be_kept(shared, now, keep_orders):
    buyer = f"buyer {keep_orders}"
    order = {**event(buyer, now, user_id=buyer, products=[{"item_id": "i1"}]), "event": "order_completed"}
    shared.post("/v1/events", {"events": [order]})
    receipt = erased(shared, buyer, keep_orders=keep_orders)
    assert receipt["orders_kept"] == int(keep_orders)
    assert receipt["state"].get("orders", 0) == int(not keep_orders)
