"""Outcomes are stored once, with the decision they came of; of a yes and a no of one moment the no holds."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from data.contract import TABLES
from data.state import State
from data.state.answers import append_consents, sort_outcomes
from data.state.rows import fit
from data.state.schema import tables
from data.state.writes import append

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def state(state_url) -> State:
    opened = State.open(state_url)
    rows = [
        {
            "decision_id": decision_id, "user_id": user_id, "at": NOW, "kind": "offer", "placement": "mail",
            "arm": "model", "arm_share": 0.9, "chosen": ["ten-percent"], "probability": [1.0], "model_version": "1",
            "context": {"channel": "email"},
        }
        for decision_id, user_id in (("d1", "ann"), ("d2", "stranger-d2"))
    ]  # fmt: skip
    with opened.writing() as connection:
        append(connection, "decisions", [{**fit(TABLES["decisions"], row), "at": NOW} for row in map(told, rows)])
    return opened


def told(row):
    return {**row, "at": row["at"].isoformat()}


def outcome(number, decision_id="d1", kind="click", days=0.0, **also):
    at = (NOW + timedelta(days=days)).isoformat()
    return {"outcome_id": f"o{number}", "decision_id": decision_id, "kind": kind, "at": at, **also}


def store(state, *rows, skew=60):
    found = sort_outcomes(rows, channels=["email"], now=NOW + timedelta(days=30), max_clock_skew_minutes=skew)
    with state.writing() as connection:
        stored = found.store(connection)
    return stored.accepted, stored.duplicates, [(refusal.position, refusal.field) for refusal in stored.refused]


def words(state):
    table = tables["consents"].c
    with state.reading() as connection:
        return connection.execute(sa.select(table.user_id, table.purpose, table.granted).order_by(table.seq)).all()


def test_a_batch_is_stored_once_and_each_row_on_its_own(state):
    batch = [
        outcome(1, days=20), outcome(1, kind="conversion"), outcome(2, "d9"), outcome(3, days=-1), outcome(4, days=99),
        outcome(5, chosen_id="none"), outcome(6, chosen_id="ten-percent"), {"outcome_id": "o7"},
    ]  # fmt: skip
    refused = [(2, "decision_id"), (3, "at"), (4, "at"), (5, "chosen_id"), (7, "decision_id")]
    assert store(state, *batch) == (2, 1, refused)
    assert store(state, *batch) == (0, 3, refused)


def test_clocks_may_disagree_a_little(state):
    assert store(state, outcome(1, days=-0.04))[0] == 1
    assert store(state, outcome(2, days=-0.05))[2] == [(0, "at")]


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, []),
        ({"value": 12.5}, []),
        ({"value": 0}, []),
        ({"value": -12.5}, []),
        ({"value": "much"}, [(0, "value")]),
        ({"position": 0}, []),
        ({"position": -1}, [(0, "position")]),
        ({"position": 0.5}, [(0, "position")]),
    ],
)
def test_a_conversion_may_bring_nothing_known_or_come_back_and_has_a_place_from_nought(state, change, refused):
    assert store(state, outcome(1, kind="conversion", **change))[2] == refused


def test_who_unsubscribes_says_no_once_and_a_stranger_to_nothing(state):
    left = outcome(1, kind="unsubscribe")
    assert store(state, left, outcome(2, "d2", kind="unsubscribe"))[0] == 2
    assert store(state, left)[1] == 1
    assert words(state) == [("ann", "email", False)]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_of_a_yes_and_a_no_of_one_moment_the_no_holds(state, order, together):
    rows = [{"user_id": "ann", "purpose": "email", "granted": granted, "at": NOW, "extra": None} for granted in order]
    for batch in [rows] if together else [[row] for row in rows]:
        with state.writing() as connection:
            append_consents(connection, batch)
    assert words(state) == [("ann", "email", False)]
