"""From purchases to what the models read."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from models.lifetime import outcome, summarise

UNTIL = date(2026, 2, 1)
DATES = ["2026-01-01", "2026-01-15", "2026-01-08"]


def bought(**columns) -> pd.DataFrame:
    return pd.DataFrame({"customer": ["ann", "ann", "bob"], "date": DATES} | columns)


def test_purchases_of_one_day_are_one():
    told = summarise(
        bought(date=["2026-01-01T09:00Z", "2026-01-01T23:59Z", "2026-01-08"], amount=[1, 2, 4]), until=UNTIL
    )
    assert told.frequency.tolist() == [0, 0]
    assert np.isnan(told.mean_spend).all()


@pytest.mark.parametrize(
    "dates",
    [
        [20260101, 20260115, 20260108],
        [1767225600, 1768435200.5, 1767830400],
        [date(2026, 1, 1), date(2026, 1, 15), date(2026, 1, 8)],
        [datetime(2026, 1, 1, 5, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 8, 23, tzinfo=UTC)],
    ],
)
def test_dates_are_read_as_they_come(dates):
    told, plain = (
        summarise(bought(date=dates), until=UNTIL),
        summarise(bought(), until=datetime(2026, 2, 1, tzinfo=UTC)),
    )
    assert told.recency_weeks.tolist() == plain.recency_weeks.tolist() == [2, 0]
    assert told.age_weeks.tolist() == plain.age_weeks.tolist()


def test_what_happens_at_the_cutoff_is_the_future():
    told = summarise(bought(), until=date(2026, 1, 15))
    assert told.frequency.tolist() == [0, 0]
    assert told.age_weeks.tolist() == [13 / 7, 6 / 7]
    later = outcome(bought(amount=[1.0, 2, 4]), told.customers, start=date(2026, 1, 15), until=date(2026, 1, 16))
    assert later.purchases.tolist() == [1, 0]
    assert later.spend.tolist() == [2, 0]


def test_without_money_there_is_no_spend():
    told = summarise(bought(), until=UNTIL)
    assert np.isnan(told.mean_spend).all()
    assert np.isnan(outcome(bought(), told.customers, start=date(2026, 1, 1), until=UNTIL).spend).all()


@pytest.mark.parametrize(
    ("purchases", "told"),
    [
        (bought(amount=[1.0, -4.5, 2.0]), r"amount: 1 rows are negative.*-4.5 at row 1.*Leave returns out"),
        (bought(amount=[1.0, np.nan, 2.0]), "no number"),
        (bought(date=["2026-01-01", "soon", "2026-01-08"]), "'soon' at row 1"),
        (bought(date=[20260101.5, np.nan, 20260108]), "'nan' at row 1"),
        (bought(customer=["ann", None, "bob"]), "missing at row 1"),
        (bought().drop(columns="date"), "no column 'date'"),
        (bought(date=["2027-01-01"] * 3), "nobody bought before 2026-02-01"),
    ],
)
def test_what_cannot_be_used_is_named_with_a_remedy(purchases, told):
    with pytest.raises(DataError, match=told):
        summarise(purchases, until=UNTIL)
