"""The simulated shop: it repeats itself, fits the contract, looks like a shop, and tells no truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.checks import CHECKS
from data.contract import TABLES
from data.errors import DataError, WorkspaceError
from data.tables import Tables
from data.workspace import Workspace
from simulation import shop as room
from simulation.catalogue import offers_table
from simulation.dirt import FAULTS, soil
from simulation.shop import simulate
from simulation.world import World


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.suffix in {".parquet", ".json"}
    }


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 150)  # several batches, finished in any order
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, users=400, days=40, seed=seed)
    a, b, c = (_files(tmp_path / name) for name in "abc")
    assert a == b
    assert not {name for name in a if name.endswith("events.parquet") and a[name] == c[name]}


def test_simulating_again_replaces_the_shop(tmp_path):
    simulate(tmp_path, users=100, days=40)
    made = simulate(tmp_path, users=50, days=40)
    assert Tables.open(tmp_path / "tables")["users"].user_id.nunique().execute() <= made.rows["users"]
    assert pq.read_table(tmp_path / "truth" / "people.parquet").num_rows == 50


def test_tables_that_were_not_simulated_are_never_replaced(tmp_path):
    workspace = Workspace.create(tmp_path)
    (workspace.tables_dir / "orders.csv").write_text("order_id\n1\n")
    with pytest.raises(WorkspaceError, match="not simulated"):
        simulate(workspace, users=50, days=40)
    assert (workspace.tables_dir / "orders.csv").exists()


@pytest.mark.parametrize(("users", "days"), [(0, 100), (10, 5)])
def test_a_shop_without_users_or_time_is_refused(tmp_path, users, days):
    with pytest.raises(DataError, match="at least"):
        simulate(tmp_path, users=users, days=days)


def test_a_shop_of_one_customer_works(tmp_path):
    assert simulate(tmp_path, users=1, days=30).users == 1


def test_every_table_has_the_contracts_columns_and_types_and_people_a_name_beside(shop):
    tables = shop.tables
    for name, spec in TABLES.items():
        assert tables.has(name, *spec.required), name
        file = shop.tables_dir / f"{name}.parquet"
        beside = {"first_name"} if name == "users" else set()
        assert set(pq.read_schema(file).names) - set(spec.by_name) == beside, name
        raw = tables.backend.read_parquet(str(file)).drop(*beside)
        for column, kind in raw.schema().items():
            assert kind.copy(nullable=True) == spec.schema[column].copy(nullable=True) or "timestamp" in str(kind), (
                column
            )


def test_the_check_finds_the_shop_fit_and_the_dirt_it_was_given(audited, shop, sql):
    assert audited.fit, audited.failures
    assert audited.lookalikes
    labels = {(c.table, c.label) for c in CHECKS if c.refuse}
    for table, column, reason, rows in sql('SELECT "table", "column", reason, count(*) FROM truth_dirty GROUP BY ALL'):
        label = f"{column}: {reason}"
        if (table, label) in labels:
            bad = sql(
                f"SELECT count(*) FROM '{shop.quarantine_dir}/{table}.parquet' WHERE list_contains(reasons, '{label}')"
            )
            assert bad[0][0] >= rows, (table, label)


def test_only_dirty_rows_are_refused(audited, shop, sql):
    dirty = dict(sql('SELECT "table", count(*) FROM truth_dirty GROUP BY 1'))
    for file in shop.quarantine_dir.glob("*.parquet"):
        assert pq.read_metadata(file).num_rows <= dirty[file.stem], file.stem


def test_there_is_dirt_of_every_kind_that_a_parquet_file_can_hold():
    unreadable = {
        "not a time",
        "not a number",
        "not a whole number",
        "not true or false",
        "not a list",
        "not a list of numbers",
        "parted by ; or |, not by commas",  # a list has no need of either: such a row comes of a CSV file
        "kept for what is of kind none",  # the id of a row that is there already
    }
    known = {(table, f.column, f.reason) for table, faults in FAULTS.items() for f in faults}
    for one in CHECKS:
        if one.reason not in unreadable:
            assert (one.table, one.column, one.reason) in known


def test_a_table_of_a_few_rows_stays_clean():
    offers = {"offers": offers_table(World.load())}
    for seed in range(200):
        soiled, dirty = soil(offers, np.random.default_rng(seed), share=0.004, batch="c")
        assert (soiled["offers"].num_rows, dirty.num_rows) == (offers["offers"].num_rows, 0)


def test_dirty_rows_are_few(sql, shop):
    rows = sum(pq.read_metadata(file).num_rows for file in shop.tables_dir.glob("*.parquet"))
    assert 0.002 < sql("SELECT count(*) FROM truth_dirty")[0][0] / rows < 0.008


def test_most_people_told_their_first_name_and_keep_it(sql):
    [(named, names, changed)] = sql("""
        SELECT avg(CAST(name IS NOT NULL AS INT)), count(DISTINCT name), sum(CAST(several > 1 AS INT)) FROM (
            SELECT min(first_name) AS name, count(DISTINCT first_name) AS several FROM users
            WHERE user_id LIKE 'u%' GROUP BY user_id)""")
    assert named == pytest.approx(0.9, abs=0.02)
    assert (names, changed) == (28, 0)


def test_visits_narrow_from_view_to_order(sql):
    counts = dict(sql("SELECT event, count(*) FROM events GROUP BY 1"))
    path = [counts[e] for e in ("product_viewed", "product_added", "checkout_started", "order_completed")]
    assert path == sorted(path, reverse=True)
    assert 0.01 < counts["order_completed"] / sum(counts.values()) < 0.03


def test_an_order_is_its_lines_and_its_event(sql):
    apart = sql("""
        WITH lines AS (
            SELECT 'v' || substr(order_id, 2) AS session_id, sum(quantity * unit_price - discount) AS paid
            FROM orders WHERE order_id LIKE 'o%' AND user_id IS NOT NULL GROUP BY 1)
        SELECT count(*), avg(CAST(abs(paid - value) > 0.02 AS INT)) FROM lines JOIN events USING (session_id)
        WHERE event = 'order_completed' AND event_id LIKE 'e%'""")
    assert apart[0][0] > 500
    assert apart[0][1] < 0.01  # but for the dirty ones


def test_a_few_items_take_much_and_the_many_take_the_rest(sql):
    views = np.array(
        [
            n
            for (n,) in sql(
                "SELECT count(*) FROM events WHERE event = 'product_viewed' GROUP BY item_id ORDER BY 1 DESC"
            )
        ]
    )
    top = views[: len(views) // 20].sum() / views.sum()
    assert 0.15 < top < 0.6
    assert len(views) > 1000


def test_evenings_are_busier_than_nights_and_the_weekend_than_tuesday(sql):
    hours = dict(sql("SELECT hour(occurred_at), count(*) FROM events WHERE event_id LIKE 'e%' GROUP BY 1"))
    assert hours[19] > 2 * hours[3]
    days = dict(
        sql("""SELECT dayofweek(occurred_at), count(*) FROM events
                       WHERE channel IN ('web', 'app') AND event_id LIKE 'e%' GROUP BY 1""")
    )
    assert days[0] > days[2]


def test_spring_sells_seeds(sql):
    share = dict(
        sql("""SELECT month(occurred_at), avg(CAST(category = 'Seeds' AS INT)) FROM events
                        WHERE event = 'product_viewed' GROUP BY 1""")
    )
    assert share[4] > share[3] * 0.9
    assert share[4] > share[6]


def test_some_orders_are_guests_and_some_lines_come_back(sql):
    guests, back = sql("SELECT avg(CAST(user_id IS NULL AS INT)), avg(CAST(quantity < 0 AS INT)) FROM orders")[0]
    assert 0.01 < guests < 0.12
    assert 0.02 < back < 0.09


def test_visitors_are_anonymous_until_they_sign_up(sql):
    early = sql("""SELECT count(*) FROM events JOIN users USING (user_id)
                   WHERE occurred_at < created_at - INTERVAL 1 SECOND AND event_id LIKE 'e%' AND user_id LIKE 'u%'""")
    assert early[0][0] == 0
    known_later = sql(
        """SELECT count(*) FROM events JOIN identities USING (anonymous_id)
           WHERE occurred_at < "at" AND "at" < '2027-01-01'"""
    )
    assert known_later[0][0] > 100


def test_nothing_happens_outside_the_simulated_days(sql):
    for table, column in (
        ("events", "occurred_at"),
        ("orders", "occurred_at"),
        ("messages", "sent_at"),
        ("outcomes", '"at"'),
    ):
        bounds = sql(f"""SELECT min({column}) >= '2026-03-03', max({column}) < '2026-07-01' FROM {table}
                         WHERE {column} BETWEEN '2000-01-01' AND '2050-01-01'""")
        assert bounds[0][1], (table, column)


def test_no_item_is_seen_before_its_release(sql):
    early = sql("""SELECT count(*) FROM events JOIN (SELECT item_id, min(created_at) AS released FROM items
                       WHERE created_at > '2000-01-01' AND item_id LIKE 'i%' GROUP BY 1) USING (item_id)
                   WHERE occurred_at < released AND event_id LIKE 'e%'""")
    assert early[0][0] == 0


def test_rows_arrive_after_they_happen_and_some_late(sql):
    late = sql("""SELECT min(received_at - occurred_at) >= INTERVAL 0 SECOND,
                         avg(CAST(received_at - occurred_at > INTERVAL 1 HOUR AS INT))
                  FROM events WHERE event_id LIKE 'e%'""")
    assert late[0][0]
    assert 0.01 < late[0][1] < 0.03


def test_prices_and_tiers_have_a_history(sql):
    assert (
        sql("SELECT count(*) FROM (SELECT item_id FROM items GROUP BY 1 HAVING count(DISTINCT price) > 1)")[0][0] > 100
    )
    assert (
        sql("SELECT count(*) FROM (SELECT user_id FROM users GROUP BY 1 HAVING count(DISTINCT member_tier) > 1)")[0][0]
        > 50
    )


def test_people_reorder_what_they_like(sql):
    again = sql("""SELECT 1 - count(DISTINCT (user_id, item_id)) / count(*) FROM orders
                   WHERE quantity > 0 AND user_id IS NOT NULL""")
    assert again[0][0] > 0.05


def test_no_table_reveals_the_truth(shop):
    hidden = set(pq.read_schema(shop.path / "truth" / "people.parquet").names) - {"user_id", "country", "arm"}
    hidden |= set(pq.read_schema(shop.path / "truth" / "items.parquet").names) - {"item_id"}
    for file in shop.tables_dir.glob("*.parquet"):
        assert not hidden & set(pq.read_schema(file).names), file.stem


def test_the_truth_lies_outside_the_tables(shop):
    assert not list(shop.tables_dir.rglob("truth*"))
    assert (shop.path / "truth" / "world.json").is_file()
    assert World.model_validate_json((shop.path / "truth" / "world.json").read_text()) == World.load()
