"""The catalogue: what filters and placements may name beside the contract's columns."""

import pandas as pd
import pytest

from data.errors import WorkspaceError
from data.settings import Placement
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
