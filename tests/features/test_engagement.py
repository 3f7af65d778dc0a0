"""What engagement features say, worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from data.settings import Features
from data.tables import Tables
from features.snapshots import snapshot


@pytest.fixture
def told(cutoff):
    def of(*columns, **frames):
        found = snapshot(Tables.from_frames(**frames), cutoff, Features(), columns=columns)
        return found.execute().set_index("user_id")

    return of


def test_a_machines_open_is_no_open(told, messages, ago):
    found = told(
        "sent_90d", "opened_90d", "opened_email_90d", "opened_sms_90d", "clicked_90d", "days_since_open",
        "open_rate_90d",
        messages=messages(
            ("ann", "email", 10, {"opened_at": ago(9), "machine_opened": True}),
            ("ann", "email", 8, {"opened_at": ago(7), "clicked_at": ago(6)}),
            ("ann", "sms", 5, {}),
            ("ann", "sms", 100, {"opened_at": ago(99)}),
        ),
    )  # fmt: skip
    assert found.loc["ann"].tolist() == [3, 1, 1, 0, 1, 7.0, pytest.approx((1 + 2) / (3 + 10))]


def test_an_open_after_the_cutoff_has_not_happened(told, messages, ago):
    rows = messages(("ann", "email", 1, {"opened_at": ago(-1)}))
    found = told("sent_7d", "opened_7d", "days_since_open", messages=rows).loc["ann"]
    assert found.tolist()[:2] == [1, 0]
    assert pd.isna(found["days_since_open"])


def test_what_was_sent_in_vain_since_the_last_answer(told, messages, ago):
    rows = messages(
        ("ann", "email", 9, {}),
        ("ann", "email", 8, {"clicked_at": ago(7)}),
        ("ann", "email", 5, {}),
        ("ann", "sms", 4, {}),
        ("bob", "email", 3, {}),
    )
    found = told("sent_unanswered", messages=rows)["sent_unanswered"]
    assert found.to_dict() == {"ann": 2, "bob": 1}


def test_the_best_hour_is_the_one_with_most_answers_and_the_earliest_of_equals(told, messages, cutoff):
    def at(day, hour):
        return {"opened_at": cutoff - pd.Timedelta(days=day) + pd.Timedelta(hours=hour)}

    rows = messages(
        *(("ann", "email", day, at(day - 1, hour)) for day, hour in ((9, 20), (8, 7), (7, 20), (6, 7), (5, 3)))
    )
    found = told("best_hour", "best_hour_share", messages=rows).loc["ann"]
    assert found.tolist() == [7, 0.4]


def test_unsubscribes_and_bounces(told, messages, ago):
    rows = messages(("ann", "email", 9, {"unsubscribed_at": ago(8)}), ("ann", "email", 5, {"bounced_at": ago(5)}))
    found = told("unsubscribed_life", "days_since_unsubscribed", "bounced_life", messages=rows).loc["ann"]
    assert found.tolist() == [1, 8.0, 1]
