"""What is shown where: placements, complements, filters and the reasons for it, asked as an app asks."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from data.errors import WorkspaceError
from data.settings import Placement, Recommender
from data.state.schema import tables
from features.interactions import interactions
from features.snapshots import span
from models.recommenders.blend import Blend
from models.recommenders.popularity import Popularity
from models.recommenders.repeat_purchase import RepeatPurchase
from serving.champions import Champion
from serving.placements import Placements
from serving.recommending import recommend, steps_of
from serving.schemas import RecommendAsk


def ask(client, **body):
    answer = client.post("/v1/recommend", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer):
    return [item["item_id"] for item in answer["items"]]


def decision(client, answer):
    with client.engine.state.reading() as connection:
        table = tables["decisions"]
        return connection.execute(sa.select(table).where(table.c.decision_id == answer["decision_id"])).one()


def test_complements_go_with_the_cart_and_name_the_item_that_moves_them_most(shared):
    answer = ask(shared, placement="cart", k=2, context={"cart": ["i5", "i6"]})
    assert set(ids(answer)) == {"i30", "i31"}
    assert {item["source"] for item in answer["items"]} == {"complements"}
    partners = {"i30": "i5", "i31": "i6"}
    for item in answer["items"]:
        partner = partners[item["item_id"]]
        assert item["reason"] == f"often bought with Item {partner[1:]}"
        fallen = {}
        for removed in ("i5", "i6"):
            cart = [other for other in ("i5", "i6") if other != removed]
            left = ask(shared, placement="cart", k=40, context={"cart": cart})["items"]
            scores = {found["item_id"]: found["score"] for found in left if found["source"] == "complements"}
            fallen[removed] = item["score"] - scores.get(item["item_id"], 0.0)
        assert max(fallen, key=fallen.get) == partner


def test_what_is_in_the_cart_on_the_page_or_excluded_is_never_shown(shared):
    context = {"cart": ["i5", "i30"], "viewing": "i25"}
    for placement in ("default", "cart", "mixed", "fresh", "listed", "curious", "again"):
        found = ids(ask(shared, user_id="u1", placement=placement, k=40, context=context, exclude=["i7", "i9"]))
        assert found
        assert not {"i5", "i30", "i25", "i7", "i9", "i2"} & set(found), placement


def test_a_page_without_a_cart_shows_what_goes_with_its_item(shared):
    answer = ask(shared, placement="cart", k=1, context={"viewing": "i5"})
    assert answer["items"][0]["reason"] == "often bought with Item 5"


def test_no_category_takes_more_than_its_share_of_any_beginning(shared):
    assert {int(item[1:]) // 20 for item in ids(ask(shared, user_id="u1", k=6))} == {1}
    mixed = [int(item[1:]) // 20 for item in ids(ask(shared, user_id="u1", placement="mixed", k=6))]
    for n in range(1, 7):
        assert max(mixed[:n].count(half) for half in (0, 1)) <= (n + 1) // 2


def test_a_new_item_is_lifted_and_says_so(shared):
    plain = ids(ask(shared, k=5))
    assert "i19" not in plain
    item = ask(shared, placement="fresh", k=5)["items"][0]
    assert (item["item_id"], item["reason"]) == ("i19", "new in tea")


def test_promoted_items_take_exactly_their_share_and_are_marked(shared):
    items = ask(shared, placement="paid", k=5)["items"]
    assert [item["source"] == "promoted" for item in items] == [False, False, True, False, True]
    assert {item["item_id"] for item in items if item["source"] == "promoted"} == {"i38", "i39"}
    assert {item["reason"] for item in items if item["source"] == "promoted"} == {"promoted"}
    # Of the listed ones i2 is sold out and one is not known.
    listed = ask(shared, placement="listed", k=8, filter="category == 'tea'")["items"]
    assert {item["item_id"] for item in listed if item["source"] == "promoted"} <= {"i7", "i8"}
    assert {"i7", "i8"} <= {item["item_id"] for item in listed}


def test_the_chance_of_what_was_drawn_is_logged(shared):
    drawn = set()
    for _ in range(12):
        answer = ask(shared, placement="curious", k=4)
        stored = decision(shared, answer)
        assert stored.chosen == ids(answer)
        for item, probability in zip(answer["items"], stored.probability, strict=True):
            assert probability == pytest.approx(0.05 if item["source"] == "explore" else 0.55)
        drawn |= {item["source"] for item in answer["items"]}
    assert drawn == {"popularity", "explore"}


def test_a_placement_that_is_not_declared_is_like_the_default_and_kept(shared):
    answer = ask(shared, user_id="u1", placement="nowhere", k=5)
    assert ids(answer) == ids(ask(shared, user_id="u1", k=5))
    assert decision(shared, answer).placement == "nowhere"


def test_a_placement_may_show_again_what_was_seen_and_has_a_filter_of_its_own(shared):
    past = shared.engine.view.past
    seen = set(past.items.ids(past.of_user("u1").item))
    assert not seen & set(ids(ask(shared, user_id="u1", k=40)))
    assert seen & set(ids(ask(shared, user_id="u1", placement="again", k=40)))
    cheap = ids(ask(shared, placement="cheap", k=40, filter="price > 5"))
    assert cheap
    assert all(5 < int(item[1:]) + 1 < 10 for item in cheap)


def test_a_filter_that_leaves_nothing_gives_nothing_and_says_why(shared):
    answer = ask(shared, filter="category == 'hats'")
    assert answer["items"] == []
    assert answer["note"] == "No item is available for which category == 'hats' holds."
    one = ask(shared, filter="price == 10", context={"cart": ["i9"]})
    assert one["items"] == []
    assert "is in the cart, on the page, excluded, or was seen before" in one["note"]
    assert ask(shared)["note"] is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("price <", "column 8"),
        ("category == 'tea' price", "column 1"),
        ("price < 3; drop table items", "column 10"),
        ("shade == 'red'", "'shade' is no column of items (column 1)"),
        ("price < 3 and price.real > 1", "(column 15)"),
    ],
)
def test_a_filter_that_is_no_expression_is_told_with_its_place(shared, text, told):
    for path, body in (("/v1/recommend", {}), ("/v1/similar", {"item_id": "i1"})):
        answer = shared.post(path, {**body, "filter": text})
        assert answer.status_code == 400
        assert told in answer.json()["error"]["message"]


def test_similar_items_can_be_filtered(shared):
    answer = shared.post("/v1/similar", {"item_id": "i1", "filter": "price > 30", "k": 3}).json()
    assert len(answer["items"]) == 3
    assert all(int(item["item_id"][1:]) + 1 > 30 for item in answer["items"])


def test_a_filter_reads_as_people_write_it(shared):
    tea = ids(ask(shared, k=40, filter='category == "tea" and price < 20 and available'))
    assert tea
    assert set(tea) == set(ids(ask(shared, k=40, filter="category in ['tea'] and not price >= 20")))
    for truth in ("True", "true"):
        assert ids(ask(shared, k=40, filter=f"available == {truth} and category == 'tea' and price < 20")) == tea
    assert ids(ask(shared, k=40, filter="available == false")) == []


def test_a_filter_may_name_the_columns_that_the_settings_name(shared):
    both = ids(ask(shared, k=40, filter="organic and colour == 'red'"))
    assert set(both) == {"i0", "i20"}
    assert set(ids(ask(shared, k=40, filter="organic == true and colour in ('red', 'green')"))) == set(both)
    assert "i3" not in ids(ask(shared, k=40, filter="organic == false or colour == 'Blue'"))
    sent = {"item_id": "sent", "organic": True, "colour": "violet"}
    odd = {"item_id": "odd", "organic": "yes", "colour": 7}
    shared.post("/v1/tables", {"items": [sent, odd]}, key=shared.admin)
    shared.wait(lambda: "odd" in shared.engine.view.catalogue.items, 2)
    assert ids(ask(shared, filter="organic and colour == 'violet'")) == ["sent"]
    assert "odd" not in ids(ask(shared, k=200, filter="organic or not organic == 0 and colour != ''"))
    refused = shared.post("/v1/recommend", {"filter": "colour > 3"})
    assert "colour is text, 3 is a number" in refused.json()["error"]["message"]


def test_an_item_that_does_not_say_whether_it_is_available_is(shared):
    shared.post("/v1/tables", {"items": [{"item_id": "silent", "price": 77}]}, key=shared.admin)
    shared.wait(lambda: "silent" in shared.engine.view.catalogue.items, 2)
    assert ids(ask(shared, filter="available and price == 77")) == ["silent"]


def test_a_category_beyond_the_best_candidates_is_found_where_variety_asks_for_it(shared, monkeypatch):
    monkeypatch.setattr("serving.recommending.SPARE", 0)
    mixed = [int(item[1:]) // 20 for item in ids(ask(shared, user_id="u1", placement="mixed", k=6))]
    assert sorted(mixed) == [0, 0, 0, 1, 1, 1]


def test_a_user_who_has_everything_is_told_why_there_is_nothing(shared, now):
    event = {"event": "product_viewed", "user_id": "greedy", "occurred_at": now}
    events = [{**event, "event_id": f"greedy{n}", "item_id": f"i{n}"} for n in range(40)]
    shared.post("/v1/events", {"events": events})
    told = {"filter": "price <= 40"}
    for placement in ("default", "cart", "mixed", "fresh", "paid", "curious"):
        answer = ask(shared, user_id="greedy", placement=placement, **told)
        assert answer["items"] == []
        assert "was seen before" in answer["note"]
    assert len(ids(ask(shared, user_id="greedy", placement="again", k=200, **told))) == 39


def test_ten_thousand_events_of_one_person_are_as_good_as_any(shared, now):
    event = {"event": "product_viewed", "user_id": "busy", "occurred_at": now}
    for start in range(0, 10_000, 1000):
        rows = [{**event, "event_id": f"busy{n}", "item_id": f"i{20 + n % 5}"} for n in range(start, start + 1000)]
        assert shared.post("/v1/events", {"events": rows}).json()["accepted"] == 1000
    assert {int(item[1:]) // 20 for item in ids(ask(shared, user_id="busy", k=5))} == {1}


def test_an_item_that_no_model_knows_yet_is_shown_where_nothing_else_fits(client):
    rows = [{"item_id": "hat", "name": "Hat", "category": "hats"}]
    client.post("/v1/tables", {"items": rows}, key=client.admin)
    client.wait(lambda: "hat" in client.engine.view.catalogue.items, 2)
    [item] = ask(client, filter="category == 'hats'")["items"]
    assert (item["item_id"], item["source"], item["reason"]) == ("hat", "new", "new in hats")


def test_a_stranger_gets_what_is_popular_in_the_category_on_the_page(client, registry):
    del registry.champions["recommender"]
    client.wait(lambda: client.engine.view.champion is None)
    items = ask(client, k=10, context={"viewing": "i33"})["items"]
    assert {item["reason"] for item in items[:5]} == {"popular in cups"}
    assert {item["reason"] for item in ask(client, k=10)["items"]} == {"popular right now"}


@pytest.mark.parametrize("model", [Popularity(), RepeatPurchase(), Blend(members=[{"model": "repeat"}], weights=[1])])
def test_what_the_page_or_the_cart_lifts_is_told_by_a_model_that_serves_strangers_too(shared, model):
    tables = shared.engine.workspace.checked
    model.fit(interactions(tables, Recommender(), cutoff=span(tables).end, catalogue=True))
    view = replace(shared.engine.view, champion=Champion("recommender", 2, model, exclude_seen=False))

    def reasons(**context):
        asked = RecommendAsk(k=30, context=context)
        steps = steps_of(asked.context, [], {"product_viewed": 1.0, "product_added": 3.0}, datetime.now(UTC))
        placed = Placements({})["default"]
        found = recommend(view, asked, placed, steps, now=datetime.now(UTC), rng=np.random.default_rng).items
        assert {item.source for item in found} == {model.name}
        return [(int(item.item_id[1:]) >= 20, item.reason) for item in found]

    for context in ({"viewing": "i33"}, {"cart": ["i33"]}):
        told = reasons(**context)
        assert told[:5] == [(True, "popular in cups")] * 5
        assert (False, "popular in cups") not in told
    assert {reason for _, reason in reasons()} == {"popular right now"}


@pytest.mark.parametrize(
    ("who", "half"),
    [
        ({"context": {"attributes": {"country": "DE"}}}, 0),
        ({"context": {"attributes": {"country": "AT", "locale": "nobody has it"}}}, 1),
        ({"user_id": "fresh"}, 1),
        ({"user_id": "fresh", "context": {"attributes": {"country": "DE"}}}, 0),
    ],
)
def test_a_stranger_of_whom_something_is_known_gets_what_is_popular_with_their_like(shared, who, half):
    items = ask(shared, k=5, **who)["items"]
    assert {int(item["item_id"][1:]) // 20 for item in items} == {half}
    assert {(item["source"], item["reason"]) for item in items} == {("popularity", "popular with customers like you")}


def test_attributes_say_nothing_of_somebody_with_a_history_or_where_nobody_has_them(shared):
    told = {"attributes": {"country": "DE"}}
    assert ids(ask(shared, user_id="u1", k=40, context=told)) == ids(ask(shared, user_id="u1", k=40))
    nowhere = ask(shared, k=5, context={"attributes": {"country": "XX"}})["items"]
    assert [item["item_id"] for item in nowhere] == ids(ask(shared, k=5))
    assert {item["reason"] for item in nowhere} == {"popular right now"}


def test_a_stranger_with_a_page_gets_its_category_as_their_like_take_it(shared):
    page = {"viewing": "not in the catalogue", "attributes": {"country": "DE"}}
    assert {int(item[1:]) // 20 for item in ids(ask(shared, k=5, context=page))} == {0}
    added = {"item_id": "a cup", "name": "Cup", "category": "cups"}
    shared.post("/v1/tables", {"items": [added]}, key=shared.admin)
    shared.wait(lambda: "a cup" in shared.engine.view.catalogue.items, 2)
    items = ask(shared, k=20, context={"viewing": "a cup", "attributes": {"country": "DE"}})["items"]
    assert {item["reason"] for item in items} == {"popular in cups", "popular with customers like you"}
    like = shared.post("/v1/similar", {"item_id": "a cup", "k": 5}).json()["items"]
    assert {item["reason"] for item in like} == {"popular in cups"}


def test_models_are_given_what_was_done_in_its_order_with_time_and_kind(shared, now, monkeypatch):
    asked = []
    model = shared.engine.view.model
    recommend = model.recommend

    def spy(histories, *args, **more):
        asked.append(histories)
        return recommend(histories, *args, **more)

    event = {"event": "product_added", "user_id": "u3", "item_id": "i24", "occurred_at": now, "event_id": "order1"}
    assert shared.post("/v1/events", {"events": [event]}).json()["accepted"] == 1
    monkeypatch.setattr(model, "recommend", spy)
    ask(shared, user_id="u3", context={"recent": ["i21", "i22"], "cart": ["i23"], "viewing": "i20"})
    [history] = asked
    assert model.items.ids(history.item[-5:]) == ["i24", "i22", "i21", "i23", "i20"]
    kinds = [history.kinds[kind] for kind in history.kind]
    assert kinds[-5:] == ["product_added", "product_viewed", "product_viewed", "product_added", "product_viewed"]
    assert {"order", "product_viewed"} <= set(kinds[:-5])
    assert (history.at[1:] >= history.at[:-1]).all()
    assert history.at[-1] == history.now[0]
    assert 0 < history.weight[0] < 1  # old ones count less


def test_the_reason_says_what_the_person_did_that_counts_most(shared, now):
    events = [
        {"event_id": "r1", "event": "product_added", "user_id": "keen", "item_id": "i24", "occurred_at": now},
        {"event_id": "r2", "event": "product_viewed", "user_id": "keen", "item_id": "i24", "occurred_at": now},
    ]
    shared.post("/v1/events", {"events": events})
    assert ask(shared, user_id="keen", k=1)["items"][0]["reason"] == "because you added Item 24 to your cart"


def test_a_wrong_expression_of_a_placement_is_told_at_the_start():
    for rules, place in (
        (Placement(filter="colour == 'red'"), "placements.home.filter: 'colour'"),
        (Placement(promoted="price >"), "placements.home.promoted"),
        (Placement(promoted="category > 3"), "placements.home.promoted"),
    ):
        with pytest.raises(WorkspaceError, match=place):
            Placements({"home": rules})


def test_what_an_app_may_send_wrongly_is_no_fault_of_the_service(shared):
    bodies = [
        {"context": {"cart": ["x" * 512] * 100, "recent": ["\u202e💥"] * 100, "viewing": "' OR 1=1 --"}},
        {"exclude": [f"i{n}" for n in range(1000)], "k": 200},
        {"placement": "../../etc/passwd", "filter": "category == '; DROP TABLE items; --'"},
        {"placement": "cart", "k": 200, "context": {"cart": ["nothing", "i5", "i5"]}},
        {"filter": " or ".join(["price > 1"] * 75)},
        {"filter": "category == 'tea' and (price / 0 > 1 or -price < -1e300 * 1e300)"},
        {"filter": "name == '\U0001f600' or name != 'é'"},
        {"placement": "curious", "k": 200, "filter": "price == 4"},
    ]
    for body in bodies:
        answer = shared.post("/v1/recommend", body)
        assert answer.status_code in {200, 400}, (json.dumps(body)[:80], answer.text)
