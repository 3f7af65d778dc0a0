"""From numpy columns to Arrow: ids, times and nulls without a Python loop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def numbered(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Ids `prefix` + number, for ids that are all different.

    Example:
        >>> numbered("e0-", np.array([7, 12])).to_pylist()
        ['e0-7', 'e0-12']
    """
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


def pick(values: pa.Array, codes: np.ndarray) -> pa.DictionaryArray:
    """`values[codes]` as a dictionary; a negative code is null.

    Example:
        >>> pick(pa.array(["a", "b"]), np.array([1, -1])).to_pylist()
        ['b', None]
    """
    codes = np.asarray(codes, dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values)


def times(days: np.ndarray, start_us: int) -> pa.Array:
    """Times in UTC of days since the start (`start_us`, microseconds since 1970); NaN is null."""
    missing = np.isnan(days)
    whole = np.where(missing, 0, days)
    stamps = start_us + np.rint(whole * 86_400_000.0).astype(np.int64) * 1000
    return pa.array(stamps, mask=missing if missing.any() else None).cast(pa.timestamp("us", "UTC"))


def numbers(values: np.ndarray) -> pa.Array:
    """Floats, NaN as null."""
    values = np.asarray(values, dtype=np.float64)
    return pa.array(values, mask=np.isnan(values))


def strings(rows: list[str]) -> pa.Array:
    """A small array of strings."""
    return pa.array(rows, pa.string())


def draw(cdf: np.ndarray, row: np.ndarray, u: np.ndarray) -> np.ndarray:
    """For each `u` the first column of `cdf[row]` that reaches it: a binary search in many rows at once.

    Args:
        cdf: Non-decreasing rows that end at 1 or more, shape (rows, m).
        row: Shape (n,).
        u: In [0, 1), shape (n,).

    Example:
        >>> draw(np.array([[0.5, 1.0], [0.1, 1.0]]), np.array([0, 1, 1]), np.array([0.3, 0.3, 0.05])).tolist()
        [0, 1, 0]
    """
    low = np.zeros(len(row), dtype=np.int64)
    high = np.full(len(row), cdf.shape[1] - 1)
    for _ in range(int(np.ceil(np.log2(max(cdf.shape[1], 2))))):
        middle = (low + high) // 2
        above = cdf[row, middle] <= u
        low = np.where(above, np.minimum(middle + 1, high), low)
        high = np.where(above, high, middle)
    return low
