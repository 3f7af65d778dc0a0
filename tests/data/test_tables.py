"""Tables: read as brought, fitted to the contract, and known as of a cutoff."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.contract import TABLES, TableSpec
from data.errors import DataError
from data.tables import Tables, connect, read_raw

CUTOFF = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE = [CUTOFF - timedelta(days=days) for days in (1, 40)] + [CUTOFF - timedelta(microseconds=1)]
AFTER = [CUTOFF, CUTOFF + timedelta(microseconds=1), CUTOFF + timedelta(days=9)]
PLANNED = {"starts_at", "ends_at"}


def read(folder: Path, name: str, content: str | bytes) -> pd.DataFrame:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Tables.open(folder)[name.split(".", maxsplit=1)[0]].execute()


def as_of(name: str, rows: list[dict], cutoff: datetime = CUTOFF, **others: list[dict]) -> list[dict]:
    """What one table of a shop held just before a cutoff, in a fixed order."""
    brought = {name: rows, **others}
    shop, query = gate(tuple(brought), cutoff)
    for table, some in brought.items():
        shop.register("brought", pa.Table.from_pylist(some, schema=TABLES[table].schema.to_pyarrow()))
        shop.execute(f"delete from {table}; insert into {table} select * from brought")
    return sorted(shop.sql(query).to_arrow_table().to_pylist(), key=repr)


@functools.cache
def gate(names: tuple[str, ...], cutoff: datetime) -> tuple[duckdb.DuckDBPyConnection, str]:
    """A shop with empty tables, and the query that `as_of` makes of the first of them: compiled once for many rows."""
    backend = connect()
    tables = {name: backend.create_table(name, schema=TABLES[name].schema) for name in names}
    return backend.con, backend.compile(Tables.of(backend, tables).as_of(cutoff)[names[0]])


# --- reading ---


def test_a_value_that_cannot_be_read_is_null_and_the_others_stay(tmp_path: Path) -> None:
    orders = read(tmp_path, "orders.csv", "order_id,line_id,item_id,quantity\n1,1,tea,two\n1,2,tea,2\n")
    assert orders.quantity.fillna(-1).tolist() == [-1, 2]


def test_ids_that_a_gap_made_fractions_are_those_of_the_other_tables(tmp_path: Path) -> None:
    """pandas has no whole numbers with gaps: an order of a guest makes 17850 of all others 17850.0."""
    guests = pd.DataFrame({"order_id": [1, 2, 3], "user_id": [17850.0, None, 2.5], "quantity": 1.5})
    guests.to_parquet(tmp_path / "orders.parquet")
    pd.DataFrame({"user_id": [17850]}).to_parquet(tmp_path / "users.parquet")
    shop = Tables.open(tmp_path)
    ids = shop["orders"].order_by("order_id").user_id.execute()
    assert ids.tolist()[::2] == [*shop["users"].user_id.execute(), "2.5"]
    assert pd.isna(ids[1])
    unknown = pa.table({"order_id": ["1"], "user_id": pa.array([float("nan")])})
    pq.write_table(unknown, tmp_path / "orders.parquet")
    assert Tables.open(tmp_path)["orders"].user_id.execute().isna().all()


def test_a_csv_may_start_with_a_byte_order_mark_and_spell_columns_with_capitals(tmp_path: Path) -> None:
    orders = read(tmp_path, "orders.csv", b"\xef\xbb\xbfOrder_ID, quantity\r\n7,2\r\n")
    assert orders.order_id.tolist() == ["7"]
    assert orders.quantity.tolist() == [2.0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_may_be_separated_by_commas_semicolons_or_tabs(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(["order_id", "item_id"]) + "\n" + delimiter.join(["o1", "tea"]) + "\n"
    assert read(tmp_path, "orders.csv", text).item_id.tolist() == ["tea"]


def test_a_bad_line_of_a_csv_is_an_error_that_names_it_and_never_a_header(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("order_id,line_id\n1,2\n1,2,3\n")
    with pytest.raises(duckdb.Error, match="Line: 3"):
        Tables.open(tmp_path)["orders"].execute()


def test_an_odd_value_late_in_json_lines_spoils_nothing(tmp_path: Path) -> None:
    lines = ['{"order_id": "a", "quantity": 1}'] * 30_000 + ['{"order_id": 7, "quantity": "two"}']
    orders = read(tmp_path, "orders.jsonl", "\n".join(lines))
    assert orders.quantity.isna().sum() == 1
    assert set(orders.order_id) == {"a", "7"}


def test_an_id_in_json_lines_is_taken_as_it_is_whatever_it_looks_like(tmp_path: Path) -> None:
    said = ["0B3C2A10-AAAA-4BBB-8CCC-1234567890AB", "2026-01-01T10:00:00", "1:30:00"]
    names = ["user_id", "anonymous_id", "session_id"]
    event = {**dict(zip(names, said, strict=True)), "occurred_at": "2026-01-01T10:00:00+02:00", "of": {"date": said[0]}}
    events = read(tmp_path, "events.jsonl", json.dumps(event) + "\n")
    assert events.loc[0, names].tolist() == said
    assert events.loc[0, "of"] == event["of"]
    assert events.loc[0, "occurred_at"] == pd.Timestamp("2026-01-01T08:00Z")


def test_lists_are_read_from_text(tmp_path: Path) -> None:
    users = read(tmp_path, "users.csv", "user_id,channels\n1,\"['email', in app]\"\n2,[]\n3,sms\n4,\n")
    assert [None if one is None else list(one) for one in users.channels] == [["email", "in app"], [], ["sms"], None]


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for number in (1, 2):
        pq.write_table(pa.table({"item_id": [str(number)]}), tmp_path / "items" / f"{number}.parquet")
    assert sorted(Tables.open(tmp_path)["items"].execute().item_id) == ["1", "2"]


def test_a_duckdb_file_brings_the_tables_that_it_has(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as shop:
        shop.execute("create table items as select 'tea' as item_id; create table staff as select 1 as id")
    tables = Tables.open(tmp_path)
    assert tables["items"].execute().item_id.tolist() == ["tea"]
    assert not tables.has("orders")


def test_what_was_not_brought_reads_as_empty_or_null(tmp_path: Path) -> None:
    orders = read(tmp_path, "orders.csv", "order_id,colour\n1,red\n")
    assert orders.unit_price.isna().all()
    assert orders.colour.tolist() == ["red"]
    tables = Tables.open(tmp_path)
    assert tables["events"].count().execute() == 0
    assert tables.has("orders", "order_id")
    assert not tables.has("orders", "unit_price")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("orders.csv", b"", "orders.csv is empty"),
        ("orders.csv", b"order_id;caf\xe9\n", "orders.csv is not UTF-8. Save it as CSV UTF-8"),
        ("orders.csv", b"order_id,a,A\n", "a name of its own"),
        ("orders.jsonl", b"", "orders.jsonl is empty"),
        ("orders.jsonl", b'{"order_id": "a"}\n{"order', "orders.jsonl cannot be read.*line"),
        ("orders.parquet", b"PAR1 then nothing more", "orders.parquet cannot be read"),
        ("shop.duckdb", b"no database", "shop.duckdb cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_raw(connect(), tmp_path)


def test_a_missing_folder_and_a_table_brought_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        Tables.open(tmp_path / "nowhere")
    (tmp_path / "items.csv").write_text("item_id\n1\n")
    (tmp_path / "items.jsonl").write_text('{"item_id": 1}')
    with pytest.raises(DataError, match="items is there twice"):
        Tables.open(tmp_path)
    with pytest.raises(DataError, match="no such table"):
        Tables.from_frames(order=pd.DataFrame())


# --- as of a cutoff ---


def test_a_row_at_the_cutoff_is_not_known_and_one_a_microsecond_earlier_is() -> None:
    rows = [
        {"event_id": str(number), "user_id": "ann", "event": "page_viewed", "occurred_at": at}
        for number, at in enumerate([CUTOFF - timedelta(microseconds=1), CUTOFF])
    ]
    assert [row["event_id"] for row in as_of("events", rows)] == ["0"]


def test_a_row_that_reached_us_late_is_not_known_before_it_did() -> None:
    early = CUTOFF - timedelta(days=3)
    rows = [
        {"event_id": str(number), "event": "page_viewed", "occurred_at": early, "received_at": received}
        for number, received in enumerate([None, early, CUTOFF])
    ]
    assert [row["event_id"] for row in as_of("events", rows)] == ["0", "1"]


def test_an_open_after_the_cutoff_has_not_happened_though_its_message_was_sent() -> None:
    sent = CUTOFF - timedelta(days=1)
    (row,) = as_of("messages", [
        {"message_id": "m", "user_id": "ann", "channel": "email", "sent_at": sent, "opened_at": CUTOFF,
         "machine_opened": True, "clicked_at": sent, "unsubscribed_at": CUTOFF}
    ])  # fmt: skip
    assert (row["opened_at"], row["machine_opened"], row["unsubscribed_at"]) == (None, None, None)
    assert row["clicked_at"] == sent


def test_of_a_history_the_latest_row_before_the_cutoff_counts() -> None:
    rows = [
        {"user_id": "ann", "updated_at": None, "country": "always"},
        {"user_id": "ann", "updated_at": CUTOFF - timedelta(days=9), "country": "first"},
        {"user_id": "ann", "updated_at": CUTOFF - timedelta(days=2), "country": "second"},
        {"user_id": "ann", "updated_at": CUTOFF, "country": "later"},
        {"user_id": "bob", "updated_at": CUTOFF, "country": "later"},
        {"user_id": "cem", "updated_at": None, "country": "always"},
    ]
    assert {row["user_id"]: row["country"] for row in as_of("users", rows)} == {"ann": "second", "cem": "always"}


@pytest.mark.parametrize(("table", "entity"), [("users", "user_id"), ("items", "item_id")])
def test_who_or_what_came_after_the_cutoff_is_not_known_though_its_row_has_no_time(table: str, entity: str) -> None:
    rows = [{entity: "old", "created_at": CUTOFF - timedelta(days=1)}, {entity: "new", "created_at": CUTOFF}]
    assert [row[entity] for row in as_of(table, rows)] == ["old"]


def test_a_visitors_past_joins_the_user_once_they_are_known() -> None:
    events = [{"event_id": "e", "anonymous_id": "a", "event": "page_viewed", "occurred_at": CUTOFF - timedelta(days=9)}]
    identities = [
        {"anonymous_id": "a", "user_id": "late", "at": CUTOFF - timedelta(days=1)},
        {"anonymous_id": "a", "user_id": "first", "at": CUTOFF - timedelta(days=2)},
        {"anonymous_id": "a", "user_id": "future", "at": CUTOFF},
    ]
    for cutoff, user in ((CUTOFF, "first"), (CUTOFF - timedelta(days=2), None)):
        (event,) = as_of("events", events, cutoff, identities=identities)
        assert event["user_id"] == user


def test_an_attribute_of_an_event_names_nobodys_visitor() -> None:
    """Apps send what they like beside the contract's columns, even names that are used here."""
    about = {"event_id": "e", "anonymous_id": "a", "event": "page_viewed", "occurred_at": CUTOFF - timedelta(days=9)}
    named = [{"anonymous_id": "a", "user_id": "ann", "at": CUTOFF - timedelta(days=2)}]
    odd = about | {"known_user_id": "eve", "known_anonymous_id": "eve"}
    users = [{"user_id": "ann", "updated_at": BEFORE[0], "newest": "a shop's own"}]
    frames = {"events": [odd], "identities": named, "users": users}
    known = Tables.from_frames(**{name: pd.DataFrame(rows) for name, rows in frames.items()}).as_of(CUTOFF)
    (event,) = known["events"].execute().to_dict("records")
    assert (event["user_id"], event["known_user_id"], event["known_anonymous_id"]) == ("ann", "eve", "eve")
    assert known["users"].execute()["newest"].tolist() == ["a shop's own"]


def test_a_cutoff_without_a_time_zone_is_refused() -> None:
    with pytest.raises(DataError, match="no time zone"):
        Tables.from_frames().as_of(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_cutoff_in_another_time_zone_is_the_same_moment() -> None:
    rows = [{"event_id": "e", "event": "page_viewed", "occurred_at": CUTOFF - timedelta(hours=1)}]
    berlin = pd.Timestamp(CUTOFF).tz_convert("Europe/Berlin").to_pydatetime()
    assert len(as_of("events", rows, berlin)) == 1


def times_of(spec: TableSpec) -> list[str]:
    return [name for name in spec.times if name not in PLANNED]


def values(kind: str, times: list[datetime]) -> st.SearchStrategy:
    return {
        "time": st.sampled_from([*times, None]),
        "string": st.sampled_from(["a", "b", None]),
        "float": st.sampled_from([1.0, 2.0, None]),
        "int": st.integers(0, 2),
        "bool": st.sampled_from([True, False, None]),
        "strings": st.just(["a"]),
        "floats": st.just([1.0]),
    }[kind]


def rows_of(spec: TableSpec) -> st.SearchStrategy[list[dict]]:
    row = st.fixed_dictionaries({column.name: values(column.type, [*BEFORE, *AFTER]) for column in spec.columns})
    return st.lists(row, max_size=6)


def otherwise(data: st.DataObject, spec: TableSpec, row: dict) -> list[dict]:
    """A row as it might be had all that is at or after the cutoff gone otherwise; none if it had not come at all."""

    def drawn(names: list[str]) -> dict:
        return {name: data.draw(values(spec.by_name[name].type, AFTER)) for name in names}

    known_from = "created_at" if spec.history and row[spec.happened_at] is None else spec.happened_at
    hiding = {name: data.draw(st.sampled_from(AFTER)) for name in (known_from, "received_at") if is_after(row, name)}
    if hiding:
        free = [name for name in row if name != spec.happened_at]
        return [row | drawn(free) | hiding] if data.draw(st.booleans()) else []
    for later, hangs in (spec.later or {}).items():
        if is_after(row, later):
            row |= drawn(list(hangs))
    return [row]


def is_after(row: dict, name: str) -> bool:
    return row.get(name) is not None and row[name] >= CUTOFF


def changed(data: st.DataObject, spec: TableSpec, rows: list[dict]) -> list[dict]:
    return [other for row in rows for other in otherwise(data, spec, dict(row))]


@pytest.mark.parametrize("name", [name for name, spec in TABLES.items() if times_of(spec)])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_at_or_after_the_cutoff_changes_what_was_known(name: str, data: st.DataObject) -> None:
    spec = TABLES[name]
    rows = data.draw(rows_of(spec))
    assert as_of(name, changed(data, spec, rows)) == as_of(name, rows)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nobody_identified_at_or_after_the_cutoff_changes_whose_an_event_was(data: st.DataObject) -> None:
    events = [{"event_id": one, "anonymous_id": one, "event": "page_viewed", "occurred_at": BEFORE[0]} for one in "ab"]
    identities = data.draw(rows_of(TABLES["identities"]))
    other = changed(data, TABLES["identities"], identities)
    assert as_of("events", events, identities=other) == as_of("events", events, identities=identities)


@settings(max_examples=20, deadline=None)
@given(countries=st.permutations(["AT", "CH", "DE", None]))
def test_of_rows_that_came_to_be_known_at_once_the_same_counts_in_any_order(countries: list[str | None]) -> None:
    rows = [{"user_id": "ann", "updated_at": BEFORE[0], "country": country} for country in countries]
    (row,) = as_of("users", rows)
    assert row["country"] == "AT"
