"""What people did as the network reads it: classes of time, and ragged parts of histories as rectangles."""

from __future__ import annotations

import numpy as np

from data.histories import Histories

N_GAPS = 32
"""Classes of the time until the next step: 0 none or not known, c from 2^(c - 1) seconds to twice as much."""

STEPS_AT_ONCE = 2**14
"""Steps that are asked about at once: bounds the network's memory to some 100 MB."""


def gap_classes(histories: Histories) -> np.ndarray:
    """How long it took from each step to the next, or to `now`: int64 classes below N_GAPS, shape (m,).

    Example:
        >>> from data.vocabulary import Vocabulary
        >>> from data.histories import Step
        >>> steps = [Step("x", at=10), Step("x", at=10), Step("x", at=13)]
        >>> gap_classes(Histories.of_steps(Vocabulary(["x"]), [steps], now=14)).tolist()
        [0, 2, 1]
    """
    until = np.append(histories.at[1:], 0)
    filled = np.flatnonzero(np.diff(histories.indptr))
    until[histories.indptr[filled + 1] - 1] = histories.now[filled]
    seconds = np.maximum(until - histories.at, 0)
    return np.minimum(np.frexp(seconds.astype(np.float64))[1], N_GAPS - 1).astype(np.int64)


def rectangle(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places start, start + 1, ... of each part, and which of them are in it; those that are not are 0.

    Args:
        starts: int64 of shape (n,).
        lengths: int64 of shape (n,).

    Returns:
        The places, int64, and whether they are of the part, bool, both of shape (n, longest length).

    Example:
        >>> rectangle(np.array([5, 8]), np.array([3, 1]))[0].tolist()
        [[5, 6, 7], [8, 0, 0]]
    """
    steps = np.arange(lengths.max())
    inside = steps < lengths[:, None]
    return np.where(inside, starts[:, None] + steps, 0), inside


def alike(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Groups of parts about equally long, of about `size` steps each; parts of length 0 are in none.

    Example:
        >>> [group.tolist() for group in alike(np.array([4, 0, 2, 2]), 4)]
        [[2], [3], [0]]
    """
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    return np.split(order, np.flatnonzero(np.diff(np.cumsum(lengths[order]) // size)) + 1) if len(order) else []
