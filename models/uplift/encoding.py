"""A table's columns as the matrix that regressors take."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.columns import Columns


def encoded(columns: Columns, table: pd.DataFrame) -> np.ndarray:
    """Float64 (n, n_features): a category is its place in its list; what is missing, or in no list, is NaN.

    Example:
        >>> table = pd.DataFrame({"plan": ["a", "b", None] * 20})
        >>> encoded(Columns.learn(table), table)[:3].tolist()
        [[0.0], [1.0], [nan]]
    """
    found = columns(table)
    parts = []
    for name, column in columns.read.items():
        values = found[name].to_numpy()
        if column.kind == "category":
            codes = pd.Index(column.categories, dtype="object").get_indexer(pd.Index(values, dtype="object"))
            values = np.where(codes >= 0, codes, np.nan)
        parts.append(values.astype(np.float64))
    return np.column_stack(parts)


def category_sizes(columns: Columns) -> dict[int, int]:
    """Column -> how many categories it has; columns of numbers are not there."""
    kinds = enumerate(columns.read.values())
    return {place: len(column.categories) for place, column in kinds if column.kind == "category"}
