"""Expressions over features: what they mean, alike over tables, frames and single rows, and how they refuse."""

from __future__ import annotations

import ibis
import pandas as pd
import pytest

from data.errors import WorkspaceError
from features.expressions import parse

FRAME = pd.DataFrame({
    "orders_life": [0, 1, 2, 3],
    "days_since_order": [None, 10.0, 200.0, 0.0],
    "country": ["DE", "AT", None, "FR"],
    "member": [True, False, True, False],
})  # fmt: skip

MEANINGS = {
    "orders_life > 0 and days_since_order < 180": [False, True, False, True],
    "not days_since_order < 180": [True, False, True, False],
    "0 < orders_life <= 2": [False, True, True, False],
    "country in ('DE', 'AT')": [True, True, False, False],
    "country not in ('DE', 'AT')": [False, False, False, True],
    "country != 'DE'": [False, True, False, True],
    "orders_life * 2 - 1 >= 3 or country == 'AT'": [False, True, True, True],
    "days_since_order / orders_life > 50": [False, False, True, False],
    "orders_life / days_since_order > 0": [False, True, True, False],
    "-orders_life < -1": [False, False, True, True],
    "member": [True, False, True, False],
    "member == True and orders_life": [False, False, True, False],
    "member == true and not false": [True, False, True, False],
    "True": [True, True, True, True],
    "False or 1 == 1": [True, True, True, True],
}


@pytest.mark.parametrize("text", MEANINGS)
def test_a_condition_means_the_same_over_a_frame_a_table_and_a_row(text):
    condition = parse(text)
    assert condition.mask(FRAME).tolist() == MEANINGS[text]
    table = ibis.memtable(FRAME.reset_index())
    held = table.select("index", held=condition.where(table)).order_by("index").execute()["held"]
    assert held.tolist() == MEANINGS[text]
    assert [condition.holds(row) for row in FRAME.to_dict("records")] == MEANINGS[text]


def test_an_unknown_name_is_explained_with_its_place_and_the_nearest_name():
    condition = parse("orders_7d == 0 and product_aded_7d > 0", place="segments.high_intent")
    with pytest.raises(WorkspaceError) as refusal:
        condition.check(["product_added_7d", "orders_7d"])
    assert str(refusal.value) == (
        "segments.high_intent: 'product_aded_7d' is no feature (column 20); did you mean 'product_added_7d'?"
    )


def test_a_feature_that_the_shop_is_too_poor_for_is_told_by_what_it_needs():
    with pytest.raises(WorkspaceError, match="'sent_90d' needs messages, which this shop did not bring"):
        parse("sent_90d > 0").check(["spend_90d"], lacking={"sent_90d": "messages"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("orders_life >", "column"),
        ("", "column"),
        ("__import__('os').system('x')", "not allowed (column 1)"),
        ("orders_life.real > 0", "not allowed"),
        ("[x for x in (1, 2)]", "not allowed"),
        ("(lambda: 1)()", "not allowed"),
        ("orders_life ** 99999999", "not allowed"),
        ("orders_life if 1 else 2", "not allowed"),
        ("orders_life > None", "not allowed"),
        ("x" * 3000, "too many"),
        ("(" * 500 + "1" + ")" * 500, "cannot be read"),
    ],
)
def test_what_is_no_condition_is_refused_when_it_is_read(text, said):
    with pytest.raises(WorkspaceError, match=r"segments\.s: ") as refusal:
        parse(text, place="segments.s")
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("country > 3", "country is text, 3 is a number"),
        ("country + 1 > 3", "is text, not a number"),
        ("orders_life in 3", "is no list"),
        ("(orders_life > 1) + 1 > 1", "is no value"),
    ],
)
def test_text_and_numbers_do_not_mix_over_a_frame_or_a_table(text, said):
    for over in (lambda: parse(text).mask(FRAME), lambda: parse(text).where(ibis.memtable(FRAME))):
        with pytest.raises(WorkspaceError) as refusal:
            over()
        assert said in str(refusal.value)


def test_spaces_between_quotes_are_kept_and_line_breaks_elsewhere_are_spaces():
    said = parse("country ==\n  'A  B' or country == \"it's  so\"")
    assert said.text == "country == 'A  B' or country == \"it's  so\""
    assert said.mask(pd.DataFrame({"country": ["A  B", "A B", "it's  so", "it's so"]})).tolist() == [True, False] * 2
