"""The measures of campaigns: definitions, groups, and people who have not yet converted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from evaluation.campaigns import campaign_measures, funnel, time_to_conversion


def reached(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    delivered = rng.integers(0, 4, n)
    readable = rng.binomial(delivered, 0.6)
    orders = rng.poisson(0.2, n)
    return pd.DataFrame(
        {
            "channel": rng.choice(["email", "push", None], n),
            "delivered": delivered,
            "readable": readable,
            "opened": rng.binomial(readable, rng.beta(2, 5, n)),
            "clicked": rng.binomial(delivered, 0.1),
            "unsubscribed": rng.binomial(delivered, 0.01),
            "orders": orders,
            "revenue": orders * rng.gamma(2, 15, n),
            "spend_life": rng.gamma(1, 100, n),
            "watched_days": np.where(rng.random(n) < 0.8, 14.0, 3.0),
        }
    )


def test_every_measure_says_how_it_is_made_of_whom_and_how_sure_it_is():
    rows = reached(2000)
    found = {m.name: m for m in campaign_measures(rows, horizon_days=14)}
    assert found["open rate"].value.estimate == pytest.approx(rows.opened.sum() / rows.readable.sum())
    assert found["click rate"].value.estimate == pytest.approx(rows.clicked.sum() / rows.delivered.sum())
    watched = rows[rows.watched_days == 14]
    assert found["conversion rate"].value.estimate == pytest.approx((watched.orders > 0).mean())
    assert found["conversion rate"].people == len(watched)
    assert found["revenue per recipient"].value.estimate == pytest.approx(watched.revenue.mean())
    again = watched[watched.orders > 0].orders > 1
    assert found["repeat purchase rate"].value.estimate == pytest.approx(again.mean())
    assert found["lifetime value"].value.estimate == pytest.approx(rows.spend_life.mean())
    assert found["unsubscribe rate"].guardrail
    assert found["conversion rate"].definition == "people with an order within 14 days of their first message"
    assert all(m.value.low < m.value.estimate < m.value.high for m in found.values())


def test_each_group_has_its_own_and_the_unknown_are_one():
    rows = reached(600)
    found = campaign_measures(rows, horizon_days=14, by=["channel"])
    money = {m.group: m for m in found if m.name == "revenue per recipient"}
    assert list(money) == ["", "(not known)", "email", "push"]
    assert sum(m.people for group, m in money.items() if group) == money[""].people


def test_the_open_rates_interval_knows_that_messages_of_one_person_are_alike():
    held = 0
    for seed in range(100):
        rows = reached(300, seed)
        value = campaign_measures(rows, horizon_days=14)[0].value
        held += value.low <= 2 / 7 <= value.high
    assert 0.88 <= held / 100 <= 0.99


def test_nobody_to_ask_about_is_no_number():
    rows = reached(5).assign(readable=0, opened=0, watched_days=1.0, revenue=np.nan)
    found = {m.name: m for m in campaign_measures(rows, horizon_days=14)}
    for name in ("open rate", "conversion rate", "revenue per recipient", "repeat purchase rate"):
        assert np.isnan(found[name].value.estimate)
        assert found[name].people == 0
        assert found[name].small
    with pytest.raises(DataError, match="need the column 'readable'"):
        campaign_measures(rows.drop(columns="readable"), horizon_days=14)


def test_kaplan_meiers_own_kind_of_example():
    """Freireich's 21 patients on 6-MP, as in every textbook: S(6) = .857, S(10) = .753, S(23) = .448, median 23."""
    weeks = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], float)
    days = np.where(np.arange(21) < 9, weeks, np.nan)
    found = time_to_conversion(days, weeks)
    assert [round(1 - found.by(t).estimate, 3) for t in (5, 6, 7, 10, 13, 16, 22, 23)] == [
        1.0, 0.857, 0.807, 0.753, 0.69, 0.627, 0.538, 0.448,
    ]  # fmt: skip
    assert found.median_days == 23
    assert (found.low <= found.converted).all()
    assert (found.converted <= found.high).all()
    assert found.by(6).low == pytest.approx(1 - 0.952, abs=1e-3)
    assert found.by(6).high == pytest.approx(1 - 0.620, abs=1e-3)


def test_people_not_yet_converted_are_not_people_who_never_will():
    rng = np.random.default_rng(1)
    true, watched = rng.exponential(10, 3000), rng.uniform(0, 20, 3000)
    found = time_to_conversion(np.where(true <= watched, true, np.nan), watched)
    naive = (true <= watched).mean()
    assert found.by(10).low < 1 - np.exp(-1) < found.by(10).high
    assert naive < found.by(10).low
    nobody = time_to_conversion(np.full(5, np.nan), np.ones(5))
    assert np.isnan(nobody.median_days)
    assert nobody.by(3).estimate == 0
    assert np.isnan([nobody.by(3).low, nobody.by(3).high]).all()  # five people do not tell that nobody ever will
    with pytest.raises(DataError, match="none negative"):
        time_to_conversion(np.array([-1.0]), np.array([1.0]))


@pytest.mark.filterwarnings("error")
def test_where_everybody_converted_nothing_is_known_of_the_last_day_and_no_library_complains():
    found = time_to_conversion(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert (found.converted[-1], found.low[-1], found.high[-1]) == (1, 0, 1)


def test_every_decision_ends_in_one_step_of_the_funnel():
    rows = pd.DataFrame({
        "user_id": list("abcdefg"),
        "arm": ["model", "model", "holdout", "holdout", "model", "model", "model"],
        "chosen": ["tea", "none", "none", "none", "none", "cup", "none"],
        "suppressed": [
            '[{"rule": "caps"}]',  # something else was chosen
            '[{"rule": "hours"}, {"rule": "consent"}]',  # a person meets consent first
            None,
            '[{"rule": "caps"}, {"rule": "holdout"}]',
            "no json",
            None,
            '[{"rule": "of_our_own"}]',
        ],
        "sent": [True, False, False, False, False, False, False],
    })  # fmt: skip
    found = {step.name: step.decisions for step in funnel(rows)}
    assert list(found) == [
        "held back: no consent", "held back: cap reached", "held back: of_our_own", "left alone", "nothing chosen",
        "chosen, no message known", "sent",
    ]  # fmt: skip
    assert sum(found.values()) == len(rows)
