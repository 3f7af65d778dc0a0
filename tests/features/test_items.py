"""Items: attributes as they were known at the cutoff, each kind of column, and which are for sale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import WorkspaceError
from data.settings import Recommender
from data.tables import Tables
from data.vocabulary import Vocabulary
from features.interactions import interactions
from features.items import category_name, category_of, for_sale, item_attributes


def attributes_of(found, items, item):
    return [found.names[column] for column in found.matrix[items.code(item)].indices]


def shop(**columns):
    n = len(next(iter(columns.values())))
    return Tables.from_frames(items=pd.DataFrame({"item_id": [f"i{n}" for n in range(n)], **columns}))


def told(tables, cutoff, **settings):
    items = Vocabulary(for_sale(tables, cutoff=cutoff))
    found = item_attributes(tables, cutoff=cutoff, items=items, settings=Recommender(**settings))
    return {item: attributes_of(found, items, item) for item in items.all_ids}


def test_each_column_tells_in_its_own_way(cutoff):
    tables = shop(
        category=["Kitchen > Tea", "kitchen/tea", "Kitchen"],
        brand=["Leaf & Co", "leaf & co ", None],
        name=["Green TEA, a tea!", "Tea-green", "Cup"],
        organic=[True, None, True],
        genres=[["Sci-Fi", "Drama"], ["drama"], []],
    )
    found = told(tables, cutoff, item_columns=("organic", "genres"))
    assert found["i0"] == [
        "brand=leaf & co", "category=kitchen", "category=kitchen > tea", "genres=drama", "name=green", "name=tea",
        "organic=true",
    ]  # fmt: skip
    assert found["i1"] == found["i0"][:-1]
    assert found["i2"] == ["category=kitchen", "organic=true"]


def test_prices_fall_into_tenths_of_their_own_distribution(cutoff):
    found = told(shop(price=np.r_[np.geomspace(1, 1000, 99), np.nan]), cutoff)
    sizes = pd.Series([names[0] for names in found.values() if names]).value_counts()
    assert len(sizes) == 10
    assert sizes.between(9, 10).all()
    assert found["i99"] == []
    assert told(shop(price=[5.0, 5.0]), cutoff) == {"i0": ["price=5"], "i1": ["price=5"]}


def test_what_only_one_item_has_is_left_out_and_the_most_frequent_is_kept(cutoff):
    tables = shop(name=["red hat", "red cap", "red hat once"])
    assert told(tables, cutoff) == {"i0": ["name=hat", "name=red"], "i1": ["name=red"], "i2": ["name=hat", "name=red"]}
    assert set(map(tuple, told(tables, cutoff, max_attributes=1).values())) == {("name=red",)}


def test_only_what_was_known_before_the_cutoff_is_told(cutoff, ago):
    tables = Tables.from_frames(items=pd.DataFrame({
        "item_id": ["tea", "tea", "cup", "new"], "brand": ["old", "later", "old", "old"],
        "updated_at": [ago(9), ago(-1), ago(9), ago(-1)],
    }))  # fmt: skip
    assert told(tables, cutoff) == {"cup": ["brand=old"], "tea": ["brand=old"]}


def test_without_a_catalogue_nothing_is_known(cutoff, events):
    tables = Tables.from_frames(events=events(("ann", "product_viewed", 1, {"item_id": "tea"})))
    assert item_attributes(tables, cutoff=cutoff, items=Vocabulary(["tea"]), settings=Recommender()) is None
    assert category_of(tables, cutoff=cutoff, items=Vocabulary(["tea"])) == [None]
    assert interactions(tables, Recommender(), cutoff=cutoff, catalogue=True).attributes is None


def test_a_column_that_is_not_there_is_named(cutoff):
    with pytest.raises(WorkspaceError, match="item_columns: items has no column 'colour'; it has item_id"):
        told(shop(name=["a", "b"]), cutoff, item_columns=("colour",))


def test_the_order_of_the_rows_changes_nothing(cutoff):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "item_id": [f"i{n}" for n in range(200)], "price": rng.gamma(2, size=200),
        "name": [" ".join(rng.choice(list("abcdefgh"), 3).repeat(2)) for _ in range(200)],
        "category": rng.choice(["x/y", "x/z", "w"], 200),
    })  # fmt: skip
    items, settings = Vocabulary(frame["item_id"]), Recommender(max_attributes=9)
    one, other = (
        item_attributes(Tables.from_frames(items=rows), cutoff=cutoff, items=items, settings=settings)
        for rows in (frame, frame.sample(frac=1, random_state=1))
    )
    assert one.names == other.names
    assert (one.matrix != other.matrix).nnz == 0


def test_a_category_has_one_name_everywhere(cutoff):
    tables = shop(category=[" Kitchen/Tea ", "Kitchen > Tea", None, ""])
    items = Vocabulary(["i0", "i1", "i2", "i3"])
    assert category_of(tables, cutoff=cutoff, items=items) == ["category=kitchen > tea"] * 2 + [None, None]
    assert told(tables, cutoff)["i0"][-1] == "category=kitchen > tea" == category_name("kitchen|TEA")
