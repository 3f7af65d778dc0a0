"""The audit: what the tables hold, what is missing, and whether they are fit to train on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.audit import Audit, EventName
from data.checks import check
from data.workspace import Workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop")


@pytest.fixture(name="audited")
def _audited(workspace: Workspace):
    """Audit a shop of these frames, by the settings in `toml`."""

    def audited(*, toml: str = "", **frames: pd.DataFrame) -> Audit:
        workspace.settings_file.write_text(toml)
        for name, frame in frames.items():
            frame.to_parquet(workspace.tables_dir / f"{name}.parquet")
        return check(Workspace.open(workspace.path), now=NOW)

    return audited


def events(*days_ago: float, **more: object) -> pd.DataFrame:
    return pd.DataFrame({
        "event_id": [str(number) for number in range(len(days_ago))],
        "user_id": "ann",
        "event": "page_viewed",
        "occurred_at": [NOW - timedelta(days=days) for days in days_ago],
    }).assign(**more)  # fmt: skip


def orders(*quantities: float, **more: object) -> pd.DataFrame:
    return pd.DataFrame({
        "order_id": [str(number) for number in range(len(quantities))],
        "line_id": "1",
        "user_id": "ann",
        "item_id": "tea",
        "quantity": quantities,
        "occurred_at": NOW - timedelta(days=1),
    }).assign(**more)  # fmt: skip


def users(**columns: list) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame({"user_id": [f"u{number}" for number in range(rows)], **columns})


def test_a_table_is_told_by_its_rows_and_its_newest(audited) -> None:
    (table,) = audited(events=events(10, 2.5, 4, event_id=["a", "b", None])).tables
    assert (table.good, table.bad, table.bad_share) == (2, 1, pytest.approx(1 / 3))
    assert table.newest == NOW - timedelta(days=2.5)
    assert table.age_days == 2.5


def test_a_column_is_told_by_how_full_it_is_and_its_newest_value(audited) -> None:
    (table,) = audited(events=events(1, 5, 9, 20, item_id=[None, "tea", "", "tea"], colour="red")).tables
    columns = {column.name: column for column in table.columns}
    assert (columns["item_id"].present, columns["item_id"].age_days) == (0.5, 5)
    assert (columns["colour"].known, columns["colour"].present) == (False, 1.0)
    assert table.attributes == ("colour",)


def test_the_number_that_sync_gives_a_row_is_no_attribute(audited) -> None:
    (table,) = audited(events=events(1, state_seq=[7])).tables
    assert table.attributes == ()


def test_guests_are_counted_apart(audited) -> None:
    assert audited(orders=orders(1, 1, 1, 1, user_id=["ann", None, "bob", "cem"])).guest_share == 0.25


def test_visitors_who_never_became_known_are_counted(audited) -> None:
    did = events(4, 3, 2, 1, anonymous_id=["v1", "v2", "v3", None]).assign(user_id=[None, None, None, "ann"])
    identities = pd.DataFrame({"anonymous_id": ["v1"], "user_id": ["ann"], "at": [NOW]})
    assert audited(events=did).visitor_share == 0.75
    assert audited(events=did, identities=identities).visitor_share == 0.5
    assert audited(events=did.drop(columns="user_id")).visitor_share == pytest.approx(2 / 3), "one row is of nobody"
    assert audited(events=events(1)).visitor_share == 0


def test_unknown_event_names_are_kept_and_counted(audited) -> None:
    found = audited(events=events(1, 2, 3, 4, event=["wheel_spun", "page_viewed", "wheel_spun", "a_b"]))
    assert found.event_names == (EventName("wheel_spun", 2), EventName("a_b", 1))
    assert found.tables[0].good == 4


def test_a_file_of_another_name_is_said_not_to_be_read(workspace: Workspace, audited) -> None:
    (workspace.tables_dir / "order.csv").write_text("order_id\n1\n")
    (workspace.tables_dir / "orders.xlsx").write_text("")
    assert audited(events=events(1)).unread == ("order.csv", "orders.xlsx")


# --- probable duplicates ---


@pytest.mark.parametrize(
    ("column", "values", "evidence"),
    [
        ("email", ["Ann@Shop.com", " ann+news@shop.com ", "bob@shop.com"], "e-mail address"),
        ("phone", ["+49 170 123-4567", "0170 1234567", "12"], "phone"),
        ("full_name", ["Ann  Lee", "ann.lee", "Ann"], "full name"),
    ],
)
def test_users_who_share_what_tells_people_apart_are_probably_one(audited, column, values, evidence) -> None:
    (found,) = audited(events=events(1), users=users(**{column: values})).lookalikes
    assert (found.evidence, found.pairs, found.examples) == (evidence, 1, (("u0", "u1"),))


def test_ids_that_differ_by_capitals_are_probably_one_person(audited) -> None:
    (found,) = audited(orders=orders(1, 2, 3, user_id=["Ann@x", "ann@x ", "bob"])).lookalikes
    assert (found.evidence, found.pairs) == ("id but for capitals and blanks", 1)


def test_a_slip_a_test_customer_and_a_machine_stand_out(audited) -> None:
    sold = orders(*[1] * 200, user_id=[f"u{n % 120}" for n in range(200)], unit_price=10.0)
    sold.loc[0, ["quantity", "unit_price"]] = [10_000_000, 10]
    sold.loc[1:100, "user_id"] = "test@shop"
    did = events(*[1] * 3000, user_id=None, anonymous_id=["bot"] * 2000 + [f"v{n}" for n in range(1000)])
    audit = audited(orders=sold, events=did)
    assert [(one.what, one.of, one.number, one.largest) for one in audit.outsized] == [
        ("order lines", "money", 1, "0"),
        ("users", "money", 1, "test@shop"),
        ("users and visitors", "events", 1, "bot"),
    ]
    assert audit.outsized[1].share == pytest.approx(100 / 199)
    assert "1 user holds 50% of all money (the largest: test@shop)" in str(audit.outsized[1])
    alike = orders(*[1] * 200, user_id=[f"u{n % 120}" for n in range(200)], unit_price=10.0)
    assert audited(orders=alike, events=events(1, 2)).outsized == ()


def test_what_they_share_is_not_repeated(workspace: Workspace, audited) -> None:
    audited(events=events(1), users=users(email=["ann@shop.com"] * 2))
    for file in workspace.reports_dir.iterdir():
        assert "ann@shop.com" not in file.read_text()


def test_a_visitor_with_two_users_is_probably_one_person(audited) -> None:
    identities = pd.DataFrame({"anonymous_id": ["a", "a", "b"], "user_id": ["ann", "bob", "cem"], "at": NOW})
    (found,) = audited(events=events(1), identities=identities).lookalikes
    assert (found.evidence, found.pairs, found.examples) == ("anonymous_id", 1, (("ann", "bob"),))


def test_three_alike_are_three_pairs_and_a_placeholder_is_none(audited) -> None:
    (found,) = audited(events=events(1), users=users(email=["x@y"] * 3 + ["none@shop"] * 11 + [None] * 4)).lookalikes
    assert found.pairs == 3


def test_one_users_history_is_no_duplicate(audited) -> None:
    history = users(email=["a@b", "a@b"]).assign(user_id="ann", updated_at=[NOW, NOW - timedelta(days=1)])
    assert audited(events=events(1), users=history).lookalikes == ()


# --- gaps ---


def test_a_gap_says_what_it_switches_off(audited) -> None:
    gaps = {(gap.table, gap.column): str(gap) for gap in audited(orders=orders(1)).gaps}
    assert gaps["orders", "unit_price"] == (
        "no orders.unit_price: spend features, RFM's monetary part, the value model and revenue in reports are off"
    )
    assert gaps["messages", ""].startswith("no messages: engagement features")
    assert ("messages", "opened_at") not in gaps
    assert ("orders", "user_id") not in gaps


def test_a_column_without_a_single_value_is_a_gap(audited) -> None:
    brought = {(gap.table, gap.column) for gap in audited(orders=orders(1, 2, unit_price=[np.nan, np.nan])).gaps}
    assert ("orders", "unit_price") in brought
    assert ("orders", "unit_price") not in {
        (gap.table, gap.column) for gap in audited(orders=orders(1, 2, unit_price=[np.nan, 2.0])).gaps
    }


# --- fit or not ---


def test_too_many_bad_rows_are_not_fit(audited) -> None:
    brought = {"orders": orders(0, *[1] * 9)}
    (failure,) = audited(**brought).failures
    assert failure.startswith(
        "orders: 10.0% of the rows are bad, more than data.max_bad_share = 5.0%; mostly orders.qu"
    )
    assert audited(**brought, toml="[data]\nmax_bad_share = 0.1").fit
    (_, failure) = audited(orders=orders("9,5")).failures
    assert "first: '9,5' at row 1" in failure
    assert "`attune import tables` reads other ways to write numbers and times" in failure


def test_old_tables_are_not_fit_where_the_settings_say_so(audited) -> None:
    brought = {"events": events(9), "orders": orders(1, occurred_at=NOW - timedelta(days=4))}
    assert audited(**brought).fit
    (failure,) = audited(**brought, toml="[data]\nmax_age_days = 3").failures
    assert failure.startswith("the newest event or order is 4.0 days old, more than data.max_age_days = 3.")
    assert audited(**brought, toml="[data]\nmax_age_days = 5").fit


def test_neither_events_nor_orders_are_not_fit(audited) -> None:
    (failure,) = audited(users=users(country=["DE"])).failures
    assert failure.startswith("neither events nor orders has a good row")


def test_the_audit_is_written_for_programs_and_for_people(workspace: Workspace, audited) -> None:
    found = audited(events=events(1, 2, event_id=["1", None], colour="red"), users=users(email=["x@y"] * 2))
    written = json.loads((workspace.reports_dir / "audit.json").read_text())
    assert written["fit"] is False
    assert written["tables"][1]["findings"][0]["rows"] == 1
    page = (workspace.reports_dir / "audit.md").read_text()
    assert page.startswith("# The data is not fit to train on")
    for line in (*found.failures, *map(str, found.findings), *map(str, found.gaps)):
        assert f"- {line}" in page
    assert "1 pair of users share one e-mail address and are probably one person (such as u0 and u1)." in page


# --- real data ---


def test_guests_and_repeated_lines_of_online_retail_are_no_dirt(shared_data: Path, workspace: Workspace) -> None:
    from data.sources import import_source

    import_source("online-retail", shared_data / "online_retail" / "lines.parquet", workspace.path)
    audit = check(Workspace.open(workspace.path))
    assert audit.fit
    table = next(table for table in audit.tables if table.name == "orders")
    assert audit.guest_share == pytest.approx(0.249, abs=0.001)
    assert table.good + table.bad == 541_909
    assert {(f.column, f.reason, f.rows) for f in table.findings} == {("unit_price", "negative", 2)}
