"""Who and what of files that strangers wrote: ids as text, the same id in every file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import DataError


def with_ids(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows with `user_id` and `item_id` for `user` and `item`; says how many have none and are left out.

    A whole number is the same id as integer and as the float that a column with gaps becomes.

    Raises:
        DataError: not one of the rows has both.

    Example:
        >>> with_ids(pd.DataFrame({"user": [7.0, None, 8.0], "item": ["a", "b", None]}), Path("train.parquet"))
        train.parquet: 2 of 3 rows have no user or no item and are left out
          user_id item_id
        0       7       a
    """
    some = rows[["user", "item"]].notna().all(axis=1)
    if len(rows) and not some.any():
        raise DataError(f"{file} has no row with a user and an item.")
    if not some.all():
        print(f"{file.name}: {int((~some).sum()):,} of {len(rows):,} rows have no user or no item and are left out")
    named = rows[some].rename(columns={"user": "user_id", "item": "item_id"})
    return named.assign(user_id=_text(named["user_id"]), item_id=_text(named["item_id"]))


def _text(ids: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(ids) and (ids == np.floor(ids)).all():
        ids = ids.astype(np.int64)
    return ids.astype(str)
