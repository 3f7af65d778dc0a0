"""What you took most and last, again; then what is popular. The baseline that repeat buying makes hard to beat."""

from __future__ import annotations

import numpy as np

from data.histories import Histories
from models.recommenders.base import Groups
from models.recommenders.popularity import Popularity


class RepeatPurchase(Popularity):
    """Own items by their (decayed) weight in the history, before all others by popularity.

    Of use with `exclude_seen=False`; otherwise it is `Popularity`. Serves strangers, as `Popularity` does.
    """

    name = "repeat"

    def _score(self, histories: Histories, groups: Groups | None) -> np.ndarray:
        scores = super()._score(histories, groups)
        own = histories.matrix.tocoo()
        scores[own.row, own.col] += 1 + own.data  # a share of popularity is at most 1
        return scores

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        return np.where(codes[:, None] == history.matrix.indices, 1 + history.matrix.data, 0)
