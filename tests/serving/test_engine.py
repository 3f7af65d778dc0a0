"""What is recommended and scored: histories fold in at once, strangers are served, swaps drop nothing."""

import json
import shutil
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
import sqlalchemy as sa

from data.checks import check
from data.contract import TABLES
from data.errors import DataError, StateUnavailableError, WorkspaceError
from data.interactions import Interactions
from data.state import State, keys
from data.state.arrivals import sort_events
from data.state.reads import Watermarks, Who
from data.state.rows import fit
from data.state.schema import tables
from data.state.sync import sync
from data.state.writes import upsert
from data.workspace import Workspace
from features.snapshots import build
from models.recommenders.repeat_purchase import RepeatPurchase
from models.saving import EXAMPLES
from models.variants import VariantModel
from registry.folder import seal
from serving.catalogue import Catalogue
from serving.champions import OFFERS, VARIANTS, Champion
from serving.engine import Engine
from serving.explaining import explain
from serving.profiles import Profiles
from serving.recommending import FALLBACK
from serving.schemas import RecommendAsk, ScoreAsk

HALF = 20
START = pd.Timestamp("2026-01-01", tz="UTC")


def viewed(event_id, user_id, item_id, at, **more):
    return {"event_id": event_id, "event": "product_viewed", "user_id": user_id, "item_id": item_id,
            "occurred_at": at, **more}  # fmt: skip


def send(client, *events):
    response = client.post("/v1/events", {"events": list(events)})
    assert response.status_code == 200, response.text
    return response.json()


def half(item_id):
    """Which half of the catalogue an item is in."""
    return int(item_id[1:]) // HALF


def decisions(client):
    with client.engine.state.reading() as connection:
        return connection.execute(sa.select(tables["decisions"]).order_by(tables["decisions"].c.seq)).all()


def test_a_known_user_gets_what_their_history_asks_for(shared):
    answer = shared.post("/v1/recommend", {"user_id": "u1", "k": 3}).json()
    assert answer["model_version"] == "recommender 1"
    assert not answer["degraded"]
    assert {half(item["item_id"]) for item in answer["items"]} == {1}
    assert {item["source"] for item in answer["items"]} == {"item_neighbours"}
    verbs = ("because you viewed Item", "because you bought Item")
    assert all(item["reason"].startswith(verbs) for item in answer["items"])


def test_strangers_get_what_is_popular(shared):
    for who in ({}, {"user_id": "nobody knows me"}, {"anonymous_id": "nor me"}):
        answer = shared.post("/v1/recommend", {**who, "k": 4}).json()
        assert {item["source"] for item in answer["items"]} == {"popularity"}
        assert len(answer["items"]) == 4


def test_an_event_changes_the_next_recommendation(shared, now):
    assert {half(item) for item in shared.items(user_id="new", k=8)} == {0, 1}
    send(shared, viewed("n1", "new", "i25", now))
    answer = shared.post("/v1/recommend", {"user_id": "new", "k": 3}).json()
    assert {half(item["item_id"]) for item in answer["items"]} == {1}
    assert answer["items"][0]["reason"] == "because you viewed Item 25"


def test_what_a_visitor_did_becomes_the_users(shared, now):
    send(shared, viewed("v1", None, "i25", now, anonymous_id="visitor"))
    assert {half(item) for item in shared.items(anonymous_id="visitor", k=3)} == {1}
    assert {half(item) for item in shared.items(user_id="named", k=8)} == {0, 1}
    signed_in = {"event_id": "v2", "event": "signed_in", "user_id": "named", "anonymous_id": "visitor"}
    send(shared, {**signed_in, "occurred_at": now})
    assert {half(item) for item in shared.items(user_id="named", k=3)} == {1}


def test_the_context_counts_like_what_just_happened(shared):
    body = {"user_id": "a stranger", "k": 3, "context": {"viewing": "i25", "cart": ["i26"]}}
    found = shared.items(**body)
    assert {half(item) for item in found} == {1}
    assert not {"i25", "i26"} & set(found)


def test_excluded_filtered_and_sold_out_items_are_not_shown(shared):
    every = shared.items(user_id="u0", k=100)
    assert "i2" not in every
    assert every[0] not in shared.items(user_id="u0", k=100, exclude=[every[0]])
    cheap = shared.items(user_id="u0", k=100, filter="category == 'tea' and price < 10")
    assert cheap
    assert all(int(item[1:]) + 1 < 10 for item in cheap)


def test_similar_items_are_alike_and_on_sale(shared):
    answer = shared.post("/v1/similar", {"item_id": "i25", "k": 3}).json()
    assert {half(item["item_id"]) for item in answer["items"]} == {1}
    everything = shared.post("/v1/similar", {"item_id": "i1", "k": 100}).json()["items"]
    ids = [item["item_id"] for item in everything]
    assert not {"i1", "i2"} & set(ids)
    assert len(ids) == len(set(ids))


def test_every_recommendation_is_logged_with_its_probabilities(shared):
    answer = shared.post("/v1/recommend", {"user_id": "u1", "k": 2, "placement": "home", "exclude": ["i9"]}).json()
    shared.post("/v1/recommend", {})
    *_, known, stranger = decisions(shared)
    assert known.decision_id == answer["decision_id"]
    assert (known.user_id, known.kind, known.placement, known.arm) == ("u1", "items", "home", "model")
    assert known.chosen == [item["item_id"] for item in answer["items"]]
    assert known.probability == [1.0, 1.0]
    assert known.model_version == "recommender 1"
    assert json.loads(known.context) == {"k": 2, "exclude": ["i9"]}
    assert stranger.user_id == f"stranger-{stranger.decision_id}"


def test_a_sent_row_of_the_catalogue_is_in_force_within_two_seconds(client):
    top = client.items(k=1)[0]
    row = {"item_id": top, "name": "Gone", "available": False}
    answer = client.post("/v1/tables", {"items": [row, {"name": "no id"}]}, key=client.admin).json()
    assert answer["upserted"] == {"items": 1}
    assert [(refused["table"], refused["position"], refused["field"]) for refused in answer["refused"]] == [
        ("items", 1, "item_id")
    ]
    client.wait(lambda: top not in client.items(k=50), 2)
    client.post("/v1/tables", {"items": [{"item_id": "brand new", "name": "New"}]}, key=client.admin)
    client.wait(lambda: client.post("/v1/similar", {"item_id": "brand new"}).status_code == 200, 2)


def test_an_item_sent_without_saying_whether_it_is_available_is(client):
    top = client.items(k=1)[0]
    client.post("/v1/tables", {"items": [{"item_id": top, "name": "Renamed", "price": 77}]}, key=client.admin)
    client.wait(lambda: client.engine.view.catalogue.name(top) == "Renamed", 2)
    assert client.items(k=1, filter="price == 77") == [top]


def test_no_request_waits_for_what_is_worked_out_of_all_items(client):
    view = client.engine.view
    client.engine.refresh()
    assert client.engine.view is view, "nothing changed, so that nothing is worked out again"
    client.post("/v1/tables", {"items": [{"item_id": "brand new", "name": "New"}]}, key=client.admin)
    client.wait(lambda: client.engine.view is not view, 2)
    assert "codes" in vars(client.engine.view)


def test_many_filters_at_once_do_not_take_one_anothers_answers(shared, monkeypatch):
    monkeypatch.setattr("serving.catalogue.FILTERS_KEPT", 1)
    engine = shared.engine

    def ask(price):
        [item] = engine.recommend(RecommendAsk(k=1, filter=f"price == {price}")).items
        return item.item_id

    prices = list(range(4, 30)) * 8
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, prices)) == [f"i{price - 1}" for price in prices]


def test_events_sent_twice_are_told_and_change_nothing(shared, now):
    rows = [viewed("t1", "u1", "i3", now), viewed("t2", "u1", "i4", now), {"event_id": "t3"}]
    first, second = send(shared, *rows), send(shared, *rows)
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 2)
    assert [(refused["id"], refused["field"]) for refused in first["refused"]] == [("t3", "event")]


def test_scores_have_reasons_and_a_stage(shared):
    answer = shared.post("/v1/score", {"user_ids": ["u1", "nobody", "u2"], "models": ["churn"]}).json()
    known, unknown, _ = answer["users"]
    assert [user["user_id"] for user in answer["users"]] == ["u1", "nobody", "u2"]
    assert 0 <= known["scores"]["churn"]["probability"] <= 1
    assert known["lifecycle_stage"]
    assert {reason["feature"] for reason in known["scores"]["churn"]["reasons"]} <= {"orders_life", "days_since_order"}
    assert unknown["scores"]["churn"]["probability"] is None
    assert "not known" in unknown["scores"]["churn"]["note"]
    assert answer["model_version"] == "propensity-churn 1"


def test_a_label_without_a_model_says_so(shared):
    [user] = shared.post("/v1/score", {"user_ids": ["u1"], "models": ["purchase"]}).json()["users"]
    assert user["scores"]["purchase"]["probability"] is None
    assert "attune train" in user["scores"]["purchase"]["note"]


def test_features_of_touched_users_are_computed_anew(shared, now):
    def stage():
        [user] = shared.post("/v1/score", {"user_ids": ["buyer"], "models": ["churn"]}).json()["users"]
        return user["lifecycle_stage"]

    assert stage() is None
    order = {"event_id": "b1", "event": "order_completed", "user_id": "buyer", "order_id": "b1", "occurred_at": now}
    send(shared, {**order, "products": [{"product_id": "i3", "quantity": 1, "price": 4.0}]})
    shared.wait(lambda: stage() == "first-time buyer")


def test_somebody_whose_features_fail_does_not_keep_others_waiting(shared, now, monkeypatch):
    engine = shared.engine
    profiles = Profiles(engine.workspace, engine.workspace.checked, engine.state, engine.view.past.until)
    compute = profiles._online.compute

    def fails_for_bad(rows, cutoff):
        if "bad" in rows["events"]["user_id"].to_pylist():
            raise DataError("no such features")
        return compute(rows, cutoff)

    monkeypatch.setattr(profiles._online, "compute", fails_for_bad)
    send(shared, *(viewed(f"w{user}", user, "i3", now) for user in ("good", "bad", "fine")))
    profiles.refresh()
    assert profiles.of(["good", "bad", "fine"])[1] == ["good", "fine"]


@pytest.mark.usefixtures("registry")
def test_somebody_with_more_visitors_than_a_statement_takes_values_is_read_whole(workspace, now, few_values):
    named = pd.DataFrame({"anonymous_id": [f"v{i}" for i in range(300)], "user_id": "ann", "at": "2026-01-01"})
    named.to_parquet(workspace.tables_dir / "identities.parquet", index=False)
    check(workspace)
    engine = Engine(workspace)
    engine.load()
    rows = [viewed(f"e{i}", None, "i3", now, anonymous_id=f"v{i}") for i in range(300)]
    with engine.state.writing() as connection:
        sort_events([*rows, viewed("other", "bob", "i3", now)], now=datetime.now(UTC), max_clock_skew_minutes=60).store(
            connection
        )
    few_values(engine.state)
    assert engine.profiles.newer(["ann", "u1"]) == {"ann"}
    assert engine.profiles.rows(["ann"])["events"].num_rows == 300
    engine.profiles.refresh()
    assert engine.profiles.of(["ann", "bob"])[1] == ["ann", "bob"]
    engine.state.close()


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["customer's note", "two words", "a.b", 'so "called"', "either/or", "~"])
def test_a_live_attribute_is_read_whatever_its_name_holds(workspace, name):
    users = pd.DataFrame({"user_id": ["u1", "u2"], name: ["old", "other"]})
    users.to_parquet(workspace.tables_dir / "users.parquet", index=False)
    check(workspace)
    state = State.of(workspace)
    with state.writing() as connection:
        row = {**fit(TABLES["users"], {"user_id": "u1"}), "extra": {name: "new"}}
        upsert(connection, "users", [row], at=datetime.now(UTC))
    profiles = Profiles(workspace, workspace.checked, state, Watermarks())
    assert "new" in profiles.rows(["u1"], ["users"])["users"][name].to_pylist()
    assert not profiles.unread
    state.close()


def test_online_rows_equal_the_snapshot_of_the_same_history(shared):
    engine = shared.engine  # the background works on its own rows
    profiles = Profiles(engine.workspace, engine.workspace.checked, engine.state, engine.view.past.until)
    at = (pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=40)).to_pydatetime()
    ids = ["u1", "u2", "u3"]
    online = profiles._online.compute(profiles.rows(ids), at).set_index("user_id")
    offline, order = profiles.of(ids)
    pd.testing.assert_frame_equal(
        online.loc[ids],
        offline.set_index(pd.Index(order, name="user_id")).loc[ids],
        check_dtype=False,
        check_index_type=False,
    )


def test_a_promoted_version_takes_over_and_no_request_is_dropped(client, workspace, registry):
    versions = workspace.path / "versions" / "recommender"
    shutil.copytree(versions / "1", versions / "2")
    seen, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            response = client.post("/v1/recommend", {"user_id": "u1", "k": 2})
            seen.append((response.status_code, response.json()["model_version"]))

    asking = threading.Thread(target=ask)
    asking.start()
    registry.champions["recommender"] = 2
    client.wait(lambda: seen and seen[-1][1] == "recommender 2")
    stop.set()
    asking.join()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} <= {"recommender 1", "recommender 2"}


@pytest.mark.parametrize("damage", ["truncated", "changed answers", "gone"])
def test_a_broken_version_is_refused_and_the_old_one_stays(client, workspace, registry, damage):
    versions = workspace.path / "versions" / "recommender"
    if damage != "gone":
        shutil.copytree(versions / "1", versions / "2")
    if damage == "truncated":
        file = max((versions / "2").glob("*.npy"), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[:-20])
    if damage == "changed answers":
        examples = json.loads((versions / "2" / "examples.json").read_text())
        examples["expected"][0].reverse()
        (versions / "2" / "examples.json").write_text(json.dumps(examples))
        seal(versions / "2")
    registry.champions["recommender"] = 2
    client.wait(lambda: "recommender" in client.engine.champions.troubles)
    assert str(workspace.path) not in client.get("/readyz").text
    answer = client.post("/v1/recommend", {"user_id": "u1"}).json()
    assert answer["model_version"] == "recommender 1"
    client.wait(lambda: "attune_swap_refusals 1.0" in client.get("/metrics").text)
    registry.champions["recommender"] = 1
    client.wait(lambda: "recommender" not in client.engine.champions.troubles)


def test_what_nothing_in_the_history_holds_up_is_popular(client, registry, workspace):
    folder = workspace.path / "versions" / "recommender" / "2"
    bought = pd.DataFrame({"user_id": [*"aab"], "item_id": ["i7", "i8", "i7"]})
    RepeatPurchase().fit(Interactions.from_frame(bought)).save(folder)
    (folder / "card.json").write_text(json.dumps({"exclude_seen": False}))
    (folder / EXAMPLES).write_text(json.dumps({"histories": [], "k": 1, "expected": []}))
    seal(folder)
    registry.champions["recommender"] = 2
    client.wait(lambda: client.engine.view.version == "recommender 2")
    items = client.post("/v1/recommend", {"k": 2, "context": {"recent": ["i8"]}}).json()["items"]
    assert [(item["item_id"], item["source"], item["reason"]) for item in items] == [
        ("i8", "repeat", "because of your earlier interest in it"),
        ("i7", "repeat", "popular right now"),
    ]


def test_without_a_model_popularity_answers_and_says_so(client, registry):
    del registry.champions["recommender"]
    client.wait(lambda: client.post("/v1/recommend", {}).json()["model_version"] == FALLBACK)
    answer = client.post("/v1/recommend", {"user_id": "u1", "k": 5}).json()
    assert answer["degraded"]
    assert len(answer["items"]) == 5
    similar = client.post("/v1/similar", {"item_id": "i25", "k": 3}).json()
    assert similar["degraded"]
    assert {item["source"] for item in similar["items"]} == {"together"}
    assert {half(item["item_id"]) for item in similar["items"]} == {1}


def test_a_workspace_without_tables_still_answers(tmp_path, monkeypatch):
    engine = Engine(Workspace.create(tmp_path))
    engine.load()
    assert engine.recommend(RecommendAsk()).items == []
    assert engine.score(ScoreAsk(user_ids=["u1"])).users[0].scores["churn"].probability is None
    did = {"event": "page_viewed", "occurred_at": "2026-01-01", "anonymous_id": "visitor"}
    events = [{**did, "event_id": "1"}, {**did, "event_id": "2", "user_id": "ann"}]  # the second is ann's
    with engine.state.writing() as connection:
        sort_events(events, now=datetime.now(UTC), max_clock_skew_minutes=0).store(connection)
    assert {known.table: known.rows for known in explain(engine, "visitor").known} == {"events": 1}


def test_a_shop_whose_features_were_never_built_answers_and_reads_its_journeys(client, tmp_path):
    folder = shutil.copytree(client.workspace.path, tmp_path / "copy", ignore=shutil.ignore_patterns("snapshots"))
    engine = Engine(Workspace.open(folder))
    engine.load()
    assert engine.recommend(RecommendAsk(user_id="u1", k=3)).items
    assert engine.acting.triggers.on


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("further", "told"),
    [
        ("[segments]\nvips = 'spnd_365d > 5'", r"segments\.vips: 'spnd_365d' is no feature.*you mean 'spend_365d'"),
        ("[segments]\nvips = 'country > 5'", r"segments\.vips: 'country' cannot be compared: country is text"),
        ("[propensity.churn]\npopulation = 'country == 5'", r"propensity\.churn\.population: .*country is text"),
        ("[offers]\nusual = 'country > 5 -> none else none'", r"\[offers\]\.usual: .*country is text, 5 is a number"),
        ("[actions.welcome]\nexit = 'country == 5'", r"actions\.welcome\.exit: .*country is text, 5 is a number"),
    ],
)
def test_a_condition_that_would_never_hold_is_refused_before_anybody_is_known(shop, tmp_path, further, told):
    folder = shutil.copytree(shop, tmp_path / "copy", ignore=shutil.ignore_patterns("snapshots"))
    with (folder / "attune.toml").open("a", encoding="utf-8") as file:
        file.write(further)
    with pytest.raises(WorkspaceError, match=told):
        Engine(Workspace.open(folder)).load()


@pytest.mark.usefixtures("registry")
def test_a_segment_of_features_that_the_shop_lacks_has_nobody_in_it(shop, tmp_path, caplog):
    folder = shutil.copytree(shop, tmp_path / "copy")
    with (folder / "attune.toml").open("a", encoding="utf-8") as file:
        file.write(
            "[segments]\nread = 'opened_90d > 0'\nbuyers = 'orders_life > 0'\n[actions.welcome]\nexit = 'read'\n"
        )
    engine = Engine(Workspace.open(folder))
    engine.load()
    assert engine.score(ScoreAsk(user_ids=["u1"])).users[0].segments == ["buyers"]
    assert engine.acting.triggers.off["welcome"] == "read needs messages"
    assert "segments.read holds for nobody: opened_90d needs messages" in caplog.text


def test_a_shop_of_messages_alone_tells_no_stage(tmp_path):
    workspace = Workspace.create(tmp_path)
    with workspace.settings_file.open("a", encoding="utf-8") as file:
        file.write("[actions.thanks]\ncondition = \"lifecycle == 'loyal'\"\n[[actions.thanks.steps]]\nitems = 1\n")
    at = pd.Timestamp("2026-01-01", tz="UTC")
    sent = {"message_id": ["m"], "user_id": ["ann"], "channel": ["email"], "sent_at": [at], "opened_at": [at]}
    pd.DataFrame(sent).to_parquet(workspace.tables_dir / "messages.parquet")
    check(workspace)
    build(workspace, [datetime(2026, 1, 3, tzinfo=UTC)])
    engine = Engine(workspace)
    engine.load()
    [ann] = engine.score(ScoreAsk(user_ids=["ann"])).users
    assert (ann.lifecycle_stage, ann.segments) == (None, [])
    assert engine.acting.triggers.off["thanks"] == "lifecycle needs orders"


def test_a_model_that_reads_a_feature_of_another_kind_is_not_asked_and_that_is_said(client, monkeypatch):
    model = client.engine.champions.current["propensity-churn"].model
    monkeypatch.setattr(model, "features", [*model.features[:-1], "country"])
    answer = client.post("/v1/score", {"user_ids": ["u1"], "models": ["churn"]}).json()
    assert answer["users"][0]["scores"]["churn"]["probability"] is None
    assert "'country'" in answer["users"][0]["scores"]["churn"]["note"]
    assert client.post("/v1/actions", {"user_id": "u1"}).status_code == 200


def test_a_locked_state_is_told_and_recommendations_still_come(shared, now, caplog):
    other = sqlite3.connect(shared.workspace.path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    response = shared.post("/v1/events", {"events": [viewed("l1", "u1", "i3", now)]})
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.json()["error"]["code"] == "state_unavailable"
    assert "state.db" not in response.text  # where it lies is for the log
    assert "state.db" in caplog.text
    for _ in range(2):
        answer = shared.post("/v1/recommend", {"user_id": "u1"}).json()
        assert answer["items"]
        assert answer["decision_id"] is None
        assert answer["degraded"]
    other.execute("ROLLBACK")
    assert shared.post("/v1/recommend", {"user_id": "u1"}).json()["decision_id"]
    assert send(shared, viewed("l1", "u1", "i3", now))["accepted"] == 1


def test_a_full_disk_is_told_and_nothing_is_lost(shared, now, monkeypatch, caplog):
    def full(*_, **__):
        raise sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr("data.state.arrivals.append", full)
        response = shared.post("/v1/events", {"events": [viewed("f1", "u1", "i3", now)]})
    assert response.status_code == 503
    assert "disk space" in caplog.text
    assert send(shared, viewed("f1", "u1", "i3", now))["accepted"] == 1


def test_after_sync_and_check_the_same_events_are_not_counted_twice(client, workspace, now):
    send(client, viewed("s1", "synced", "i25", now), viewed("s2", "synced", "i26", now))
    before = client.post("/v1/recommend", {"user_id": "synced", "k": 5}).json()["items"]
    sync(workspace, client.engine.state)
    check(workspace)
    client.wait(lambda: client.engine.view.past.until.events == 2)
    assert client.engine.view.past.of_user("synced").item.size == 2
    after = client.post("/v1/recommend", {"user_id": "synced", "k": 5}).json()["items"]
    assert [item["item_id"] for item in after] == [item["item_id"] for item in before]
    send(client, viewed("s3", "synced", "i1", now))
    # The live part holds the newest event only.
    [touches] = client.engine._touches([Who("synced")], client.engine.view)
    assert [touch.item_id for touch in touches] == ["i1"]


def test_what_was_done_between_a_snapshot_and_a_check_stays_in_the_features(client, workspace, now):
    def viewed_lately():
        frame, _ = client.engine.profiles.of(["u1"])
        return frame["product_viewed_1d"].tolist()

    assert viewed_lately() != [2.0]
    send(client, viewed("b1", "u1", "i25", now), viewed("b2", "u1", "i26", now))
    client.wait(lambda: viewed_lately() == [2.0])
    sync(workspace, client.engine.state)
    check(workspace)
    client.wait(lambda: client.engine.view.past.until.events == 2)
    assert viewed_lately() == [2.0]
    opened = client.engine.profiles
    build(workspace)
    client.wait(lambda: client.engine.profiles is not opened)
    assert viewed_lately() == [2.0]


@pytest.mark.usefixtures("registry")
def test_features_that_were_not_built_are_told_and_taken_over_once_they_are(shop, tmp_path):
    folder = shutil.copytree(shop, tmp_path / "copy", ignore=shutil.ignore_patterns("snapshots"))
    engine = Engine(Workspace.open(folder))
    engine.load()
    assert "attune features" in engine.status.troubles["features"]
    assert "attune features" in engine.score(ScoreAsk(user_ids=["u1"])).users[0].scores["churn"].note
    build(Workspace.open(folder))
    engine.refresh_models()
    assert "features" not in engine.status.troubles
    assert engine.score(ScoreAsk(user_ids=["u1"])).users[0].lifecycle_stage is not None


def away_once(monkeypatch, where, name):
    """The state cannot be read the first time that this thread asks: servers of other tests may ask beside it."""
    real, here, asked = getattr(where, name), threading.get_ident(), []

    def first_away(*args, **options):
        if threading.get_ident() == here and not asked:
            asked.append(name)
            raise StateUnavailableError("locked")
        return real(*args, **options)

    monkeypatch.setattr(where, name, first_away)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("room", ["offering", "varying"])
def test_a_champion_that_came_while_the_state_was_away_is_taken_over_later(workspace, monkeypatch, room):
    engine = Engine(workspace)
    engine.load()
    new = Champion(OFFERS, 7, SimpleNamespace()) if room == "offering" else Champion(VARIANTS, 7, VariantModel())
    changed = iter([True, False])
    monkeypatch.setattr(engine.champions, "refresh", lambda: next(changed))
    engine.champions.current = {**engine.champions.current, new.name: new}
    away_once(monkeypatch, sys.modules[f"serving.{room}"], "changed")
    with pytest.raises(StateUnavailableError):
        engine.refresh_models()
    engine.refresh_models()
    assert getattr(engine, room).champion is new
    engine.state.close()


@pytest.mark.usefixtures("registry")
def test_tables_that_were_checked_while_the_state_was_away_are_taken_over_later(workspace, monkeypatch):
    engine = Engine(workspace)
    engine.load()
    users = pd.DataFrame({"user_id": ["u1", "just imported"], "country": ["DE", "AT"]})
    users.to_parquet(workspace.tables_dir / "users.parquet", index=False)
    check(workspace)
    people = engine.people
    away_once(monkeypatch, engine, "_troubles_of_state")
    with pytest.raises(StateUnavailableError):
        engine.refresh_models()
    assert engine.people is people
    assert "StateUnavailableError" in engine.status.troubles["tables"]
    engine.refresh_models()
    assert engine.people is not people
    assert "tables" not in engine.status.troubles
    engine.state.close()


def test_what_a_visitor_did_while_the_state_was_away_is_in_the_features_later(workspace, monkeypatch, now):
    state = State.of(workspace)
    profiles = Profiles(workspace, workspace.checked, state, Watermarks())
    signed_in = {"event": "signed_in", "anonymous_id": "tab", "user_id": "vera"}
    seen = {"event": "product_added", "anonymous_id": "tab", "item_id": "i7"}
    for number, event in enumerate((signed_in, seen)):
        if number:
            profiles.refresh()
            away_once(monkeypatch, profiles, "_became")
        with state.writing() as connection:
            row = {**event, "event_id": f"{number}", "occurred_at": now}
            sort_events([row], now=datetime.now(UTC), max_clock_skew_minutes=60).store(connection)
    with pytest.raises(StateUnavailableError):
        profiles.refresh()
    profiles.refresh()
    frame, _ = profiles.of(["vera"])
    assert frame["cart_items"].tolist() == [1]
    state.close()


def test_what_a_visitor_of_two_did_is_news_of_whoever_was_named_first(workspace, now):
    at = [START, START + pd.Timedelta(days=1)]
    named = pd.DataFrame({"anonymous_id": "tab", "user_id": ["ann", "bob"], "at": at})
    named.to_parquet(workspace.tables_dir / "identities.parquet", index=False)
    check(workspace)
    state = State.of(workspace)
    profiles = Profiles(workspace, workspace.checked, state, Watermarks.of(workspace.checked))
    with state.writing() as connection:
        row = {"event": "product_added", "anonymous_id": "tab", "item_id": "i7", "event_id": "1", "occurred_at": now}
        sort_events([row], now=datetime.now(UTC), max_clock_skew_minutes=60).store(connection)
    assert "ann" in profiles.newer(["ann"])
    assert "ann" in profiles.newer(["ann", "bob"])
    state.close()


@pytest.mark.usefixtures("registry")
def test_a_live_attribute_of_another_kind_than_its_column_is_told(workspace):
    users = pd.DataFrame({"user_id": ["u1", "u2"], "points": [1.0, 2.0]})
    users.to_parquet(workspace.tables_dir / "users.parquet", index=False)
    check(workspace)
    engine = Engine(workspace)
    engine.load()
    for value in ("3", "many"):
        assert "attributes" not in engine.status.troubles
        with engine.state.writing() as connection:
            upsert(
                connection, "users", [fit(TABLES["users"], {"user_id": "u1", "points": value})], at=datetime.now(UTC)
            )
        engine.refresh_profiles()
    assert "users.points (no DOUBLE)" in engine.status.troubles["attributes"]
    engine.state.close()


def test_a_backup_in_the_place_of_the_state_is_told_until_the_tables_follow_it(client, workspace, now):
    def backed_up(*rows):
        state = State.open(f"sqlite:///{workspace.path / 'backup.db'}")
        with state.writing() as connection:
            sort_events(rows, now=datetime.now(UTC), max_clock_skew_minutes=60).store(connection)
        return state

    engine, live = client.engine, client.engine.state
    send(client, *(viewed(f"b{i}", "ann", "i25", now) for i in (1, 2, 3)))
    sync(workspace, live)
    check(workspace)
    client.wait(lambda: engine.view.past.until.events == 3)
    assert "state" not in client.get("/readyz").json()["troubles"]
    for rows in ([viewed("b1", "ann", "i25", now)], [viewed(f"n{i}", "ann", "i25", now) for i in (2, 3, 4)]):
        engine.state = backed_up(*rows)  # older, and then with other rows of the same numbers
        engine._load_checked()
        assert "have events that the live state lacks" in client.get("/readyz").json()["troubles"]["state"]
    sync(workspace, engine.state)
    check(workspace)
    client.wait(lambda: "state" not in client.get("/readyz").json()["troubles"])
    live.close()


@pytest.mark.parametrize("trouble", ["profiles", "catalogue"])
def test_a_revoked_key_is_refused_within_seconds_whatever_else_takes_long_or_fails(shared, monkeypatch, trouble):
    done, begun = threading.Event(), threading.Event()

    def stuck(*_):
        begun.set()
        if trouble == "profiles":
            done.wait(60)
        raise DataError("no such rows")

    monkeypatch.setattr(*{"profiles": (Profiles, "refresh"), "catalogue": (Catalogue, "refreshed")}[trouble], stuck)
    assert begun.wait(10)
    key = keys.create(shared.engine.state, role="app")
    try:
        shared.wait(lambda: shared.post("/v1/recommend", {}, key=key).status_code == 200, 3)
        keys.revoke(shared.engine.state, key.split("_")[1])
        shared.wait(lambda: shared.post("/v1/recommend", {}, key=key).status_code == 401, 3)
    finally:
        done.set()


def test_a_revoked_key_is_refused_within_seconds(shared):
    key = keys.create(shared.engine.state, role="app")
    shared.wait(lambda: shared.post("/v1/recommend", {}, key=key).status_code == 200, 3)
    keys.revoke(shared.engine.state, key.split("_")[1])
    shared.wait(lambda: shared.post("/v1/recommend", {}, key=key).status_code == 401, 3)
