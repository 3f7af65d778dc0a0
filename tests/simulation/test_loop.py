"""The shop that goes on: weeks follow one another, people react as the truth says, and no row tells it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data.contract import TABLES
from data.errors import DataError
from data.tables import Tables, connect
from features.decided import brought
from simulation.loop import Dealt, Loop, best_rule
from simulation.world import World

USERS = 1500


def _played(world: World, choose, *, weeks: int = 3, seed: int = 0, users: int = USERS):
    """The loop, and the decisions and rows of weeks in which `choose(loop, week, asked)` gave codes."""
    loop = Loop(world, users=users, days=40, weeks=weeks, seed=seed)
    decisions, rows = [], {name: [table] for name, table in loop.history.items()}
    for week in range(weeks):
        asked = loop.asked(week)
        chosen = [loop.offers[code] for code in choose(loop, week, asked)]
        users_ = [loop.user_ids[row] for row in asked]
        ids = [f"w{week}-{user}" for user in users_]
        decisions.append(
            pd.DataFrame({
                "decision_id": ids, "user_id": users_, "at": pd.Timestamp(loop.starts(week)), "chosen": chosen,
                "row": asked,
            })
        )  # fmt: skip
        for name, table in loop.live(week, Dealt(users_, chosen, ids)).items():
            rows.setdefault(name, []).append(table)
    return loop, pd.concat(decisions, ignore_index=True), {name: pa.concat_tables(t) for name, t in rows.items()}


def _none(loop, _week, asked):
    return np.full(len(asked), len(loop.offers) - 1)


def _profit(loop, decisions, rows):
    backend = connect()
    for name, table in rows.items():
        backend.create_table(name, table.unify_dictionaries())
    tables = Tables.of(backend, {name: backend.table(name) for name in rows})
    return brought(tables, loop.starts(loop.weeks), decisions, value="profit", horizon_days=7).to_numpy()


def test_the_same_seed_lives_the_same_weeks():
    one, other = (_played(World.load(), _none, weeks=2, users=200)[2] for _ in range(2))
    assert set(one) == set(other)
    assert all(one[name].equals(other[name]) for name in one)


def test_rows_fit_the_contract_and_come_when_they_have_happened():
    loop = Loop(World.load(), users=300, days=40, weeks=2)
    asked = loop.asked(0)
    users, ids = [loop.user_ids[row] for row in asked], [f"d{row}" for row in asked]
    offers = [loop.offers[row % len(loop.offers)] for row in asked]
    for name, table in loop.history.items():
        assert set(table.column_names) - {"first_name"} <= set(TABLES[name].by_name), name
    week = loop.live(0, Dealt(users, offers, ids))
    assert {"events", "messages", "outcomes"} <= set(week)
    for name, table in week.items():
        happened = TABLES[name].happened_at
        assert set(table.column_names) - {"first_name"} <= set(TABLES[name].by_name), name
        when = pd.to_datetime(table[happened].to_pandas(), utc=True)
        assert when.max() < loop.starts(1), name
        if name in ("events", "messages", "outcomes"):
            assert when.min() >= loop.starts(0), name
    ids_before = set(loop.history["events"]["event_id"].to_pylist())
    assert not ids_before & set(week["events"]["event_id"].to_pylist())
    assert set(week["outcomes"]["decision_id"].to_pylist()) <= set(ids)


def test_what_people_bring_is_what_the_truth_says():
    rng = np.random.default_rng(3)
    strong = World.load()
    offers = tuple(o.model_copy(update={"lift": 0.9, "lift_logit": 0.0}) for o in strong.offers)
    world = strong.model_copy(update={"offers": offers})

    def evenly(loop, _week, asked):
        return np.where(
            rng.random(len(asked)) < 0.5, rng.integers(len(loop.offers) - 1, size=len(asked)), len(loop.offers) - 1
        )

    loop, decisions, rows = _played(world, evenly, weeks=4, users=3000)
    profit, treated = _profit(loop, decisions, rows), (decisions["chosen"] != "none").to_numpy()
    seen = profit[treated].mean() - profit[~treated].mean()
    error = np.hypot(*(profit[part].std() / np.sqrt(part.sum()) for part in (treated, ~treated)))
    week = np.repeat(np.arange(4), decisions.groupby("at").size())
    true = np.stack([loop.profit(k) for k in range(4)])[week, decisions["row"]]
    expected = true[treated, pd.Index(loop.offers).get_indexer(decisions["chosen"])[treated]].mean()
    assert expected > 3
    assert abs(seen - expected) < 4 * error + 0.1 * expected  # baskets are taken as exponential


@pytest.mark.parametrize("change", [{"lift": 0.0, "annoyance": 0.0}, {"lift": 0.0, "annoyance": 1.0}])
def test_worlds_without_an_effect_or_with_harm_only_run(change):
    world = World.load()
    offers = tuple(o.model_copy(update={**change, "cost": 0.0, "value": 0.0}) for o in world.offers[:2])
    loop, decisions, rows = _played(
        world.model_copy(update={"offers": offers}), lambda _l, _w, asked: asked % 3, users=300
    )
    assert loop.profit(0).shape == (300, 3)
    assert (loop.profit(0)[:, :2] <= 0).all()
    assert len(_profit(loop, decisions, rows)) == len(decisions)


def test_who_unsubscribes_is_asked_no_more():
    world = World.load()
    messages = world.messages
    channels = tuple(c.model_copy(update={"unsubscribe": 0.3}) for c in messages.channels)
    world = world.model_copy(update={"messages": messages.model_copy(update={"channels": channels})})
    loop, decisions, rows = _played(world, lambda _l, _w, asked: np.zeros(len(asked), int), users=400)
    gone = rows["consents"].to_pandas().query("not granted and purpose == 'email'")
    gone = gone[pd.to_datetime(gone["at"], utc=True) >= loop.begin]
    assert len(gone) > 10
    last = decisions[decisions["at"] == decisions["at"].max()]
    before = gone[pd.to_datetime(gone["at"], utc=True) < last["at"].iloc[0]]
    assert not set(before["user_id"]) & set(last["user_id"])


def test_weeks_are_played_one_after_another():
    loop = Loop(World.load(), users=60, days=40, weeks=2)
    with pytest.raises(DataError, match="one after another"):
        loop.live(1, Dealt([], [], []))
    with pytest.raises(DataError, match="no user"):
        loop.live(0, Dealt(["nobody"], ["none"], ["d"]))


def test_the_best_rule_looks_at_words_and_numbers():
    table = pd.DataFrame({"age": [20.0, 20.0, np.nan, 60.0], "plan": ["a", "b", "a", "b"]})
    profit = np.array([[3.0, 0.0], [-1.0, 0.0], [3.0, 0.0], [-1.0, 0.0]])
    assert best_rule(table, profit, ["ten", "none"]) == "plan == 'a' -> ten else none"


def test_what_an_offer_truly_brings_is_what_it_brings():
    told = {"kind": "gift", "cost": 2.0, "min_spend": 0.0, "category": "", "lift": 1.0, "lift_logit": 2.0,
            "moved_by": {}, "annoyance": 0.0}  # fmt: skip
    world = World.load()
    world = world.model_copy(update={"offers": (world.offers[0].model_copy(update=told),)})
    earned = []
    for offer in (0, 1):
        shop = Loop(world, users=2500, days=40, weeks=1)
        asked = shop.asked(0)
        users = [shop.user_ids[row] for row in asked]
        true = shop.profit(0)[asked, 0].sum()
        orders = shop.live(0, Dealt(users, [shop.offers[offer]] * len(users), users))["orders"].to_pandas()
        costs = shop.history["items"].to_pandas().drop_duplicates("item_id").set_index("item_id")["cost"]
        kept = orders[orders["user_id"].isin(users)]
        margin = kept["quantity"] * (kept["unit_price"] - costs.reindex(kept["item_id"]).to_numpy())
        redeemed = kept.loc[(kept["quantity"] > 0) & kept["offer_id"].notna(), "order_id"].nunique()
        earned.append(margin.sum() - 2.0 * redeemed)
    assert earned[0] - earned[1] == pytest.approx(true, rel=0.08)
