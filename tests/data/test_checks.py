"""Checks: good rows are parted from bad, each bad row says why, and nothing is lost."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from data.audit import Audit
from data.checks import CHECKS, check
from data.contract import TABLES
from data.errors import DataError
from data.state.rows import RowRefusedError, fit, refuse_times
from data.workspace import Workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
A_LITTLE_BEFORE = YESTERDAY - timedelta(minutes=5)

GOOD: dict[str, dict] = {
    "users": {"user_id": "ann"},
    "identities": {"anonymous_id": "a1", "user_id": "ann", "at": YESTERDAY},
    "items": {"item_id": "tea", "price": 4.0},
    "events": {"event_id": "e1", "user_id": "ann", "event": "product_viewed", "occurred_at": YESTERDAY},
    "orders": {"order_id": "o1", "line_id": "1", "item_id": "tea", "quantity": 2.0, "occurred_at": YESTERDAY},
    "messages": {"message_id": "m1", "user_id": "ann", "channel": "email", "sent_at": YESTERDAY},
    "offers": {"offer_id": "ten-off"},
    "variants": {"variant_id": "v1", "slot": "subject", "text": "Hello {user.first_name|there}"},
    "consents": {"user_id": "ann", "purpose": "marketing", "granted": False, "at": YESTERDAY},
    "preferences": {"user_id": "ann", "name": "topics", "value": "tea", "at": YESTERDAY},
    "decisions": {
        "decision_id": "d1", "user_id": "ann", "at": YESTERDAY, "kind": "items", "placement": "home", "arm": "model",
        "arm_share": 0.5, "chosen": ["tea", "cup"], "probability": [0.5, 1.0], "model_version": "1",
    },
    "outcomes": {"outcome_id": "x1", "decision_id": "d1", "kind": "click", "at": YESTERDAY},
}  # fmt: skip
"""A good row of every table."""

OLD, FUTURE = datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(hours=2)
BAD: list[tuple[str, dict, str]] = [
    ("events", {"event_id": None}, "event_id: missing"),
    ("events", {"event_id": ""}, "event_id: missing"),
    ("events", {"user_id": None}, "user_id: no anonymous_id either"),
    ("events", {"occurred_at": OLD}, "occurred_at: before 1990"),
    ("events", {"occurred_at": FUTURE}, "occurred_at: in the future"),
    ("events", {"received_at": FUTURE}, "received_at: in the future"),
    ("events", {"received_at": YESTERDAY - timedelta(hours=2)}, "received_at: before occurred_at"),
    ("events", {"dwell_seconds": -1.0}, "dwell_seconds: negative"),
    ("events", {"value": float("inf")}, "value: not finite"),
    ("orders", {"quantity": 0.0}, "quantity: zero"),
    ("orders", {"quantity": float("nan")}, "quantity: not finite"),
    ("orders", {"unit_price": -1.0}, "unit_price: negative"),
    ("orders", {"received_at": YESTERDAY - timedelta(hours=2)}, "received_at: before occurred_at"),
    ("items", {"price": -1.0}, "price: negative"),
    ("items", {"cost": -1.0}, "cost: negative"),
    ("users", {"created_at": FUTURE}, "created_at: in the future"),
    ("users", {"updated_at": FUTURE}, "updated_at: in the future"),
    *(
        ("messages", {column: YESTERDAY - timedelta(hours=2)}, f"{column}: before sent_at")
        for column in ("opened_at", "clicked_at", "unsubscribed_at", "bounced_at")
    ),
    ("offers", {"starts_at": NOW, "ends_at": YESTERDAY}, "ends_at: before starts_at"),
    ("offers", {"cost": -1.0}, "cost: negative"),
    ("offers", {"max_redemptions": -1}, "max_redemptions: negative"),
    ("offers", {"kind": "miracle"}, "kind: none of percent, amount, shipping, gift, none"),
    ("offers", {"offer_id": "none"}, "offer_id: kept for what is of kind none"),
    ("variants", {"text": "Hello {user.first_name}"}, "text: merge field without a fallback"),
    ("variants", {"text": "Hello {user.first_name| }"}, "text: merge field without a fallback"),
    ("variants", {"text": "{user.city|Here} to {user.shoe_size|there}"}, "text: unknown merge field"),
    ("variants", {"text": "Hello {item.name|it}"}, "text: unknown merge field"),
    ("decisions", {"probability": [0.5]}, "probability: not one for each choice"),
    ("decisions", {"probability": [0.5, 1.5]}, "probability: not above 0 and up to 1"),
    ("decisions", {"probability": [0.5, float("nan")]}, "probability: not above 0 and up to 1"),
    ("decisions", {"probability": [0.5, 0.0]}, "probability: not above 0 and up to 1"),
    ("decisions", {"placement": None}, "placement: no slot either"),
    ("decisions", {"arm": "other"}, "arm: none of model, random, usual, holdout"),
    ("decisions", {"arm_share": 0.0}, "arm_share: not above 0 and up to 1"),
    ("outcomes", {"decision_id": "nowhere"}, "decision_id: not in decisions"),
    ("outcomes", {"position": -1}, "position: negative"),
    ("outcomes", {"kind": "shrug"}, "kind: none of impression, open, click, conversion, unsubscribe"),
]  # fmt: skip
"""A table, what to change in its good row, and the reason that must be given."""

DOUBTFUL: list[tuple[str, dict, str]] = [
    ("events", {"item_id": "gone"}, "item_id: not in items"),
    ("events", {"user_id": "gone"}, "user_id: not in users"),
    ("events", {"event": "wheel_spun"}, "event: not in the contract"),
    (
        "events",
        {"received_at": YESTERDAY - timedelta(minutes=5)},
        "received_at: before occurred_at, within the clock skew",
    ),
    ("orders", {"item_id": "gone"}, "item_id: not in items"),
    ("orders", {"discount": -1.0}, "discount: negative"),
    ("users", {"channels": ["email;sms"]}, "channels: parted by ; or |, not by commas"),
    ("offers", {"channels": ["web", "email|sms"]}, "channels: parted by ; or |, not by commas"),
    ("messages", {"user_id": "gone"}, "user_id: not in users"),
    ("messages", {"opened_at": A_LITTLE_BEFORE}, "opened_at: before sent_at, within the clock skew"),
]
"""As above, of rows that are kept and counted."""


LIMITS = re.compile(r"missing|negative|in the future|before \w+|none of .*|kept for .*")
"""Reasons that lie in the contract, and not in how rows go together."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop")


def bring(workspace: Workspace, **tables: list[dict]) -> None:
    """Write tables with the contract's columns that any of the rows has."""
    for name, rows in tables.items():
        brought = [column for column in TABLES[name].by_name if any(column in row for row in rows)]
        schema = pa.schema([TABLES[name].schema.to_pyarrow().field(column) for column in brought])
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), workspace.tables_dir / f"{name}.parquet")


def good_rows(workspace: Workspace, name: str) -> pd.DataFrame:
    return pd.read_parquet(workspace.checked_dir / f"{name}.parquet")


def reasons(workspace: Workspace, name: str) -> list[list[str]]:
    file = workspace.quarantine_dir / f"{name}.parquet"
    return [list(row) for row in pd.read_parquet(file).reasons] if file.exists() else []


def labels(audit: Audit, *, refused: bool) -> set[tuple[str, str]]:
    return {(f.table, f"{f.column}: {f.reason}") for f in audit.findings if f.refused == refused}


def test_good_rows_of_every_table_pass(workspace: Workspace) -> None:
    bring(workspace, **{name: [row] for name, row in GOOD.items()})
    audit = check(workspace, now=NOW)
    assert audit.fit
    assert audit.findings == ()
    assert list(workspace.quarantine_dir.iterdir()) == []
    assert {table.name: (table.good, table.bad) for table in audit.tables} == dict.fromkeys(TABLES, (1, 0))


@pytest.mark.parametrize(
    ("table", "change", "label"), [bad for bad in BAD if LIMITS.fullmatch(bad[2].partition(": ")[2])]
)
def test_what_a_file_may_not_say_an_app_may_not_either(table: str, change: dict, label: str) -> None:
    row = {
        name: told.isoformat() if isinstance(told, datetime) else told for name, told in (GOOD[table] | change).items()
    }
    with pytest.raises(RowRefusedError) as refused:
        refuse_times(TABLES[table], fit(TABLES[table], row), now=NOW, skew=timedelta(hours=1))
    field, _, reason = label.partition(": ")
    assert refused.value.field == field
    assert reason in refused.value.reason


@pytest.mark.parametrize("table", TABLES)
def test_what_a_file_may_say_an_app_may_too(table: str) -> None:
    row = {name: told.isoformat() if isinstance(told, datetime) else told for name, told in GOOD[table].items()}
    refuse_times(TABLES[table], fit(TABLES[table], row), now=NOW, skew=timedelta(hours=1))


def test_each_bad_row_is_refused_for_its_reason_alone(workspace: Workspace) -> None:
    key = {name: TABLES[name].key[0] for name in TABLES}
    rows = {name: [row] for name, row in GOOD.items()}
    for number, (name, change, _) in enumerate(BAD):
        rows[name].append({**GOOD[name], key[name]: f"bad {number}", **change})
    bring(workspace, **rows)
    check(workspace, now=NOW)
    for name in TABLES:
        assert reasons(workspace, name) == [[reason] for table, _, reason in BAD if table == name]
        assert len(good_rows(workspace, name)) == 1


def test_each_doubtful_row_is_kept_and_counted(workspace: Workspace) -> None:
    key = {name: TABLES[name].key[0] for name in TABLES}
    rows = {name: [row] for name, row in GOOD.items()}
    for number, (name, change, _) in enumerate(DOUBTFUL):
        rows[name].append({**GOOD[name], key[name]: f"odd {number}", **change})
    bring(workspace, **rows)
    audit = check(workspace, now=NOW)
    assert labels(audit, refused=True) == set()
    assert labels(audit, refused=False) == {(table, reason) for table, _, reason in DOUBTFUL}
    assert sum(table.good for table in audit.tables) == len(TABLES) + len(DOUBTFUL)


def test_every_check_has_a_label_of_its_own() -> None:
    names = [(one.table, one.label) for one in CHECKS]
    assert len(names) == len(set(names))
    assert all(one.column in TABLES[one.table].by_name for one in CHECKS)


def test_a_wrong_value_is_told_with_its_place_and_kept_as_it_was_brought(workspace: Workspace) -> None:
    lines = [f"o{number},1,tea,{'two' if number in (17, 20) else 2},2026-02-01" for number in range(1, 101)]
    text = "\n".join(["order_id,line_id,item_id,quantity,occurred_at", *lines])
    (workspace.tables_dir / "orders.csv").write_text(text)
    audit = check(workspace, now=NOW)
    (finding,) = audit.findings
    assert str(finding) == (
        "orders.quantity: not a number in 2 rows (first: 'two' at row 17); they are in quarantine/orders.parquet"
    )
    quarantined = pd.read_parquet(workspace.quarantine_dir / "orders.parquet")
    assert quarantined.quantity.tolist() == ["two", "two"]
    assert quarantined.row_number.tolist() == [17, 20]
    assert good_rows(workspace, "orders").quantity.tolist() == [2.0] * 98
    assert audit.fit


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("occurred_at", "soon", "occurred_at: not a time"),
        ("occurred_at", "12345678", "occurred_at: not a time"),
        ("unit_price", "1,50", "unit_price: not a number"),
        ("unit_price", "NaN", "unit_price: not finite"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(workspace: Workspace, column: str, value: str, reason: str) -> None:
    row = {"order_id": "1", "line_id": "1", "item_id": "tea", "quantity": "1", "occurred_at": "2026-02-01"}
    pd.DataFrame([row | {column: value}]).to_csv(workspace.tables_dir / "orders.csv", index=False)
    check(workspace, now=NOW)
    assert reasons(workspace, "orders") == [[reason]]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("ends_at", "infinity", "ends_at: not a time"),
        ("max_redemptions", "2.7", "max_redemptions: not a whole number"),
        ("max_redemptions", 2.7, "max_redemptions: not a whole number"),
    ],
)
def test_a_value_is_not_rounded_until_it_fits(
    workspace: Workspace, column: str, value: str | float, reason: str
) -> None:
    good = {"offer_id": "a", "ends_at": "9999-12-31", "max_redemptions": 3.0}
    file = workspace.tables_dir / "offers.parquet"
    pd.DataFrame([good, good | {"offer_id": "b", column: value}]).astype({column: type(value)}).to_parquet(file)
    check(workspace, now=NOW)
    assert reasons(workspace, "offers") == [[reason]]
    assert good_rows(workspace, "offers")["max_redemptions"].tolist() == [3]


def test_an_empty_value_is_missing_and_no_wrong_type(workspace: Workspace) -> None:
    (workspace.tables_dir / "orders.csv").write_text(
        'order_id,line_id,user_id,item_id,quantity,unit_price,occurred_at\n1,1,"",tea,1,,2026-02-01\n2,1,,tea,,2,2026-02-01\n'
    )
    check(workspace, now=NOW)
    assert reasons(workspace, "orders") == [["quantity: missing"]]
    (row,) = good_rows(workspace, "orders").to_dict("records")
    assert pd.isna(row["user_id"])
    assert pd.isna(row["unit_price"])


def test_a_number_that_is_none_is_no_id(workspace: Workspace) -> None:
    frame = pd.DataFrame({"user_id": [1.0, 2.0, 1.0], "country": ["DE", "AT", "CH"]})
    brought = pa.Table.from_pandas(frame).set_column(0, "user_id", pa.array([1.0, float("nan"), 3.0]))
    pq.write_table(brought, workspace.tables_dir / "users.parquet")
    check(workspace)
    assert good_rows(workspace, "users")["user_id"].tolist() == ["1", "3"]
    assert reasons(workspace, "users") == [["user_id: missing"]]


def test_of_a_row_sent_twice_one_stays(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"]] * 3)
    check(workspace, now=NOW)
    assert len(good_rows(workspace, "events")) == 1
    assert reasons(workspace, "events") == [["event_id: key of another row"]] * 2


def test_of_rows_with_one_key_the_faultless_that_reached_us_first_stays(workspace: Workspace) -> None:
    order = GOOD["orders"]
    bring(workspace, orders=[
        order | {"quantity": 5.0, "received_at": NOW},
        order | {"quantity": 4.0, "received_at": YESTERDAY},
        order | {"quantity": 0.0, "received_at": YESTERDAY - timedelta(minutes=1)},
    ])  # fmt: skip
    check(workspace, now=NOW)
    assert good_rows(workspace, "orders").quantity.tolist() == [4.0]
    assert reasons(workspace, "orders") == [
        ["order_id: key of another row"],
        ["order_id: key of another row", "quantity: zero"],
    ]


def test_two_rows_of_a_history_at_one_moment_are_one_too_many_even_without_a_time(workspace: Workspace) -> None:
    rows = [{"user_id": "ann", "updated_at": at, "country": "DE"} for at in (None, None, YESTERDAY, NOW)]
    bring(workspace, users=rows, events=[GOOD["events"]])
    check(workspace, now=NOW)
    assert reasons(workspace, "users") == [["user_id: key of another row"]]
    assert len(good_rows(workspace, "users")) == 3


def test_an_orders_lines_share_its_id_and_an_item_may_be_there_twice(workspace: Workspace) -> None:
    bring(workspace, orders=[GOOD["orders"] | {"line_id": line, "user_id": None} for line in "12"])
    audit = check(workspace, now=NOW)
    assert audit.findings == ()
    assert audit.guest_share == 1.0


def test_an_outcome_of_a_refused_decision_is_refused(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"]], outcomes=[GOOD["outcomes"]], decisions=[GOOD["decisions"] | {"arm": "x"}])
    check(workspace, now=NOW)
    assert reasons(workspace, "outcomes") == [["decision_id: not in decisions"]]


def test_orphans_are_not_counted_where_the_other_table_was_not_brought(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"] | {"item_id": "tea"}], outcomes=[GOOD["outcomes"]])
    assert check(workspace, now=NOW).findings == ()


def test_a_table_without_a_required_column_is_said_to_lack_it(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"]], orders=[{"order_id": "1", "line_id": "1", "item_id": "tea"}])
    audit = check(workspace, now=NOW)
    (failure,) = audit.failures
    assert failure.startswith("orders has no column quantity, occurred_at, and no row can do without.")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *((name, spec.key[0]) for name, spec in TABLES.items()),
        ("identities", "user_id"),
        ("events", "event"),
        ("orders", "quantity"),
    ],
)
def test_whatever_required_column_is_not_there_the_audit_names_it(
    workspace: Workspace, table: str, column: str
) -> None:
    orders, messages = GOOD["orders"], GOOD["messages"] | {"decision_id": "d1"}  # name ids of the others
    bring(workspace, **{name: [row] for name, row in (("orders", orders), ("messages", messages)) if name != table})
    row = {name: value for name, value in GOOD[table].items() if name != column} | {"email": "ann@shop.test"}
    pd.DataFrame([row]).to_parquet(workspace.tables_dir / f"{table}.parquet")
    audit = check(workspace, now=NOW)
    assert any(failure.startswith(f"{table} has no column {column},") for failure in audit.failures)


def test_events_of_visitors_alone_need_no_user(workspace: Workspace) -> None:
    bring(
        workspace,
        events=[{name: v for name, v in GOOD["events"].items() if name != "user_id"} | {"anonymous_id": "a1"}],
    )
    audit = check(workspace, now=NOW)
    assert (audit.fit, audit.visitor_share) == (True, 1.0)


def test_a_column_of_users_that_is_no_word_is_no_merge_field(workspace: Workspace) -> None:
    (workspace.tables_dir / "users.csv").write_text("user_id,C++,.*\nann,2,3\n")
    texts = ("Hello {user.country|there}", "Hello {user.nonsense|there}")
    bring(workspace, variants=[{"variant_id": str(n), "slot": "hero", "text": text} for n, text in enumerate(texts)])
    check(workspace, now=NOW)
    assert reasons(workspace, "variants") == [["text: unknown merge field"]]


def test_a_folder_may_have_an_apostrophe(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ann's shop")
    bring(workspace, events=[GOOD["events"]])
    assert check(workspace, now=NOW).fit


def test_only_what_was_brought_is_written_and_other_columns_stay(workspace: Workspace) -> None:
    (workspace.tables_dir / "orders.csv").write_text(
        "line_id,colour,order_id,item_id,quantity,occurred_at\n1,red,1,tea,1,2026-02-01 10:00\n"
    )
    audit = check(workspace, now=NOW)
    good = good_rows(workspace, "orders")
    assert list(good) == ["order_id", "line_id", "item_id", "quantity", "occurred_at", "colour"]
    assert str(good.quantity.dtype) == "float64"
    assert good.occurred_at[0] == pd.Timestamp("2026-02-01 10:00", tz="UTC")
    assert audit.tables[0].attributes == ("colour",)
    assert not workspace.checked.has("orders", "unit_price")


def test_good_rows_are_sorted_by_user_and_time(workspace: Workspace) -> None:
    rows = [
        GOOD["events"] | {"event_id": f"{user}{days}", "user_id": user, "occurred_at": NOW - timedelta(days=days)}
        for days in (1, 3, 2)
        for user in ("bob", "ann")
    ]
    bring(workspace, events=rows)
    check(workspace, now=NOW)
    assert good_rows(workspace, "events").event_id.tolist() == ["ann3", "ann2", "ann1", "bob3", "bob2", "bob1"]


def test_row_groups_hold_few_users_each_so_that_readers_can_skip(workspace: Workspace) -> None:
    number = pa.array(range(120_000))
    table = pa.table({
        "event_id": number.cast("string"),
        "user_id": pa.array([f"u{(7919 * i) % 1000:03}" for i in range(120_000)]),
        "event": ["page_viewed"] * 120_000,
        "occurred_at": pa.array([YESTERDAY] * 120_000, type=pa.timestamp("us", "UTC")),
    })  # fmt: skip
    pq.write_table(table, workspace.tables_dir / "events.parquet")
    check(workspace, now=NOW)
    metadata = pq.ParquetFile(workspace.checked_dir / "events.parquet").metadata
    groups = [metadata.row_group(i).column(1).statistics for i in range(metadata.num_row_groups)]
    assert len(groups) >= 2
    assert all(one.max <= other.min for one, other in itertools.pairwise(groups))


def test_what_went_back_from_quarantine_is_judged_anew(workspace: Workspace) -> None:
    bring(workspace, orders=[GOOD["orders"] | {"quantity": 0.0}])
    check(workspace, now=NOW)
    mended = pd.read_parquet(workspace.quarantine_dir / "orders.parquet").assign(quantity=1.0)
    mended.to_parquet(workspace.tables_dir / "orders.parquet")
    audit = check(workspace, now=NOW)
    assert audit.findings == ()
    assert "reasons" not in good_rows(workspace, "orders")


def test_a_second_check_gives_the_same_and_forgets_what_is_gone(workspace: Workspace) -> None:
    bring(
        workspace,
        **{name: [row] for name, row in GOOD.items()},
    )
    bring(workspace, events=[GOOD["events"], GOOD["events"] | {"event_id": None}])
    first = check(workspace, now=NOW)
    files = {file.name: file.read_bytes() for file in workspace.checked_dir.iterdir()}
    assert check(workspace, now=NOW) == first
    assert {file.name: file.read_bytes() for file in workspace.checked_dir.iterdir()} == files
    (workspace.tables_dir / "offers.parquet").unlink()
    bring(workspace, events=[GOOD["events"]])
    check(workspace, now=NOW)
    assert not (workspace.checked_dir / "offers.parquet").exists()
    assert reasons(workspace, "events") == []


def test_the_workspace_knows_that_it_is_checked_until_its_tables_change(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"]])
    assert not workspace.is_checked
    check(workspace, now=NOW)
    assert workspace.is_checked
    assert workspace.checked["events"].count().execute() == 1
    bring(workspace, orders=[GOOD["orders"]])
    assert not workspace.is_checked


def test_the_clock_skew_is_the_settings(workspace: Workspace) -> None:
    workspace.settings_file.write_text("[data]\nmax_clock_skew_minutes = 1\n")
    bring(workspace, events=[GOOD["events"] | {"occurred_at": NOW + timedelta(minutes=2)}])
    check(workspace, now=NOW)
    assert reasons(workspace, "events") == [["occurred_at: in the future"]]


@pytest.mark.parametrize("name", ["orders.csv", "orders.parquet"])
def test_an_empty_table_is_no_error_and_not_fit(workspace: Workspace, name: str) -> None:
    frame = pd.DataFrame({column: pd.Series(dtype="str") for column in TABLES["orders"].by_name})
    file = workspace.tables_dir / name
    frame.to_csv(file, index=False) if name.endswith("csv") else frame.to_parquet(file)
    audit = check(workspace, now=NOW)
    assert [(table.good, table.bad) for table in audit.tables] == [(0, 0)]
    assert audit.failures == (
        "neither events nor orders has a good row: there is nothing to learn from. Import one of them.",
    )


def test_no_table_at_all_is_an_error_with_a_remedy(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"has no table. `attune import` makes them"):
        check(workspace, now=NOW)


@pytest.mark.parametrize(
    ("line", "why"), [("1,2,3", "Expected Number of Columns: 2 Found: 3"), ('1,"2', "unterminated quote")]
)
def test_a_bad_line_is_an_error_that_names_it_and_leaves_what_was_checked_before(
    workspace: Workspace, line: str, why: str
) -> None:
    bring(workspace, events=[GOOD["events"]])
    check(workspace, now=NOW)
    (workspace.tables_dir / "orders.backup").write_text("no table")
    (workspace.tables_dir / "orders.csv").write_text(f"order_id,line_id\n1,2\n{line}\n")
    with pytest.raises(DataError, match=rf"orders\.csv cannot be checked.*Line: 3.*{why}"):
        check(workspace, now=NOW)
    assert len(good_rows(workspace, "events")) == 1
    assert sorted(path.name for path in workspace.path.iterdir()) == [
        "attune.toml", "checked", "quarantine", "reports", "tables",
    ]  # fmt: skip


def test_a_truncated_parquet_file_is_an_error_that_names_it(workspace: Workspace) -> None:
    bring(workspace, events=[GOOD["events"]])
    file = workspace.tables_dir / "events.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"events.parquet cannot be read"):
        check(workspace, now=NOW)


def test_a_full_disk_is_an_error_with_a_remedy_and_leaves_what_was_checked_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(workspace, events=[GOOD["events"]])
    check(workspace, now=NOW)

    def full(*_: object, **__: object) -> None:
        raise duckdb.IOException('IO Error: Could not write file "events.parquet": No space left on device')

    bring(workspace, events=[GOOD["events"], GOOD["events"] | {"event_id": "e2"}])
    monkeypatch.setattr(Backend, "to_parquet", full)
    with pytest.raises(DataError, match=r"No space left on device. Mend it \(or make room on the disk\)"):
        check(workspace, now=NOW)
    assert len(good_rows(workspace, "events")) == 1
    assert not workspace.is_checked


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "", " "]),
            st.sampled_from(["1", "-1", "0", "nan", "two", ""]),
            st.sampled_from(["2026-02-01", "2026-02-01T10:00:00+05:00", "1970-01-01", "2031-01-01", "x", ""]),
            st.sampled_from(["", "a,b", 'quo"te', "line\nbreak"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_either_good_or_in_quarantine(rows: list[tuple], tmp_path_factory: pytest.TempPathFactory) -> None:
    workspace = Workspace.create(tmp_path_factory.mktemp("shop"))
    frame = pd.DataFrame(rows, columns=["order_id", "quantity", "occurred_at", "note"]).assign(line_id="1", item_id="t")
    frame.to_csv(workspace.tables_dir / "orders.csv", index=False)
    (table,) = check(workspace, now=NOW).tables
    bad = reasons(workspace, "orders")
    good = good_rows(workspace, "orders")
    assert (len(good), len(bad)) == (table.good, table.bad)
    assert len(good) + len(bad) == len(rows)
    assert all(bad)
    assert good.order_id.is_unique
    assert (good.occurred_at < NOW).all()
    assert sum(finding.rows for finding in table.findings) == sum(map(len, bad))
