"""Erasing a person: nothing of them is left, nothing of others goes, and they do not come back."""

import json
import shutil
from datetime import UTC, datetime

import duckdb
import pandas as pd
import pytest
import sqlalchemy as sa

from data.checks import check
from data.contract import TABLES
from data.erasing import begin, erase, finish, pending
from data.sources import import_source
from data.state import State
from data.state.arrivals import sort_events
from data.state.counting import take
from data.state.rows import fit
from data.state.schema import erasures, tables, tombstones
from data.state.sync import sync
from data.state.tombstones import Tombstones
from data.state.writes import append, upsert
from data.tables import Tables
from data.workspace import Workspace
from features.snapshots import build

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ERASED, VISITOR = "ann@example.org", "visitor-of-ann"
"""Ids that stand in no other text."""

EVENTS = pd.DataFrame([
    {"event_id": "1", "user_id": ERASED, "event": "product_viewed", "item_id": "tea", "occurred_at": "2026-01-01"},
    {"event_id": "2", "anonymous_id": VISITOR, "event": "page_viewed", "item_id": "cup", "occurred_at": "2026-01-02"},
    {"event_id": "3", "user_id": "bob", "anonymous_id": VISITOR, "event": "page_viewed", "occurred_at": "2026-01-03"},
    {"event_id": "4", "anonymous_id": "another", "event": "page_viewed", "occurred_at": "2026-01-04"},
    {"event_id": "5", "user_id": "bob", "event": "product_viewed", "item_id": "tea", "occurred_at": "2026-01-31"},
    {"event_id": "", "user_id": ERASED, "event": "page_viewed", "occurred_at": "2026-01-05"},
])  # fmt: skip
ORDERS = pd.DataFrame([
    {"order_id": "o1", "line_id": "1", "user_id": ERASED, "item_id": "tea", "quantity": 1, "note": f"for {ERASED}"},
    {"order_id": "o2", "line_id": "1", "user_id": "bob", "item_id": "cup", "quantity": 1, "note": "gift"},
]).assign(occurred_at="2026-01-10", unit_price=3.5)  # fmt: skip
USERS = pd.DataFrame([{"user_id": ERASED, "name": "Ann Lee"}, {"user_id": "bob", "name": "Ann Lee"}])
IDENTITIES = pd.DataFrame([
    {"anonymous_id": VISITOR, "user_id": ERASED, "at": "2026-01-02T12:00:00Z"},
    {"anonymous_id": VISITOR, "user_id": "bob", "at": "2026-01-03T12:00:00Z"},
    {"anonymous_id": "another", "user_id": "bob", "at": "2026-01-01"},
    {"anonymous_id": "another", "user_id": ERASED, "at": "2026-01-05"},
])  # fmt: skip
DECISION = {
    "at": "2026-02-01", "kind": "items", "placement": "home", "arm": "model", "arm_share": 1.0, "chosen": ["tea"],
    "probability": [1.0], "model_version": "1",
}  # fmt: skip


def bring(workspace, kind="parquet"):
    """The tables, as files of one kind."""
    for name, frame in {"events": EVENTS, "orders": ORDERS, "users": USERS, "identities": IDENTITIES}.items():
        path = workspace.tables_dir / f"{name}.{kind}"
        if kind == "parquet":
            frame.to_parquet(path, index=False)
        elif kind == "csv":
            frame.to_csv(path, index=False)
        elif kind == "jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            with duckdb.connect(workspace.tables_dir / "shop.duckdb") as database:
                database.register("frame", frame)
                database.execute(f"CREATE TABLE {name} AS FROM frame")


def event(event_id, **more):
    return {"event_id": event_id, "event": "page_viewed", "occurred_at": "2026-02-01", **more}


def store(state, *events):
    with state.writing() as connection:
        return sort_events(events, now=NOW, max_clock_skew_minutes=60).store(connection)


def live(state):
    """Rows of the person in every table of the state that can have some, and of others."""
    store(
        state,
        event("10", user_id=ERASED, anonymous_id="phone", event="order_completed", products=[{"item_id": "tea"}]),
        event("11", anonymous_id="phone"),
        event("12", user_id="bob"),
    )
    with state.writing() as connection:
        rows = [
            {**DECISION, "decision_id": name, "user_id": user}
            for name, user in {"d1": ERASED, "d2": "phone", "d3": "bob"}.items()
        ]
        append(connection, "decisions", [fit(TABLES["decisions"], row) for row in rows])
        outcomes = [
            {"outcome_id": f"o{i}", "decision_id": f"d{i}", "kind": "click", "at": "2026-02-02"} for i in (1, 2, 3)
        ]
        append(connection, "outcomes", [fit(TABLES["outcomes"], row) for row in outcomes])
        for user in (ERASED, "bob"):
            consent = {"user_id": user, "purpose": "email", "granted": True, "at": "2026-02-01"}
            append(connection, "consents", [fit(TABLES["consents"], consent)])
            chosen = {"user_id": user, "name": "topics", "value": "tea", "at": "2026-02-01"}
            append(connection, "preferences", [fit(TABLES["preferences"], chosen)])
            upsert(connection, "users", [fit(TABLES["users"], {"user_id": user, "country": "DE"})], at=NOW)
            sent = {"message_id": f"m {user}", "user_id": user, "channel": "email", "sent_at": "2026-02-01"}
            upsert(connection, "messages", [fit(TABLES["messages"], sent)], at=NOW)
            take(connection, "contacts", "email", limit=9, user_id=user)


def mentions(workspace):
    """Files of the workspace that hold one of the person's ids, as bytes or as values."""
    found = set()
    for path in workspace.path.rglob("*"):
        if not path.is_file():
            continue
        held = path.read_bytes()
        if path.suffix == ".parquet":
            held += pd.read_parquet(path, partitioning=None).to_csv().encode()
        if ERASED.encode() in held or VISITOR.encode() in held or b"phone" in held:
            found.add(str(path.relative_to(workspace.path)))
    return found


def event_ids(workspace):
    return sorted(Tables.open(workspace.tables_dir)["events"].event_id.execute().dropna())


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "shop")


@pytest.fixture
def state(workspace):
    opened = State.of(workspace)
    yield opened
    opened.close()


@pytest.fixture
def either(workspace, state_url):
    """The state of the workspace, in a database of each kind."""
    with workspace.settings_file.open("a") as file:
        file.write(f'[state]\nurl = "{state_url}"\n')
    opened = State.of(workspace)
    yield opened
    opened.close()


def test_nothing_of_the_person_is_left_in_a_shop_that_was_used(workspace, state):
    bring(workspace)
    live(state)
    sync(workspace, state)
    check(workspace)
    build(workspace, [datetime(2026, 2, 15, tzinfo=UTC)])
    (workspace.path / "left-out").mkdir()
    lines = pd.DataFrame({"reason": ["bad"] * 3, "line": [f'{{"userId": "{ERASED}"', '{"userId": "bob"', VISITOR]})
    lines.to_parquet(workspace.path / "left-out" / "segment.parquet")
    shutil.copytree(workspace.tables_dir, workspace.path / ".sync.killed")
    assert {"quarantine/events.parquet", "reports/audit.md", "checked/users.parquet"} <= mentions(workspace)
    receipt = erase(workspace, state, ERASED)
    shared = {"tables/events/imported.parquet", "checked/events.parquet"}  # bob's own event, in the same browser
    assert mentions(workspace) == shared | {"tables/identities/imported.parquet", "checked/identities.parquet"}
    assert "phone" not in json.dumps(receipt.files)
    assert dict(receipt.state) == {
        "events": 2, "orders": 1, "identities": 1, "decisions": 2, "outcomes": 2, "consents": 1, "preferences": 1,
        "users": 1, "messages": 1, "counters": 1,
    }  # fmt: skip
    assert receipt.files["tables/events/imported.parquet"] == 3
    assert receipt.files["left-out/segment.parquet"] == 2
    assert receipt.visitors == 2
    assert receipt.complete
    kept = json.loads((workspace.erasures_dir / f"{receipt.erasure_id}.json").read_text())
    assert kept["files"] == receipt.files
    assert workspace.is_checked


def test_nothing_of_others_goes(workspace, either):
    bring(workspace)
    live(either)
    sync(workspace, either)
    erase(workspace, either, ERASED)
    assert event_ids(workspace) == ["12", "3", "4", "5"]
    kept = Tables.open(workspace.tables_dir)
    assert kept["identities"].user_id.execute().tolist() == ["bob", "bob"]
    with either.reading() as connection:
        for name in ("decisions", "consents", "preferences", "users", "messages"):
            assert connection.scalars(sa.select(tables[name].c.user_id)).all() == ["bob"]
        assert connection.scalars(sa.select(tables["outcomes"].c.outcome_id)).all() == ["o3"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "duckdb"])
def test_every_kind_of_file_is_cleared_and_the_rest_reads_as_before(workspace, state, kind):
    bring(workspace, kind)
    before = Tables.open(workspace.tables_dir)["orders"].order_by("order_id").execute().tail(1)
    receipt = erase(workspace, state, ERASED)
    assert sum(receipt.files.values()) == 7
    after = Tables.open(workspace.tables_dir)["orders"].execute()
    pd.testing.assert_frame_equal(after, before.reset_index(drop=True))
    assert event_ids(workspace) == ["3", "4", "5"]
    assert ERASED.encode() not in b"".join(path.read_bytes() for path in workspace.tables_dir.rglob("*.*"))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "duckdb"])
def test_orders_that_must_stay_are_nobodys(workspace, state, kind):
    bring(workspace, kind)
    live(state)
    receipt = erase(workspace, state, ERASED, keep_orders=True)
    orders = Tables.open(workspace.tables_dir)["orders"].order_by("order_id").execute()
    assert orders.order_id.tolist() == ["o1", "o2"]
    assert orders.user_id.fillna("").tolist() == ["", "bob"]
    assert orders.note.fillna("").tolist() == ["", "gift"]
    assert receipt.orders_kept == 2
    with state.reading() as connection:
        assert connection.execute(sa.select(tables["orders"].c.user_id)).all() == [(None,)]


def test_the_deleted_rows_are_not_in_the_database_file_either(workspace, state):
    live(state)
    erase(workspace, state, ERASED)
    held = b"".join(path.read_bytes() for path in workspace.path.glob("state.db*"))
    assert ERASED.encode() not in held
    assert b"bob" in held


def test_an_import_does_not_bring_the_person_back(workspace, state, tmp_path):
    erase(workspace, state, ERASED)
    brought = tmp_path / "brought.csv"
    pd.DataFrame({"who": [ERASED, "bob"], "what": "tea", "when": "2026-01-01", "n": 1}).to_csv(brought, index=False)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        '[orders]\nfile = "brought.csv"\n[orders.columns]\nuser_id = "who"\nitem_id = "what"\n'
        'occurred_at = "when"\nquantity = "n"\norder_id = "who"\n'
    )
    summary = import_source("tables", tmp_path, workspace.path, mapping=mapping)
    assert summary.refused == {"of a person who was erased": 1}
    assert Tables.open(workspace.tables_dir)["orders"].user_id.execute().tolist() == ["bob"]


def test_a_copied_file_does_not_bring_the_person_back(workspace, state):
    bring(workspace)
    erase(workspace, state, ERASED)
    bring(workspace)
    check(workspace)
    assert event_ids(workspace) == ["3", "4", "5"]
    told = json.loads((workspace.erasures_dir / "kept-out.jsonl").read_text())
    assert told["rows"]["tables/events.parquet"] == 3


def test_no_writer_lets_the_person_back_into_the_state(workspace, either):
    live(either)
    erase(workspace, either, ERASED)
    live(either)
    with either.reading() as connection:
        for name in ("events", "orders", "identities", "consents", "preferences", "users", "messages"):
            assert set(connection.scalars(sa.select(tables[name].c.user_id))) <= {"bob"}
        assert set(connection.scalars(sa.select(tables["decisions"].c.user_id))) == {
            "bob", "stranger-d1", "stranger-d2",
        }  # fmt: skip


def test_kept_orders_come_back_as_nobodys(workspace, either):
    erase(workspace, either, ERASED, keep_orders=True)
    with either.writing() as connection:
        order = {"order_id": "o", "line_id": "1", "user_id": ERASED, "item_id": "tea", "quantity": 1, "note": "x"}
        append(connection, "orders", [fit(TABLES["orders"], {**order, "occurred_at": "2026-01-01"})])
    with either.reading() as connection:
        [(user, extra)] = connection.execute(sa.select(tables["orders"].c.user_id, tables["orders"].c.extra)).all()
    assert (user, extra) == (None, None)


def test_a_refused_row_says_why_and_does_not_name_the_person(state, workspace):
    erase(workspace, state, ERASED)
    rows = [event("20", user_id=ERASED), event("21", user_id="bob")]
    found = sort_events(rows, now=NOW, max_clock_skew_minutes=60, erased=state.tombstones.holds)
    [refusal] = found.refused
    assert (refusal.position, refusal.field, refusal.row_id) == (0, "user_id", "20")
    assert "erased" in refusal.message
    assert ERASED not in repr(refusal)


def test_somebody_nobody_knows_gets_a_receipt_of_nothing(workspace, state):
    receipt = erase(workspace, state, "nobody")
    assert (receipt.rows, receipt.complete) == (0, True)
    assert "nobody" not in json.dumps(receipt.__dict__)


def test_erasing_twice_gives_the_same_receipt(workspace, either):
    bring(workspace)
    first = erase(workspace, either, ERASED)
    assert erase(workspace, either, ERASED) == first
    assert len(list(workspace.erasures_dir.iterdir())) == 1


def test_orders_that_were_kept_go_if_asked_for_later(workspace, either):
    live(either)
    assert erase(workspace, either, ERASED, keep_orders=True).orders_kept == 1
    again = erase(workspace, either, ERASED)
    assert not again.keep_orders
    assert not either.tombstones.keeps_orders(ERASED)


def test_an_interrupted_erasure_goes_on(workspace, state, monkeypatch):
    bring(workspace)
    begun = begin(workspace, state, ERASED)
    assert pending(state)
    monkeypatch.setattr("data.erasing.files.CLEARERS", {".parquet": lambda _: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        finish(workspace, state)
    monkeypatch.undo()
    assert ERASED not in str(tables_of(state, erasures))
    [done] = finish(workspace, State.of(workspace))
    assert (done.erasure_id, done.complete) == (begun.erasure_id, True)
    assert not pending(state)
    assert event_ids(workspace) == ["3", "4", "5"]


def test_two_people_at_once_have_a_receipt_each(workspace, state):
    bring(workspace)
    ann, bob = begin(workspace, state, ERASED), begin(workspace, state, "bob")
    done = {receipt.erasure_id: receipt for receipt in finish(workspace, state)}
    assert done[ann.erasure_id].files["tables/orders.parquet"] == 1
    assert done[bob.erasure_id].files["tables/events.parquet"] == 3
    assert Tables.open(workspace.tables_dir)["users"].count().execute() == 0


def test_a_number_is_an_id_as_any_other_and_takes_no_report_along(workspace, state):
    frame = pd.DataFrame({"user_id": [12, 13], "purpose": "email", "granted": True, "at": "2026-01-01"})
    frame.to_parquet(workspace.tables_dir / "consents.parquet")
    workspace.reports_dir.mkdir()
    (workspace.reports_dir / "audit.md").write_text("12 rows")
    (workspace.reports_dir / "names.json").write_text('["12"]')
    erase(workspace, state, "12")
    assert Tables.open(workspace.tables_dir)["consents"].user_id.execute().tolist() == ["13"]
    assert [path.name for path in workspace.reports_dir.iterdir()] == ["audit.md"]


def test_an_id_that_a_gap_made_a_fraction_is_the_same_id(workspace, state):
    """An order of a guest makes 17850 of all others 17850.0, in Parquet and in JSON."""
    some = ORDERS.assign(user_id=[17850.0, None])
    some.to_parquet(workspace.tables_dir / "orders.parquet")
    events = EVENTS.head(2).assign(user_id=[17850.0, None])
    events.to_json(workspace.tables_dir / "events.jsonl", orient="records", lines=True, double_precision=1)
    check(workspace)
    assert workspace.checked["orders"].user_id.execute().dropna().tolist() == ["17850"]
    erase(workspace, state, "17850")
    assert pd.read_parquet(workspace.tables_dir / "orders.parquet")["order_id"].tolist() == ["o2"]
    assert "17850" not in (workspace.tables_dir / "events.jsonl").read_text()


def test_tombstones_are_keyed_with_the_salt(workspace, state):
    erase(workspace, state, ERASED)
    [row] = tables_of(state, tombstones)
    assert len(row.person) == 64
    assert not State.open(workspace.state_url, salt="another").tombstones.holds(ERASED)
    assert State.of(workspace).tombstones.holds(ERASED)


def test_who_reads_late_forgets_nobody_who_was_erased_meanwhile(workspace, state):
    """Two threads look who was erased; the one that read first is the last to take it over."""
    erase(workspace, state, "bob")
    late = Tombstones(workspace.settings.shop.salt)

    class Slow:
        """A connection that another thread overtakes."""

        def __init__(self, connection):
            self._connection = connection

        def exec_driver_sql(self, text):
            return self._connection.exec_driver_sql(text)

        def execute(self, query):
            found = self._connection.execute(query).all()
            erase(workspace, state, ERASED)
            with state.reading() as other:
                late.refresh(other)
            return found

    with state.reading() as connection:
        late.refresh(Slow(connection))
    assert late.holds(ERASED)


def test_somebody_with_more_visitors_than_a_statement_takes_values_is_erased(workspace, state, few_values):
    visitors = [f"visitor {i}" for i in range(300)]
    seen = [event(f"s{i}", anonymous_id=visitor) for i, visitor in enumerate(visitors)]
    named = [event(f"n{i}", anonymous_id=visitor, user_id=ERASED) for i, visitor in enumerate(visitors)]
    store(state, *seen, *named, event("other", user_id="bob", anonymous_id="bobs"))
    with state.writing() as connection:
        given = {**DECISION, "decision_id": "d", "user_id": visitors[-1]}
        append(connection, "decisions", [fit(TABLES["decisions"], given)])
        clicked = {"outcome_id": "o", "decision_id": "d", "kind": "click", "at": "2026-02-02"}
        append(connection, "outcomes", [fit(TABLES["outcomes"], clicked)])
    few_values(state)
    receipt = erase(workspace, state, ERASED)
    assert receipt.visitors == 300
    assert receipt.state == {"events": 600, "identities": 300, "decisions": 1, "outcomes": 1}
    assert {row.user_id for row in tables_of(state, tables["events"])} == {"bob"}
    assert all(map(state.tombstones.holds, (ERASED, *visitors)))
    assert erase(workspace, state, ERASED).erasure_id == receipt.erasure_id


def tables_of(state, table):
    with state.reading() as connection:
        return connection.execute(sa.select(table)).all()
