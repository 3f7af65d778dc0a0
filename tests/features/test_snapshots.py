"""Snapshots: who is in them, which columns, which cutoffs, and how they are kept on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from data.errors import DataError, WorkspaceError
from data.settings import Features, Training
from data.tables import Tables
from features import snapshots
from features.online import OnlineFeatures
from features.snapshots import (
    Span,
    build,
    default_cutoffs,
    definitions_hash,
    feature_names,
    fixed_categories,
    known_people,
    lacking,
    snapshot,
    span,
    steady_features,
    stored_categories,
    training_cutoffs,
)


def test_everybody_known_in_any_table_has_one_row(frames, cutoff, messages):
    shop = Tables.from_frames(**{**frames, "messages": messages(("carl", "sms", 3, {}), ("dora", "sms", -1, {}))})
    found = snapshot(shop, cutoff, Features(), columns=["orders_life", "sent_90d"]).execute()
    assert sorted(found["user_id"]) == ["ann", "bob", "carl"]
    assert sorted(known_people(shop, cutoff).execute()["user_id"]) == ["ann", "bob", "carl"]


def test_columns_may_be_chosen_and_keep_their_values(small_shop, cutoff):
    every = snapshot(small_shop, cutoff, Features()).execute().set_index("user_id")
    some = ["spend_life", "events_7d", "country"]
    chosen = snapshot(small_shop, cutoff, Features(), columns=some).execute().set_index("user_id")
    pd.testing.assert_frame_equal(chosen.sort_index(), every.sort_index()[some])


def test_what_people_are_like_is_declared_whatever_it_is_called(small_shop):
    settings = Features(attributes=("cart_type", "visits_30d"))
    users = pd.DataFrame({"user_id": ["ann"], "country": ["AT"], "cart_type": ["a"], "visits_30d": [1.0]})
    shop = Tables.from_frames(users=users, events=small_shop["events"].execute())
    found = steady_features(shop, settings, categories=["30d"])
    assert {"leaning_30d", "cart_type", "visits_30d", "country", "days_since_event"} <= set(found)
    assert set(found) < set(feature_names(shop, settings, categories=["30d"]))
    assert not {"events_7d", "cart_items", "events_share_30d_90d"} & set(found)


def test_an_unknown_column_is_refused_with_the_nearest_name(small_shop, cutoff):
    with pytest.raises(DataError, match="did you mean 'orders_life'"):
        snapshot(small_shop, cutoff, Features(), columns=["order_life"])


def test_online_rows_equal_offline_rows(small_shop, cutoff):
    online = OnlineFeatures(small_shop, Features(), categories=["drinks"])
    offline = snapshot(small_shop, cutoff, Features(), categories=["drinks"]).to_pyarrow().to_pandas()
    offline = offline.sort_values("user_id", ignore_index=True)
    rows = {name: small_shop[name].to_pyarrow() for name in small_shop.brought}
    pd.testing.assert_frame_equal(online.compute(rows, cutoff), offline, check_exact=True)
    anns = {name: table.to_pandas() for name, table in rows.items()}
    anns = {name: frame[frame["user_id"] == "ann"] if "user_id" in frame else frame for name, frame in anns.items()}
    touched = {name: rows[name].take(frame.index.to_numpy()) for name, frame in anns.items()}
    alone = online.compute(touched, cutoff)
    pd.testing.assert_frame_equal(alone, offline[offline["user_id"] == "ann"], check_exact=True, check_dtype=False)


def test_online_needs_a_time_zone_and_ignores_what_it_was_not_compiled_for(small_shop, frames, cutoff):
    online = OnlineFeatures(Tables.from_frames(events=frames["events"]), Features())
    rows = {name: small_shop[name].to_pyarrow() for name in small_shop.brought}
    rows["events"] = rows["events"].append_column("new", rows["events"]["event"]).drop(["dwell_seconds"])
    assert tuple(online.compute(rows, cutoff).columns) == ("user_id", *online.columns)
    with pytest.raises(DataError, match="no time zone"):
        online.compute(rows, cutoff.replace(tzinfo=None))


def test_a_shop_with_events_only_and_one_with_orders_only_have_their_features(frames, cutoff):
    events_only = Tables.from_frames(events=frames["events"])
    orders_only = Tables.from_frames(orders=frames["orders"])
    assert {"product_added_7d", "orders_life", "days_since_order"} <= set(feature_names(events_only, Features()))
    assert "spend_life" in lacking(events_only, Features())
    assert {"orders_life", "spend_life"} <= set(feature_names(orders_only, Features()))
    assert lacking(orders_only, Features())["product_added_7d"] == "events"
    assert len(snapshot(events_only, cutoff, Features()).execute()) == 1
    assert len(snapshot(orders_only, cutoff, Features()).execute()) == 2


def test_nothing_to_know_people_by_is_said(cutoff):
    with pytest.raises(DataError, match="bring at least events or orders"):
        snapshot(Tables.from_frames(items=pd.DataFrame({"item_id": ["tea"]})), cutoff, Features())
    with pytest.raises(DataError, match="bring at least events or orders"):
        span(Tables.from_frames(items=pd.DataFrame({"item_id": ["tea"]})))


def test_the_hash_changes_with_a_definition_and_not_with_the_data(frames, monkeypatch):
    shop = Tables.from_frames(orders=frames["orders"], items=frames["items"])
    first = definitions_hash(shop, Features())
    assert (
        definitions_hash(Tables.from_frames(orders=frames["orders"].head(1), items=frames["items"]), Features())
        == first
    )
    assert definitions_hash(shop, Features(), categories=["drinks"]) != first
    monkeypatch.setattr("features.transactions.MINUTES_PER_DAY", 1_441)
    assert definitions_hash(shop, Features()) != first


def test_every_process_writes_the_same_sql():
    program = """
import pandas as pd
from data.settings import Features
from data.tables import Tables
from features.snapshots import definitions_hash

def empty(*columns):
    return pd.DataFrame({column: pd.Series(dtype="str") for column in columns})

shop = Tables.from_frames(
    events=empty("event_id", "user_id", "anonymous_id", "event", "occurred_at", "item_id", "category"),
    orders=empty("order_id", "line_id", "user_id", "item_id", "quantity", "unit_price", "discount", "occurred_at"),
    items=empty("item_id", "category", "brand", "price"),
    identities=empty("anonymous_id", "user_id", "at"),
)
print(definitions_hash(shop, Features(), categories=["tea"]))
"""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(hashes) == 1


def test_build_writes_a_partition_per_cutoff_and_keeps_those_that_are_whole(workspace_of, frames, cutoff, ago):
    workspace = workspace_of(orders=frames["orders"], events=frames["events"])
    first = build(workspace, [cutoff, ago(20)])
    assert [found.cutoff for found in first] == [ago(20), cutoff]
    assert [found.rows for found in first] == [2, 2]
    written = [found.path.stat().st_mtime_ns for found in first]
    frame = first[1].frame(["orders_life", "spend_life"])
    assert frame.columns.tolist() == ["user_id", "orders_life", "spend_life"]
    assert frame["user_id"].tolist() == ["ann", "bob"]
    first[0].path.unlink()
    again = build(workspace, [cutoff, ago(20)])
    assert again == first
    assert again[1].path.stat().st_mtime_ns == written[1]
    assert tuple(again[1].frame().columns) == ("user_id", *again[1].columns)


def test_build_replaces_partitions_of_other_tables(workspace_of, frames, cutoff):
    orders = frames["orders"]
    workspace = workspace_of(orders=orders)
    (before,) = build(workspace, [cutoff])
    orders.head(2).to_parquet(workspace.tables_dir / "orders.parquet")
    with pytest.raises(WorkspaceError, match="attune check"):
        build(workspace, [cutoff])
    workspace_of.mark_checked(workspace)
    (after,) = build(workspace, [cutoff])
    assert after.path == before.path
    assert (before.rows, after.rows) == (2, 1)


def test_a_build_that_breaks_off_leaves_no_part(workspace_of, frames, cutoff, monkeypatch):
    workspace = workspace_of(orders=frames["orders"])
    monkeypatch.setattr(snapshots, "compiled", lambda *_: "SELECT 1 AS user_id, error('no more')")
    with pytest.raises(Exception, match="no more"):
        build(workspace, [cutoff])
    assert not list(workspace.snapshots_dir.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2001, 1, 1, tzinfo=UTC), "before the data, which begin on 2025-12-31"),
        (datetime(2100, 1, 1, tzinfo=UTC), "in the future: the data end on 2026-02-20"),
        (datetime(2026, 2, 1), "no time zone"),  # noqa: DTZ001
    ],
)
def test_an_impossible_cutoff_is_refused(workspace_of, frames, moment, said):
    with pytest.raises(DataError, match=said):
        build(workspace_of(orders=frames["orders"]), [moment])


def test_the_list_of_categories_is_fixed_once_and_never_looks_ahead(workspace_of, events, orders, cutoff, ago):
    rows = events(*(("ann", "x", days, {"category": name}) for name, days in (("tea", 50), ("cup", 5), ("cup", 4))))
    workspace = workspace_of(events=rows)
    tables = workspace.checked
    assert stored_categories(workspace) == []
    assert fixed_categories(workspace, tables, before=ago(10)) == ["tea"]
    assert fixed_categories(workspace, tables, before=cutoff) == ["tea"]
    assert stored_categories(workspace) == ["tea"]
    columns = [found.columns for found in build(workspace, [ago(10), cutoff])]
    assert columns[0] == columns[1]
    assert "events_share_tea_90d" in columns[0]
    assert fixed_categories(workspace, tables, before=ago(49)) == ["tea"]
    stored = json.loads((workspace.snapshots_dir / "categories.json").read_text())
    assert datetime.fromisoformat(stored["before"]) == ago(49)


def test_a_cutoff_before_any_category_was_known_keeps_the_list(workspace_of, events, cutoff, ago):
    rows = events(("ann", "x", 50, {"category": None}), ("ann", "x", 20, {"category": "tea"}))
    workspace = workspace_of(events=rows)
    assert fixed_categories(workspace, workspace.checked, before=ago(10)) == ["tea"]
    assert fixed_categories(workspace, workspace.checked, before=ago(30)) == ["tea"]
    assert stored_categories(workspace) == ["tea"]


def test_cutoffs_roll_back_from_the_last_that_leaves_a_full_horizon():
    known = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC))
    found = training_cutoffs(known, Training(cutoffs=3, step_days=30), horizon_days=90)
    assert found == [known.end - timedelta(days=days) for days in (150, 120, 90)]
    assert training_cutoffs(known, Training(cutoffs=6, step_days=30), horizon_days=90) == found
    assert training_cutoffs(known, Training(), horizon_days=400) == []


def test_default_cutoffs_serve_every_label_and_end_with_the_data(workspace_of, orders):
    rows = orders(*(("ann", f"o{day}", "tea", 1, 1.0, day + 0.5, {}) for day in range(200)))
    found = default_cutoffs(workspace_of(orders=rows))
    end = datetime(2026, 3, 1, tzinfo=UTC)
    assert found == [end - timedelta(days=days) for days in (150, 120, 90, 60, 30, 0)]
