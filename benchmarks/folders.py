"""Tables of a folder that a benchmark is given: what is missing is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from data.errors import DataError
from training.uplift_report import read_rows


def rows_of(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table with these columns, and any others.

    Raises:
        DataError: no such file, one that cannot be read, without rows, or without one of the columns.
    """
    rows = read_rows(file)
    if missing := [name for name in columns if name not in rows]:
        raise DataError(f"{file} has no column {missing[0]!r}; it has {', '.join(map(str, rows.columns))}.")
    if not len(rows):
        raise DataError(f"{file} has no rows.")
    return rows
