"""Chance that can be drawn again: a number for an id, a draw of rows; the same at every asking and on every machine."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np


def stable_uniform(ids: Iterable[str], *, salt: str) -> np.ndarray:
    """A number in [0, 1) for each id, float64 (n,): even over ids, and over salts independent.

    Args:
        ids: Whom or what the draw is for.
        salt: What it decides, and for when: another salt, another draw.

    Example:
        >>> once, again = (stable_uniform(["ann", "bob"], salt="hour 2026-01-31") for _ in range(2))
        >>> bool((once == again).all()), once.round(3).tolist()
        (True, [0.253, 0.703])
    """
    bits = [
        int.from_bytes(blake2b(f"{salt}\0{id_}".encode(errors="replace"), digest_size=8).digest()) >> 11 for id_ in ids
    ]
    return np.array(bits, dtype=np.float64) / 2**53


def some_rows(n: int, most: int, *, seed: int) -> np.ndarray:
    """Positions of all n rows, or of a seeded draw of `most` of them, in their order; int64 (n or most,).

    Example:
        >>> some_rows(3, 5, seed=0).tolist(), some_rows(5, 3, seed=0).tolist()
        ([0, 1, 2], [2, 3, 4])
    """
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
