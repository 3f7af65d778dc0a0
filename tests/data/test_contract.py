"""The contract holds together, and the pages written from it are up to date."""

from __future__ import annotations

import itertools

import pytest

from data.audit import GAPS
from data.contract import EVENT_NAMES, TABLES, TableSpec
from data.docs import DOCS, pages

EVERY = pytest.mark.parametrize("spec", TABLES.values(), ids=TABLES)


@EVERY
def test_every_table_names_only_columns_that_it_has(spec: TableSpec) -> None:
    later = spec.later or {}
    assert {*spec.key, *spec.history, *later, *itertools.chain(*later.values())} <= set(spec.by_name)
    assert spec.happened_at is None or spec.happened_at in spec.times


@EVERY
def test_every_time_that_may_come_later_is_told_apart_from_the_time_of_the_row(spec: TableSpec) -> None:
    if spec.happened_at:
        assert set(spec.times) == {spec.happened_at, *(spec.later or {})} | ({"received_at"} & set(spec.times))


@EVERY
def test_a_key_is_made_of_required_columns_and_the_time_of_a_history(spec: TableSpec) -> None:
    assert set(spec.key) - set(spec.required) <= {spec.happened_at}


@EVERY
def test_limits_fit_the_types_of_their_columns(spec: TableSpec) -> None:
    for column in spec.columns:
        assert not column.not_negative or column.type in ("float", "int")
        assert not (column.planned or column.follows) or column.type == "time"
        assert not (column.one_of or column.reserved) or column.type == "string"
        assert column.follows is None or column.follows in spec.times
        assert column.reserved is None or column.reserved in spec.by_name["kind"].one_of


def test_event_names_are_snake_case() -> None:
    assert all(name.replace("_", "").isalpha() and name.islower() for name in EVENT_NAMES)


def test_every_gap_is_about_something_in_the_contract() -> None:
    assert all(not gap.column or gap.column in TABLES[gap.table].by_name for gap in GAPS)
    assert {gap.table for gap in GAPS if not gap.column} == set(TABLES)


@pytest.mark.parametrize("name", ["contract.md", "settings.md"])
def test_the_pages_written_from_the_code_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run `python -m data.docs`"
