"""Reasons in words: what belongs together is one reason, and its numbers are the person's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.settings import Features
from features.snapshots import feature_names
from features.words import in_words


def told(effects, **row):
    """The reasons of one person with these features."""
    frame = pd.DataFrame({name: [value] for name, value in {**dict.fromkeys(effects, np.nan), **row}.items()})
    return in_words(frame, list(effects), np.array([list(effects.values())]))[0]


@pytest.mark.parametrize(
    ("feature", "row", "text"),
    [
        ("morning_share", {"morning_share": 0.029}, "3% of what they ever did fell into the morning (UTC)"),
        ("leaning_hot_drinks", {"leaning_hot_drinks": 0.4}, "40% of what they ever looked at is hot drinks"),
        ("price_level", {"price_level": -0.2}, "looks at cheaper items than most"),
        (
            "days_since_order",
            {"days_since_order": 54.2, "order_lateness": 2.6, "order_gap_mean_days": 21.0},
            "orders less often than before (54 days against their usual 21 days)",
        ),
        ("days_since_order", {"days_since_order": 1.0}, "last ordered 1 day ago"),
        ("days_since_order", {}, "has not ordered yet"),
        ("orders_90d", {"orders_90d": 2, "orders_life": 7}, "has ordered 2 times in 90 days, 7 times ever"),
        ("orders_365d", {"orders_365d": 1, "orders_90d": 0, "orders_life": 1}, "has ordered once"),
        ("spend_life", {"spend_365d": 1234.5, "order_value_mean": 61.7},
         "spent 1,234.50 in a year, 61.70 an order"),
        ("orders_share_home_garden", {"orders_share_home_garden": 0.4, "orders_life": 3},
         "40% of what they bought is home garden"),
        ("cart_value", {"cart_items": 3}, "3 items wait in the cart"),
        ("click_rate_90d", {"sent_unanswered": 6}, "left the last 6 messages unanswered"),
        ("form_submitted_30d", {"form_submitted_30d": 2}, "form submitted: 2 times in 30 days"),
        ("member_tier", {"member_tier": "gold"}, "member tier: gold"),
        ("country", {}, "country: not known"),
    ],
)  # fmt: skip
def test_a_reason_is_said_with_the_persons_numbers(feature, row, text):
    assert told({feature: 1.0}, **row)[0].text == text


def test_features_that_say_the_same_are_one_reason_led_by_the_strongest():
    found = told(
        {"orders_30d": -0.2, "orders_90d": -0.7, "orders_life": 0.1, "country": 0.3, "cart_items": 0.0},
        orders_30d=1, orders_90d=4, orders_life=9, country="DE", cart_items=0,
    )  # fmt: skip
    assert [(one.feature, one.value, round(one.effect, 9)) for one in found] == [
        ("orders_90d", 4.0, -0.8),
        ("country", "DE", 0.3),
    ]


def test_every_feature_has_words_that_can_be_said(small_shop):
    names = feature_names(small_shop, Features(), categories=["drinks"])
    nothing = pd.DataFrame({name: [np.nan] for name in names})
    something = pd.DataFrame({name: [3.0] for name in names})
    for frame in (nothing, something):
        for number, name in enumerate(names):
            effects = np.eye(len(names))[[number]]
            [[reason]] = in_words(frame, names, effects)
            assert reason.feature == name
            assert reason.text
            assert "{" not in reason.text


def test_nobody_and_nothing_have_no_reasons():
    assert in_words(pd.DataFrame({"country": []}), ["country"], np.zeros((0, 1))) == []
    assert told({"country": 0.0}) == []


def test_a_model_that_reads_nothing_gives_no_reasons() -> None:
    assert in_words(pd.DataFrame({"days_since_order": [1.0, 2.0]}), [], np.zeros((2, 0))) == [[], []]
