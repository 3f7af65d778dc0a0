"""Items: what is known of each at a moment, as attributes that a model can learn of, and those for sale."""

from __future__ import annotations

import itertools
import re
from datetime import datetime

import numpy as np
import pandas as pd
from scipy import sparse

from data import settings as config
from data.errors import WorkspaceError
from data.interactions import CATEGORY, Attributes
from data.tables import Tables
from data.vocabulary import Vocabulary

PATH = re.compile(r"\s*[>/|]\s*")
"""What parts the steps of a category's path: `Kitchen > Tea > Green`, `kitchen/tea`."""
WORD = re.compile(r"\w\w+")
BUCKETS = 10


def for_sale(tables: Tables, *, cutoff: datetime) -> list[str]:
    """Ids of the items in the catalogue just before the cutoff, without those told not to be available; sorted."""
    known = tables.as_of(cutoff)["items"]
    shown = known.filter(known.available.fill_null(True))
    return sorted(shown.select("item_id").execute()["item_id"].astype(object))


def category_of(tables: Tables, *, cutoff: datetime, items: Vocabulary) -> list[str | None]:
    """The attribute that names each item's whole category, as `item_attributes` calls it; None where it has none.

    Example:
        >>> shop = Tables.from_frames(items=pd.DataFrame({"item_id": ["pot", "cup"], "category": ["Tea > Pots", None]}))
        >>> category_of(shop, cutoff=pd.Timestamp("2026-01-01", tz="UTC"), items=Vocabulary(["pot", "cup", "hat"]))
        ['category=tea > pots', None, None]
    """
    told = _read(tables, cutoff, items, ("category",))
    found: list[str | None] = [None] * len(items)
    for code, category in zip(told.code, told.category, strict=True):
        found[code] = category_name(category)
    return found


def category_name(category: str | None) -> str | None:
    """What `item_attributes` calls a category; None for one that is missing or empty.

    Example:
        >>> category_name("Tea/Pots")
        'category=tea > pots'
    """
    paths = _paths(category.lower()) if isinstance(category, str) else []
    return CATEGORY + paths[-1] if paths else None


def item_attributes(
    tables: Tables, *, cutoff: datetime, items: Vocabulary, settings: config.Recommender
) -> Attributes | None:
    """What the catalogue said of the items just before the cutoff; 1 where an item has an attribute.

    - `category=tea` and, of a path, each of its beginnings: `category=kitchen`, `category=kitchen > tea`;
    - `brand=acme`;
    - `price=4.95..9.9`: in which tenth of the items' prices;
    - `name=green`: each word of the name;
    - of each of `settings.item_columns`: each word of a text or of a list's members, yes or no, the tenth of a number.

    An attribute of one item alone says nothing of others, so it is left out; of the rest the `max_attributes` that
    most items have are kept. Words stay words rather than being hashed into columns: a model's size is bounded
    alike, none collide, and what was learnt can be read.

    Args:
        tables: All that is known; what is not known before the cutoff is left out here.
        cutoff: With its time zone.
        items: The rows of the result.
        settings: Further columns, and how many attributes there may be.

    Returns:
        None where nothing that two items share is known.

    Raises:
        WorkspaceError: `settings.item_columns` names a column that the shop did not bring.

    Example:
        >>> shop = Tables.from_frames(items=pd.DataFrame({
        ...     "item_id": ["pot", "cup"], "name": ["Green tea pot", "Tea cup"], "brand": ["Leaf", "Leaf"]}))
        >>> found = item_attributes(shop, cutoff=pd.Timestamp("2026-01-01", tz="UTC"),
        ...     items=Vocabulary(["pot", "cup"]), settings=config.Recommender())
        >>> found.names, found.matrix.toarray().tolist()
        (('brand=leaf', 'name=tea'), [[1.0, 1.0], [1.0, 1.0]])
    """
    if "items" not in tables.brought:
        return None
    for name in settings.item_columns:
        if not tables.has("items", name):
            raise WorkspaceError(
                f"recommender.item_columns: items has no column {name!r}; it has {', '.join(tables['items'].columns)}."
            )
    columns = tuple(dict.fromkeys(("category", "brand", "price", "name", *settings.item_columns)))
    told = _read(tables, cutoff, items, columns)
    cells = pd.concat([_cells(told, column) for column in columns]).drop_duplicates()
    count = cells["attribute"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    names = sorted(count.index[count > 1][: settings.max_attributes])
    if not names:
        return None
    column = pd.Index(names).get_indexer(cells["attribute"])
    row = cells["code"].to_numpy(np.int32)[column >= 0]
    column = column[column >= 0]
    shape = (len(items), len(names))
    return Attributes(tuple(names), sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=shape))


def _read(tables: Tables, cutoff: datetime, items: Vocabulary, columns: tuple[str, ...]) -> pd.DataFrame:
    """The columns of those of `items` that are known, with their codes."""
    found = tables.as_of(cutoff)["items"].select("item_id", *columns).execute()
    found["code"] = items.codes(found.pop("item_id").astype(object))
    return found[found["code"] >= 0]


def _cells(told: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of `code` and `attribute`: what one column tells."""
    known = told[["code", column]].explode(column).dropna().reset_index(drop=True)
    values = known[column].infer_objects()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        parts = _tenths(values[np.isfinite(values)])
    else:
        texts = values.astype(str).str.strip().str.lower()
        parts = texts.map(lambda text: _parts(column, text)).explode().dropna()
    return pd.DataFrame({"code": known["code"].loc[parts.index], "attribute": f"{column}=" + parts.astype(str)})


def _parts(column: str, text: str) -> list[str]:
    """The attributes in a text."""
    if column == "category":
        return _paths(text)
    if column == "brand":
        return [text] if text else []
    return WORD.findall(text)


def _paths(category: str) -> list[str]:
    """Every beginning of a path.

    Example:
        >>> _paths("kitchen > tea")
        ['kitchen', 'kitchen > tea']
    """
    steps = [step for step in PATH.split(category.strip()) if step]
    return [" > ".join(steps[: n + 1]) for n in range(len(steps))]


def _tenths(values: pd.Series) -> pd.Series:
    """In which tenth of the values each lies, as `from..to`: the tenths of a price are those of its logarithm."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BUCKETS + 1))) if len(values) else np.zeros(1)
    bucket = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    names = [f"{low:g}..{high:g}" for low, high in itertools.pairwise(edges)] or [f"{edges[0]:g}"]
    return pd.Series(np.asarray(names, dtype=object)[bucket], index=values.index)
