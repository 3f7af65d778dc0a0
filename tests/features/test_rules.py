"""Rules in words give everybody an arm, and say what is wrong with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import WorkspaceError
from features.rules import parse_rule

ARMS = ["none", "Mens E-Mail", "Womens E-Mail"]


def test_the_first_condition_that_holds_counts():
    rule = parse_rule("mens == 1 -> Mens E-Mail else womens == 1 -> Womens E-Mail else none")
    people = pd.DataFrame({"mens": [1, 0, 0, 1], "womens": [0, 1, 0, 1]})
    assert rule.codes(people, ARMS).tolist() == [1, 2, 0, 1]


def test_arrays_do_too_and_missing_holds_no_condition():
    rule = parse_rule("days > 30 -> Mens E-Mail else none")
    assert rule.codes({"days": np.array([40.0, np.nan, 3.0])}, ARMS).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "text",
    ["", "mens == 1", "mens == 1 -> Mens", "-> Mens else none", "a -> b else c -> d", "__import__('os') -> a else b"],
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(WorkspaceError, match="rule"):
        parse_rule(text)


def test_unknown_arms_and_columns_are_named():
    people = pd.DataFrame({"mens": [1]})
    with pytest.raises(WorkspaceError, match="'Girls' is no arm"):
        parse_rule("mens == 1 -> Girls else none").codes(people, ARMS)
    with pytest.raises(WorkspaceError, match="did you mean 'mens'"):
        parse_rule("men == 1 -> Mens E-Mail else none").codes(people, ARMS)
