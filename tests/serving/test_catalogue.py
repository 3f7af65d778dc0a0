"""The catalogue: what filters and placements may name beside the contract's columns, and what changes in the state."""

from datetime import UTC, datetime

import pandas as pd
import pytest

import serving.catalogue
from data.contract import TABLES
from data.errors import WorkspaceError
from data.settings import Placement
from data.state import State
from data.state.rows import fit
from data.state.writes import upsert
from data.tables import Tables
from serving.catalogue import Catalogue
from serving.placements import Placements


def test_a_placement_that_compares_text_with_numbers_is_told_once_the_items_are_known():
    of_text = Placements({"home": Placement(promoted="colour > 3")}, columns=["colour"])
    items = Tables.from_frames(items=pd.DataFrame({"item_id": ["hat"], "colour": ["red"]}))
    with pytest.raises(WorkspaceError, match=r"placements.home.promoted: 'colour' cannot be compared"):
        of_text.check(Catalogue.of(items, columns=["colour"]))


def test_a_column_that_is_no_number_and_no_text_is_missing():
    frame = pd.DataFrame({"item_id": ["hat"], "sizes": [["S", "M"]], "made_at": [pd.Timestamp("2026-01-01")]})
    found = Catalogue.of(Tables.from_frames(items=frame), columns=["sizes", "made_at", "nowhere", "price"])
    assert found.rows[["sizes", "made_at", "nowhere"]].isna().all().all()
    assert found.filterable[-3:] == ("sizes", "made_at", "nowhere")


def test_what_was_read_is_not_read_again_though_a_clock_was_ahead(monkeypatch):
    """Each change after that of a clock that is ahead is dated a moment after it."""
    state, read, told = State.open("sqlite://"), [], serving.catalogue._told
    found = Catalogue.of(Tables.from_frames())
    monkeypatch.setattr(serving.catalogue, "_told", lambda rows: read.append([*rows["item_id"]]) or told(rows))
    for year, item_id in ((2030, "hat"), (2026, "cap"), (2026, "scarf")):
        with state.writing() as connection:
            upsert(
                connection, "items", [fit(TABLES["items"], {"item_id": item_id})], at=datetime(year, 1, 1, tzinfo=UTC)
            )
        found = found.refreshed(state)
    assert read == [["hat"], ["cap"], ["scarf"]]
    assert found.refreshed(state) is found
    assert {"hat", "cap", "scarf"} <= set(found.items.all_ids)
