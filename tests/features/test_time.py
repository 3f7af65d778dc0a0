"""Nothing at or after the cutoff changes any feature, for every table and every time column of the contract."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.contract import TABLES, TableSpec
from data.settings import Features
from data.tables import Tables
from features.answers import own_answers
from features.behaviour import EVENTS
from features.online import OnlineFeatures
from features.snapshots import features, lacking, snapshot

CUTOFF = datetime(2026, 3, 1, tzinfo=UTC)
POOLS = {
    "user_id": ["ann", "bob", None],
    "anonymous_id": ["a1", "a2", None],
    "item_id": ["tea", "cup", "hat", None],
    "order_id": ["o1", "o2", "o3", "o4"],
    "session_id": ["s1", "s2", None],
    "category": ["drinks", "kitchen", None],
    "brand": ["leaf", "clay"],
    "channel": ["email", "sms"],
    "event": list(EVENTS),
}
EARLIER = [CUTOFF - timedelta(days=days) for days in (0.5, 3, 20, 31, 80, 200, 400)] + [
    CUTOFF - timedelta(microseconds=1)
]
LATER = [CUTOFF, CUTOFF + timedelta(microseconds=1), CUTOFF + timedelta(days=2), CUTOFF + timedelta(days=400)]
SETTINGS = Features(attributes=("shoe_size",), form_answers=("skin",))
MORE = {"users": {"shoe_size": pa.float64()}, "events": {"skin": pa.string()}}
SCHEMAS = {
    name: pa.schema([*spec.schema.to_pyarrow(), *(pa.field(*more) for more in MORE.get(name, {}).items())])
    for name, spec in TABLES.items()
}
EMPTY = {name: schema.empty_table() for name, schema in SCHEMAS.items()}


def tables_of(rows: dict[str, list[dict]]) -> Tables:
    return Tables.from_frames(**{
        name: pa.Table.from_pylist(rows.get(name, []), schema=schema).to_pandas(types_mapper=pd.ArrowDtype)
        for name, schema in SCHEMAS.items()
    })  # fmt: skip


@pytest.fixture(scope="module")
def online() -> OnlineFeatures:
    """The snapshot's SQL, compiled once: the same that `snapshot` runs."""
    everything = tables_of({})
    assert not lacking(everything, SETTINGS)
    return OnlineFeatures(everything, SETTINGS, categories=["drinks", "kitchen"])


def value(name: str, kind: str, times: list[datetime]):
    """A value of a column; a time is one of `times` or missing."""
    if kind == "time":
        return st.sampled_from([*times, None])
    if name in POOLS:
        return st.sampled_from(POOLS[name])
    return {
        "string": st.sampled_from(["x", "y", None]),
        "float": st.sampled_from([-1.0, 0.1, 0.2, 2.0, None]),
        "int": st.integers(0, 3),
        "bool": st.sampled_from([True, False, None]),
        "strings": st.lists(st.sampled_from(["email", "sms"]), max_size=2),
        "floats": st.lists(st.floats(0, 1), max_size=2),
    }[kind]


def row(spec: TableSpec, times: list[datetime]):
    """A row of a table with times among `times`; one that happens has a time."""
    more = {name: "float" if kind == pa.float64() else "string" for name, kind in MORE.get(spec.name, {}).items()}
    kinds = {column.name: column.type for column in spec.columns} | more
    values = {name: value(name, kind, times) for name, kind in kinds.items()}
    for name in spec.required:
        if name == spec.happened_at:
            values[name] = st.sampled_from(times)
    return st.fixed_dictionaries(values)


def is_known(row: dict, spec: TableSpec) -> bool:
    """Told independently of `Tables.as_of`: whether the row was there before the cutoff."""
    happened = row.get(spec.happened_at) if spec.happened_at else None
    if spec.history and happened is None:
        happened = row["created_at"]
    return all(time is None or time < CUTOFF for time in (happened, row.get("received_at")))


@st.composite
def two_worlds(draw) -> tuple[dict[str, list[dict]], dict[str, list[dict]]]:
    """Two shops that agree on everything known before the cutoff and on nothing else."""
    one: dict[str, list[dict]] = {}
    other: dict[str, list[dict]] = {}
    for name, spec in TABLES.items():
        if spec.happened_at is None:
            one[name] = draw(st.lists(row(spec, EARLIER + LATER), max_size=2))
            other[name] = one[name]
            continue
        any_rows = st.lists(row(spec, EARLIER + LATER), max_size=8)
        one[name] = _numbered(draw(any_rows), spec)
        kept = [dict(r) for r in one[name] if is_known(r, spec)]
        for known in kept:
            for later, columns in (spec.later or {}).items():
                if known[later] is not None and known[later] >= CUTOFF:
                    for column in columns:
                        known[column] = draw(value(column, spec.by_name[column].type, LATER))
                    known[later] = draw(st.sampled_from([*LATER, None]))
        unknown = [r for r in draw(any_rows) if not is_known(r, spec)]
        other[name] = draw(st.permutations([*kept, *_numbered(unknown, spec, start=100)]))
    return one, other


def _numbered(rows: list[dict], spec: TableSpec, start: int = 0) -> list[dict]:
    """Ids of events and lines of their own, as the checks make sure."""
    for number, r in enumerate(rows, start):
        for name in ("event_id", "line_id", "message_id"):
            if name in spec.by_name:
                r[name] = str(number)
    return rows


def computed(online: OnlineFeatures, rows: dict[str, list[dict]]) -> pd.DataFrame:
    return online.compute({name: pa.Table.from_pylist(rows[name], SCHEMAS[name]) for name in online.tables}, CUTOFF)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds=two_worlds())
def test_nothing_at_or_after_the_cutoff_changes_any_feature(online, worlds):
    one, other = worlds
    pd.testing.assert_frame_equal(computed(online, one), computed(online, other), check_exact=True)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds=two_worlds())
def test_nothing_at_or_after_the_moment_changes_how_somebody_answered_offers(worlds):
    people = pd.DataFrame({"user_id": ["ann", "bob"], "at": pd.Timestamp(CUTOFF)})
    one, other = (own_answers(tables_of(world), people, ["x", "y"]) for world in worlds)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds=two_worlds())
def test_the_offline_snapshot_of_such_shops_is_the_online_one(online, worlds):
    offline = snapshot(tables_of(worlds[0]), CUTOFF, SETTINGS, categories=["drinks", "kitchen"])
    expected = offline.to_pyarrow().to_pandas().sort_values("user_id", ignore_index=True)
    pd.testing.assert_frame_equal(computed(online, worlds[0]), expected, check_exact=True)


TIMES = {
    ("users", "updated_at"): "shoe_size",
    ("users", "created_at"): "tenure_days",
    ("identities", "at"): "events_90d",
    ("items", "updated_at"): "brands_90d",
    ("events", "occurred_at"): "events_90d",
    ("events", "received_at"): "events_90d",
    ("orders", "occurred_at"): "orders_life",
    ("orders", "received_at"): "orders_life",
    ("messages", "sent_at"): "sent_90d",
    ("messages", "opened_at"): "opened_90d",
    ("messages", "clicked_at"): "clicked_90d",
    ("messages", "unsubscribed_at"): "unsubscribed_life",
    ("messages", "bounced_at"): "bounced_life",
}
"""A feature that hangs on each time column."""
UNUSED = {("items", "created_at")}
"""Times that no feature reads."""


@pytest.mark.parametrize(("table", "time"), TIMES)
def test_the_moment_before_the_cutoff_counts_and_the_cutoff_itself_does_not(online, table, time):
    rows = {
        "users": [{"user_id": "ann", "updated_at": EARLIER[3], "created_at": EARLIER[3], "shoe_size": 41.0}],
        "identities": [{"anonymous_id": "a1", "user_id": "ann", "at": EARLIER[3]}],
        "items": [{"item_id": "tea", "category": "drinks", "brand": "leaf", "updated_at": EARLIER[3]}],
        "events": [{"event_id": "1", "anonymous_id": "a1", "event": "x", "item_id": "tea", "occurred_at": EARLIER[2]}],
        "orders": [{"order_id": "1", "user_id": "ann", "item_id": "tea", "quantity": 1.0, "occurred_at": EARLIER[2]}],
        "messages": [{"message_id": "1", "user_id": "ann", "channel": "email", "sent_at": EARLIER[2]}],
    }

    def at(moment):
        return computed(online, {**rows, table: [{**rows[table][0], time: moment}]})

    before, cutoff, later = (at(moment).set_index("user_id") for moment in (EARLIER[0], LATER[0], LATER[3]))
    feature = TIMES[table, time]
    assert before.loc["ann", feature] > 0
    assert cutoff.loc["ann", feature] == 0 or pd.isna(cutoff.loc["ann", feature])
    pd.testing.assert_frame_equal(cutoff, later, check_exact=True)


def test_every_time_of_every_table_that_features_read_is_covered(online):
    assert {(name, time) for name in online.tables for time in TABLES[name].times} == set(TIMES) | UNUSED


def test_the_property_covers_every_feature_there_is():
    assert not lacking(tables_of({}), SETTINGS)
    assert len(features(tables_of({}), SETTINGS)) > 150
