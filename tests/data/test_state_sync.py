"""`attune sync`: the state becomes tables, once, beside what was imported."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from data.contract import TABLES
from data.errors import DataError
from data.state import State
from data.state.arrivals import sort_events
from data.state.arrow import SEQ
from data.state.rows import fit
from data.state.sync import sync
from data.state.writes import append, upsert
from data.tables import Tables
from data.workspace import Workspace

NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def event(event_id, **more):
    return {"event_id": event_id, "event": "product_viewed", "user_id": "ann", "occurred_at": "2026-01-01", **more}


@pytest.fixture
def workspace(tmp_path, state_url):
    made = Workspace.create(tmp_path)
    with made.settings_file.open("a") as file:
        file.write(f'[state]\nurl = "{state_url}"\n')
    return made


@pytest.fixture
def state(workspace):
    opened = State.open(workspace.state_url)
    yield opened
    opened.close()


def store(state, *rows):
    with state.writing() as connection:
        sort_events(rows, now=NOW, max_clock_skew_minutes=60).store(connection)


def ids(workspace):
    return sorted(Tables.open(workspace.tables_dir)["events"].event_id.execute())


def files(workspace):
    return {path: path.read_bytes() for path in workspace.tables_dir.rglob("*") if path.is_file()}


def test_an_empty_state_leaves_the_tables_alone(workspace, state):
    pd.DataFrame([event("e0")]).to_parquet(workspace.tables_dir / "events.parquet")
    before = files(workspace)
    assert sync(workspace, state).rows == {}
    assert files(workspace) == before


def test_the_same_state_gives_the_same_tables(workspace, state):
    store(state, *(event(f"e{i}", colour="red") for i in range(20)))
    sync(workspace, state)
    before = files(workspace)
    sync(workspace, state)
    assert files(workspace) == before


def test_consents_are_synced_twice(workspace, state):
    with state.writing() as connection:
        said = {"user_id": "ann", "purpose": "email", "granted": True, "at": NOW.isoformat()}
        append(connection, "consents", [fit(TABLES["consents"], said)])
    for _ in range(2):
        assert sync(workspace, state).rows["consents"] == 1


def test_rows_of_another_state_are_not_written_over(workspace, state, tmp_path):
    store(state, event("e1"), event("e2"))
    sync(workspace, state)
    before = files(workspace)
    other = State.open(f"sqlite:///{tmp_path / 'other.db'}")
    store(other, event("e3"))
    with pytest.raises(DataError, match=r"events/state.parquet has 2 rows, and this state has none of them.*state.url"):
        sync(workspace, other)
    assert files(workspace) == before
    store(other, event("e1"))  # as a backup, or a copy, has it
    done = sync(workspace, other)
    assert (done.rows["events"], done.gone["events"]) == (2, 1)
    other.close()


def test_a_table_of_which_the_state_has_nothing_follows_it_unless_the_state_is_empty(workspace, state, tmp_path):
    bought = event("e2", event="order_completed", products=[{"item_id": "tea", "quantity": 1}])
    store(state, event("e1"), bought)
    sync(workspace, state)
    before = files(workspace)
    other = State.open(f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(DataError, match="and this state has none of them"):
        sync(workspace, other)
    assert files(workspace) == before
    store(other, event("e1"))  # a backup of before anything was bought
    done = sync(workspace, other)
    assert (done.gone["orders"], done.rows["orders"]) == (1, 0)
    assert not (workspace.tables_dir / "orders" / "state.parquet").exists()
    other.close()


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_imported_rows_stay_and_are_not_doubled(workspace, state, kind):
    imported = pd.DataFrame([event("e1", size=1), event("e2", size=2)])
    path = workspace.tables_dir / f"events.{kind}"
    if kind == "parquet":
        imported.to_parquet(path)
    elif kind == "csv":
        imported.to_csv(path, index=False)
    else:
        imported.to_json(path, orient="records", lines=True)
    store(state, event("e2", size="L"), event("e3", size="M"))
    for _ in range(2):
        done = sync(workspace, state)
        assert (done.rows["events"], done.already_imported["events"]) == (1, 1)
        assert ids(workspace) == ["e1", "e2", "e3"]
    assert Tables.open(workspace.tables_dir)["events"].occurred_at.count().execute() == 3


def test_attributes_beside_a_large_import(workspace, state):
    """DuckDB 2.0 on two threads gave up where attributes were read straight from what the import does not have."""
    imported = pd.DataFrame({"event_id": [f"i{i}" for i in range(300_000)]})
    imported.assign(**event("")).assign(event_id=imported.event_id).to_parquet(workspace.tables_dir / "events.parquet")
    store(state, event("a"), event("b", size="L"), event("c"), event("d", size="M", colour="red"), event("e", size="L"))
    assert sync(workspace, state).rows["events"] == 5
    written = pd.read_parquet(workspace.tables_dir / "events" / "state.parquet").set_index("event_id")
    assert written["size"].dropna().to_dict() == {"b": "L", "d": "M", "e": "L"}


def test_an_attribute_keeps_the_kind_that_it_was_imported_with(workspace, state, caplog):
    imported = pd.DataFrame([event("e1", size=1, colour="red", empty=None)])
    imported.to_parquet(workspace.tables_dir / "events.parquet")
    store(state, event("e2", size="L", colour=7), event("e3", size=3.5, colour="blue", empty="no more"))
    sync(workspace, state)
    rows = Tables.open(workspace.tables_dir)["events"].order_by("event_id").execute()
    assert rows["size"].tolist()[::2] == [1.0, 3.5]
    assert rows["size"].isna().tolist() == [False, True, False]
    assert rows["colour"].tolist() == ["red", "7", "blue"]
    assert rows["empty"].tolist()[-1] == "no more"
    assert "events.size: 1 values of the state are left out, which are no DOUBLE" in caplog.text


def test_tables_in_a_duckdb_file_are_kept(workspace, state):
    import duckdb

    with duckdb.connect(workspace.tables_dir / "shop.duckdb") as database:
        database.execute("create table events as select 'e1' event_id, 'page_viewed' event, now() occurred_at")
    store(state, event("e2"))
    sync(workspace, state)
    sync(workspace, state)
    assert ids(workspace) == ["e1", "e2"]


def test_a_new_import_after_a_sync_takes_the_old_ones_place(workspace, state):
    store(state, event("e2"))
    pd.DataFrame([event("e1")]).to_parquet(workspace.tables_dir / "events.parquet")
    sync(workspace, state)
    pd.DataFrame([event("e2"), event("e9")]).to_parquet(workspace.tables_dir / "events.parquet")
    sync(workspace, state)
    assert ids(workspace) == ["e2", "e9"]


def test_times_lists_and_attributes_survive(workspace, state):
    decision = {
        "decision_id": "d1", "user_id": "ann", "at": "2026-01-01T00:00:00Z", "kind": "items", "arm": "model",
        "arm_share": 1.0, "chosen": ["tea", "cup"], "probability": [1.0, 1.0], "model_version": "1",
    }  # fmt: skip
    with state.writing() as connection:
        append(connection, "decisions", [fit(TABLES["decisions"], decision)])
        rows = [
            {"item_id": "tea", "price": 3.5, "weight_g": 100, "organic": True, "colour": "red"},
            {"item_id": "cup", "weight_g": None, "organic": False, "colour": 7},
        ]
        upsert(connection, "items", [fit(TABLES["items"], row) for row in rows], at=NOW)
    sync(workspace, state)
    tables = Tables.open(workspace.tables_dir)
    assert list(tables["decisions"].chosen.execute()[0]) == ["tea", "cup"]
    items = tables["items"].order_by("item_id").execute()
    assert items.updated_at.tolist() == [pd.Timestamp(NOW)] * 2
    assert items.weight_g.tolist()[1] == 100.0
    assert items.organic.tolist() == [False, True]
    assert items.colour.tolist() == ["7", "red"]


def test_a_column_without_a_value_was_not_brought(workspace, state):
    store(state, event("e1", item_id="tea"))
    sync(workspace, state)
    tables = Tables.open(workspace.tables_dir)
    assert tables.has("events", "item_id")
    assert not tables.has("events", "value")
    assert not tables.has("orders")


def test_the_tables_tell_up_to_which_row_they_hold_the_state(workspace, state):
    store(state, *(event(f"e{i}") for i in range(3)))
    sync(workspace, state)
    assert Tables.open(workspace.tables_dir)["events"][SEQ].max().execute() == 3


def test_a_shop_that_tells_purchases_by_events_keeps_them(workspace, state):
    pd.DataFrame([event("e0", event="order_completed", item_id="tea")]).to_parquet(
        workspace.tables_dir / "events.parquet"
    )
    products = [{"product_id": "cup", "quantity": 1}]
    store(state, event("e1", event="order_completed", order_id="o1", products=products))
    done = sync(workspace, state)
    assert done.orders_left_out == 1
    assert "orders" not in Tables.open(workspace.tables_dir).brought
    assert ids(workspace) == ["e0", "e1"]
    assert sync(workspace, state) == done
