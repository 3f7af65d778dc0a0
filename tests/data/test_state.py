"""The live state: schema, appends that a second sending does not change, keys, and trouble with the file."""

import sqlite3
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from data.contract import TABLES
from data.errors import DataError, StateUnavailableError
from data.state import State, engine, keys
from data.state.arrivals import sort_events
from data.state.counting import Counted, take, used
from data.state.engine import MIGRATIONS
from data.state.reads import NEWEST, Newest, Who, recent
from data.state.rows import RowRefusedError, fit
from data.state.schema import APPENDED, UPSERTED, metadata, tables
from data.state.writes import add, append, upsert

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = {"event_id": "e1", "event": "product_viewed", "user_id": "ann", "item_id": "tea", "occurred_at": "2026-01-01"}


@pytest.fixture
def state(state_url):
    opened = State.open(state_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path):
    """For what is of SQLite alone."""
    opened = State.open(f"sqlite:///{tmp_path / 'state.db'}")
    yield opened
    opened.close()


def count(state, name):
    with state.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(tables[name]))


def arrivals(*rows):
    return sort_events(rows, now=NOW, max_clock_skew_minutes=60)


def test_the_migrations_make_the_schema_of_the_code(state):
    with state.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_log_is_moved_into_the_file_where_somebody_asks_for_it_and_at_no_commit(sqlite, tmp_path):
    def in_the_file_alone():
        copy = tmp_path / "copy.db"
        copy.write_bytes((tmp_path / "state.db").read_bytes())
        with sqlite3.connect(copy) as other:
            return other.execute("SELECT count(*) FROM events").fetchone()[0]

    sqlite.checkpoint()
    for number in range(3):
        with sqlite.writing() as connection:
            arrivals(*({**EVENT, "event_id": f"{number} {row}" * 100} for row in range(1_000))).store(connection)
    assert in_the_file_alone() == 0
    sqlite.checkpoint()
    assert in_the_file_alone() == 3_000


def test_a_long_log_is_begun_anew_though_somebody_always_writes_and_nobody_waits_for_it(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "LONG_LOG", 10)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)

    def pages():
        return other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]

    for number in range(3):
        with sqlite.writing() as connection:
            arrivals(*({**EVENT, "event_id": f"{number} {row}" * 100} for row in range(100))).store(connection)
    long = pages()
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    sqlite.checkpoint()
    assert time.monotonic() - began < engine.BUSY_TIMEOUT_SECONDS / 4
    other.execute("ROLLBACK")
    assert pages() == long > 10
    sqlite.checkpoint()
    with sqlite.writing() as connection:
        arrivals({**EVENT, "event_id": "another"}).store(connection)
    assert 0 < pages() < long
    assert count(sqlite, "events") == 301


def test_what_does_not_wait_for_the_disk_waits_for_another_program_briefly_or_not_at_all(sqlite, tmp_path):
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited = []
    for flush, wait in ((True, True), (False, True), (False, False), (True, True)):
        began = time.monotonic()
        with pytest.raises(StateUnavailableError, match="Another program"), sqlite.writing(flush=flush, wait=wait):
            pass
        waited.append(time.monotonic() - began)
    other.close()
    assert waited[1] < min(waited[0], waited[3]) / 2
    assert waited[2] < waited[1] / 2


def test_opening_an_up_to_date_state_changes_nothing(state_url):
    State.open(state_url).close()
    State.open(state_url).close()


def test_an_older_state_is_brought_up_to_date_with_its_rows(state_url):
    engine = sa.create_engine(state_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "v0001")
        row = "('ann', 'email', true, '2026-01-01')"
        connection.exec_driver_sql(f"INSERT INTO consents (user_id, purpose, granted, at) VALUES {row}")
    engine.dispose()
    state = State.open(state_url)
    assert count(state, "consents") == 1
    with state.writing() as connection:
        assert take(connection, "redemptions", "ten", limit=1)
        assert arrivals(EVENT).store(connection) == 1
    with state.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    state.close()


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from data.errors import StateUnavailableError
from data.state import State
from data.state.arrivals import sort_events
from data.state.counting import take
url, name = sys.argv[1:]
taken = stored = 0
state = None
for turn in range(40):
    row = {"event": "page_viewed", "user_id": name, "occurred_at": "2026-01-01"}
    rows = [{**row, "event_id": f"both {turn}"}, {**row, "event_id": f"{name} {turn}"}]
    while True:  # as an app does that is told 503
        try:
            state = state or State.open(url)
            with state.writing() as connection:
                found = sort_events(rows, now=datetime.now(UTC), max_clock_skew_minutes=60).store(connection)
                got = take(connection, "redemptions", "ten", limit=60)
            break
        except StateUnavailableError:
            continue
    stored, taken = stored + found, taken + got
print(stored, taken)
"""


def test_limits_and_appends_hold_with_two_processes(state_url):
    State.open(state_url).close()
    command = [sys.executable, "-c", WRITER, state_url]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("one", "two")]
    told = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [sum(map(int, column)) for column in zip(*told, strict=True)] == [120, 60]
    state = State.open(state_url)
    assert count(state, "events") == 120
    with state.reading() as connection:
        assert used(connection, ["redemptions"]) == {Counted("redemptions", "ten"): 60}
    state.close()


def test_what_is_given_back_may_be_taken_again(state):
    with state.writing() as connection:
        assert take(connection, "budget", "2026-01", amount=80, limit=100, user_id="ann")
        assert not take(connection, "budget", "2026-01", amount=30, limit=100, user_id="ann")
        assert take(connection, "budget", "2026-01", amount=30, limit=100, user_id="bob")
        assert take(connection, "budget", "2026-01", amount=-80, limit=100, user_id="ann")
        assert take(connection, "budget", "2026-01", amount=100, limit=100, user_id="ann")


def test_every_table_of_the_contract_is_in_the_state():
    assert set(APPENDED) | set(UPSERTED) == set(TABLES)


def test_a_second_sending_stores_nothing(state):
    for expected in (1, 0):
        with state.writing() as connection:
            assert arrivals(EVENT).store(connection) == expected
    assert count(state, "events") == 1


def test_one_id_twice_in_a_batch_is_stored_once(state):
    with state.writing() as connection:
        assert arrivals(EVENT, EVENT).store(connection) == 1


@pytest.mark.parametrize("together", [True, False])
def test_an_event_whose_id_is_known_brings_no_order_and_no_identity(state, together):
    order = {**EVENT, "event": "order_completed", "order_id": "o", "anonymous_id": "a1"}
    again = {**order, "order_id": "another", "anonymous_id": "a2", "products": [{"item_id": "tea"}]}
    for rows in [(order, again)] if together else [(order,), (again,)]:
        with state.writing() as connection:
            arrivals(*rows).store(connection)
    assert (count(state, "events"), count(state, "orders"), count(state, "identities")) == (1, 0, 1)


def test_an_error_of_the_database_does_not_tell_what_people_did(state):
    secret = "1-terces"[::-1]  # not in the source, which a trace shows
    with pytest.raises(sa.exc.IntegrityError) as told, state.writing() as connection:
        append(connection, "outcomes", [{"outcome_id": secret}])
    assert secret not in "".join(traceback.format_exception(told.value))


def test_a_failed_transaction_leaves_nothing(state):
    def store_and_fail():
        with state.writing() as connection:
            assert arrivals(EVENT).store(connection) == 1
            append(connection, "outcomes", [{"outcome_id": "o1"}])

    with pytest.raises(sa.exc.IntegrityError):
        store_and_fail()
    assert count(state, "events") == 0


def test_times_come_back_in_utc(state):
    with state.writing() as connection:
        arrivals({**EVENT, "occurred_at": "2026-01-01T02:00:00+02:00"}).store(connection)
    with state.reading() as connection:
        assert connection.scalar(sa.select(tables["events"].c.occurred_at)) == NOW


def test_received_at_is_when_the_row_reached_us_whatever_it_says():
    assert arrivals({**EVENT, "received_at": "1999-01-01"}).events[0]["received_at"] == NOW


def test_an_order_becomes_lines_and_a_refund_negative_lines(state):
    order = {**EVENT, "event": "order_completed", "order_id": 7, "item_id": None}
    products = [{"product_id": "tea", "quantity": 2, "price": 3.5}, {"item_id": "cup"}]
    refund = {**order, "event_id": "e2", "event": "order_refunded", "products": [{"item_id": "tea", "quantity": 1}]}
    with state.writing() as connection:
        arrivals({**order, "products": products}, refund).store(connection)
    lines = tables["orders"].c
    query = sa.select(lines.order_id, lines.line_id, lines.item_id, lines.quantity, lines.unit_price)
    with state.reading() as connection:
        found = [tuple(row) for row in connection.execute(query.order_by(lines.seq))]
    assert found == [("7", "1", "tea", 2.0, 3.5), ("7", "2", "cup", 1.0, None), ("7", "e2/1", "tea", -1.0, None)]


def test_lines_of_an_order_may_be_counted_from_0_and_so_may_items_and_orders():
    products = [{"product_id": 0, "line_id": 0}, {"item_id": 1, "line_id": 1, "unit_price": None, "price": 2.5}]
    found = arrivals({**EVENT, "event": "order_completed", "order_id": 0, "products": products})
    assert found.refused == []
    lines = [(line["order_id"], line["line_id"], line["item_id"], line["unit_price"]) for line in found.orders["e1"]]
    assert lines == [("0", "0", "0", None), ("0", "1", "1", 2.5)]


def test_two_ids_as_long_as_they_may_be_are_a_key_of_an_index(state):
    """Of letters without any pattern, which PostgreSQL cannot press together."""
    letters = np.random.default_rng(0).integers(0x4E00, 0x9FFF, (4, 341))
    visitor, user, order, line = ("".join(map(chr, codes)) for codes in letters)
    products = [{"item_id": "tea", "line_id": line}]
    bought = {"event": "order_completed", "order_id": order, "products": products}
    with state.writing() as connection:
        arrived = arrivals({**EVENT, **bought, "user_id": user, "anonymous_id": visitor})
        assert (arrived.store(connection), arrived.refused) == (1, [])
    assert (count(state, "identities"), count(state, "orders")) == (1, 1)


def test_an_event_naming_visitor_and_user_ties_them(state):
    with state.writing() as connection:
        arrivals({**EVENT, "anonymous_id": "a1"}).store(connection)
    assert count(state, "identities") == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_id": "x" * 600}, "event_id"),
        ({"user_id": "茶" * 342}, "user_id"),
        ({"event": 1.5}, "event"),
        ({"user_id": None}, "user_id"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": 17}, "occurred_at"),
        ({"occurred_at": "2027-01-01T00:00:00Z"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"value": "two"}, "value"),
        ({"value": True}, "value"),
        ({"value": 10**400}, "value"),
        ({"item_id": "a\0b"}, "item_id"),
        ({"item_id": "\ud800"}, "item_id"),
        ({"no name": 1}, "no name"),
        ({"Item_Id": "x"}, "item_id"),
        ({"event": "Product Viewed"}, "event"),
        ({"event": "orderCompleted", "products": [{"item_id": "a"}]}, "event"),
        ({"event": "order_completed", "products": "tea"}, "products"),
        ({"event": "order_completed", "products": [{"quantity": 1}]}, "products[0].item_id"),
        ({"event": "order_completed", "products": [{"item_id": "a", "quantity": "1"}]}, "products[0].quantity"),
        ({"event": "order_completed", "products": ["tea"]}, "products[0]"),
        ({"event": "order_refunded", "products": [{"item_id": "a", "quantity": 10**400}]}, "products[0].quantity"),
        ({"event": "order_completed", "products": [{"item_id": "a", "quantity": 0}]}, "products[0].quantity"),
        (
            {"event": "order_completed", "products": [{"item_id": "a", "line_id": 2}, {"item_id": "b"}]},
            "products[1].line_id",
        ),
        ({"user_id": "x" * 600}, "user_id"),
        ({"item_id": "x" * 600}, "item_id"),
        ({"shade": float("nan")}, "extra"),
        ({"shade": {"deep": [float("-inf")]}}, "extra"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_its_field(change, field):
    found = arrivals({**EVENT, **change})
    assert [refusal.field for refusal in found.refused] == [field]
    assert not found.events


def test_a_number_that_json_does_not_know_is_refused():
    with pytest.raises(RowRefusedError, match="attributes: holds a number that is not finite"):
        fit(TABLES["variants"], {"variant_id": "v", "slot": "s", "attributes": {"size": float("nan")}})


def test_an_order_without_lines_is_an_event_alone():
    found = arrivals({**EVENT, "event": "order_completed", "products": []}, {**EVENT, "event": "Tasting Booked"})
    assert not found.refused
    assert [event["extra"] for event in found.events] == [None, None]


def test_columns_outside_the_contract_are_kept():
    assert fit(TABLES["events"], {**EVENT, "Colour": "red"})["extra"] == {"colour": "red"}
    with pytest.raises(RowRefusedError):
        fit(TABLES["events"], {**EVENT, "text": "x" * 20_000})


def test_an_upsert_replaces_the_row_and_an_item_without_a_time_is_known_from_now_on(state):
    offer = fit(TABLES["offers"], {"offer_id": "ten", "value": 10})
    with state.writing() as connection:
        assert upsert(connection, "offers", [offer, {**offer, "value": 12.0}], at=NOW) == 1
        upsert(connection, "items", [fit(TABLES["items"], {"item_id": "tea"})], at=NOW)
    with state.reading() as connection:
        assert connection.scalar(sa.select(tables["offers"].c.value)) == 12.0
        assert connection.scalar(sa.select(tables["items"].c.updated_at)) == NOW


def test_a_locked_file_is_told_apart_and_nothing_is_lost(sqlite, tmp_path):
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailableError, match="locked"), sqlite.writing() as connection:
        arrivals(EVENT).store(connection)
    other.execute("ROLLBACK")
    with sqlite.writing() as connection:
        assert arrivals(EVENT).store(connection) == 1


def test_a_writer_that_does_not_end_keeps_others_waiting_for_a_second(state, state_url):
    other = State.open(state_url)
    with other.writing(), pytest.raises(StateUnavailableError, match="Another program is writing"), state.writing():
        pass
    with state.writing() as connection:
        assert arrivals(EVENT).store(connection) == 1
    other.close()


def test_postgresql_leaves_no_commit_to_later(postgres):
    """What it leaves is in its own memory, and gone when it ends at once."""
    state = State.open(postgres.new_database())
    with state.writing(flush=False) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    state.close()


@pytest.mark.parametrize(
    "url", ["no url", "sqlite:////nowhere/at/all/state.db", "postgresql+psycopg://nobody@127.0.0.1:1/x"]
)
def test_a_state_that_cannot_be_opened_says_so(url):
    with pytest.raises(StateUnavailableError):
        State.open(url)


@pytest.mark.parametrize(
    "url", ["postgres://u:p4ss@h/d", "mysql://u:p4ss@h/d", "postgresql//u:p4ss@h", "sqlite://u:p4ss@h:p/"]
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url):
    with pytest.raises(StateUnavailableError, match=r"state\.url: .* cannot be used. Write postgresql") as told:
        State.open(url)
    assert "p4ss" not in str(told.value)


def test_who_opens_it_does_not_keep_a_writer_waiting(tmp_path):
    url = f"sqlite:///{tmp_path / 'state.db'}"
    first = State.open(url)
    with first.writing() as connection:
        State.open(url).close()  # the schema is there: nothing is to be written
        connection.execute(tables["events"].delete())
    first.close()


def test_a_file_that_is_no_database_says_so(tmp_path):
    (tmp_path / "state.db").write_text("this is no database, though it is long enough to look like one" * 40)
    with pytest.raises(StateUnavailableError, match="backup"):
        State.open(f"sqlite:///{tmp_path / 'state.db'}")


def test_a_key_is_never_stored(sqlite, tmp_path):
    key = keys.create(sqlite, role="admin")
    sqlite.close()
    assert key.rpartition("_")[2].encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_opens_until_it_is_revoked(state):
    key = keys.create(state, role="admin", name="back office")
    assert keys.role_of(key, keys.in_force(state)) == "admin"
    assert keys.role_of(key + "0", keys.in_force(state)) is None
    assert keys.role_of("", keys.in_force(state)) is None
    [shown] = keys.listed(state)
    keys.revoke(state, shown.key_id)
    assert keys.role_of(key, keys.in_force(state)) is None
    with pytest.raises(DataError, match="not in force"):
        keys.revoke(state, shown.key_id)


def test_a_role_that_is_none_is_refused(state):
    with pytest.raises(DataError, match="owner"):
        keys.create(state, role="owner")


def test_an_append_of_nothing_is_nothing(state):
    with state.writing() as connection:
        assert append(connection, "outcomes", []) == set()


def test_what_several_touched_is_what_each_touched_alone(state):
    seen = {"event": "product_viewed", "item_id": "tea"}
    minute = timedelta(minutes=1)
    rows = [
        {**seen, "event_id": f"many {n}", "user_id": "ann", "item_id": f"i{n}", "occurred_at": str(NOW - n * minute)}
        for n in range(NEWEST + 5)
    ]
    rows += [
        {**seen, "event_id": "of bob", "user_id": "bob", "occurred_at": "2025-12-01"},
        {**seen, "event_id": "before", "anonymous_id": "v1", "item_id": "cup", "occurred_at": "2025-12-02"},
        {**seen, "event_id": "login", "anonymous_id": "v1", "user_id": "bob", "item_id": None, "occurred_at": str(NOW)},
        {**seen, "event_id": "bought", "event": "order_completed", "user_id": "bob", "occurred_at": "2025-12-03",
         "item_id": None, "products": [{"product_id": "pot"}]},
    ]  # fmt: skip
    with state.writing() as connection:
        arrivals(*rows).store(connection)
    asked = [Who("ann"), Who("bob"), Who("nobody"), Who(), Who(None, "v1"), Who("bob", "v1"), Who("ann", "bob")]
    with state.reading() as connection:
        together = recent(connection, asked)
        alone = [recent(connection, [who])[0] for who in asked]
    assert together == alone
    ann, bob, nobody, stranger, visitor, both, mixed = together
    assert [touch.item_id for touch in ann] == [f"i{n}" for n in range(NEWEST)], "the newest first, and no more"
    assert [(touch.item_id, touch.event) for touch in bob] == [
        ("pot", "order"),
        ("cup", "product_viewed"),
        ("tea", "product_viewed"),
    ]
    assert (nobody, stranger, mixed) == ([], [], ann), "a visitor's id is no user's"
    assert [touch.item_id for touch in visitor] == ["cup"]
    assert [touch.item_id for touch in both] == ["pot", "cup", "cup", "tea"]


def test_a_change_is_seen_even_if_it_is_dated_before_one_that_was_seen(state):
    def newest(since):
        with state.reading() as connection:
            return since.of(connection, "offers")

    def change(name, at):
        with state.writing() as connection:
            upsert(connection, "offers", [fit(TABLES["offers"], {"offer_id": name})], at=at)

    first = newest(Newest())
    change("ten", NOW)
    second = newest(first)
    assert second is not first
    assert newest(second) is second
    change("gift", NOW - timedelta(seconds=2))
    third = newest(second)
    assert third is not second
    change("ten", NOW + timedelta(seconds=1))
    fourth = newest(third)
    assert fourth is not third
    assert newest(fourth) is fourth


def test_a_change_is_seen_though_the_clock_of_who_changed_it_is_behind(state):
    with state.writing() as connection:
        upsert(connection, "offers", [fit(TABLES["offers"], {"offer_id": "ten"})], at=NOW + timedelta(days=1))
    with state.reading() as connection:
        seen = Newest().of(connection, "offers")
    with state.writing() as connection:
        upsert(connection, "offers", [fit(TABLES["offers"], {"offer_id": "gift"})], at=NOW)
    with state.reading() as connection:
        assert seen.of(connection, "offers") is not seen


def test_what_is_added_without_being_told_is_stored_as_what_is_appended(state):
    row = {"user_id": "ann", "at": NOW, "kind": "items", "arm": "model", "arm_share": 1.0, "model_version": "m 1"}
    rows = [{**row, "decision_id": f"d{n}", "chosen": ["tea"], "probability": [0.5]} for n in range(3)]
    rows[1] |= {"placement": "home", "context": "{}"}
    with state.writing() as connection:
        append(connection, "decisions", rows[:2])
        add(connection, "decisions", [{**rows[1], "user_id": "bob"}, rows[2], rows[2]])
        add(connection, "decisions", [])
    log = tables["decisions"].c
    with state.reading() as connection:
        found = connection.execute(sa.select(log.decision_id, log.user_id, log.chosen, log.placement).order_by("seq"))
        assert [tuple(stored) for stored in found] == [
            ("d0", "ann", ["tea"], None),
            ("d1", "ann", ["tea"], "home"),
            ("d2", "ann", ["tea"], None),
        ]
