"""What you take again, at your own rhythm; then what is popular. The baseline that repeat buying makes hard to beat."""

from __future__ import annotations

import numpy as np

from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import Groups
from models.recommenders.popularity import DAY_SECONDS, Popularity

FEWEST_REPEATS = 30
"""With fewer repeats in the newest horizon there is nothing to learn from."""
LEAST_SHARE = 1e-6
PRIOR_GAPS = 5.0
"""An item's usual gap leans on all items' as if so many gaps of theirs had been seen; a person's leans on one."""


class RepeatPurchase(Popularity):
    """Own items by their chance of being taken again soon, before all others by popularity.

    Of a person's item at a moment, P(again) = sigmoid(b0 + b'x), a logistic regression on what is known of the two:
    x = (log w, log n, log(1 + d), log p, early, late) with the weight w, the days n on which it was taken, the days d
    since, the item's popularity p, and how far d falls short of or goes beyond the person's usual gap g for it, in
    factors of two: early = max(0, log2 g/d), late = max(0, log2 d/g). The gap is (span + g_item) / (n - 1 + 1), shrunk
    towards the item's own, and that towards all items' (the idea of Bhagat et al. 2018, "Buy it again: modeling repeat
    purchase recommendations", with a regression in the place of their densities). b is learnt from who took what again
    in the newest `horizon_days`.

    Where times are not known, or hardly anything comes back, own items are ordered by their (decayed) weight.

    Of use with `exclude_seen=False`; otherwise it is `Popularity`. Serves strangers, as `Popularity` does. Exact about
    its reasons: an item comes back because it was there.

    Example:
        >>> import pandas as pd
        >>> taken = Interactions.from_frame(
        ...     pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "x", "y"], "weight": [1, 1, 3]}))
        >>> model = RepeatPurchase().fit(taken)
        >>> model.items.ids(model.recommend(taken.matrix, 1, exclude_seen=False).items[:, 0])
        ['x', 'y']
    """

    name = "repeat"
    _arrays = (*Popularity._arrays, "gap_days", "b")
    _values = (*Popularity._values, "usual_chance")

    gap_days: np.ndarray
    """Each item's usual gap between two days on which a person takes it, float64 of shape (n_items,)."""
    b: np.ndarray
    """Coefficients, the constant first, float64 of shape (7,); of shape (0,) where weights order."""
    usual_chance: float
    """Of an own item: chances are told as multiples of it, so that they spread as weights do."""

    def __init__(self, *, horizon_days: float = 14, window_days: float = 30, half_life_days: float = 14) -> None:
        super().__init__(window_days=window_days, half_life_days=half_life_days)
        self.horizon_days = horizon_days

    def _fit(self, interactions: Interactions) -> None:
        super()._fit(interactions)
        now = int(interactions.at.max()) + 1
        self.b, self.usual_chance = np.zeros(0), 1.0
        self.gap_days = np.zeros(len(self.items))
        before = int(now - self.horizon_days * DAY_SECONDS)
        known, after = interactions.before(before), interactions.since(before)
        if len(known):
            self._learn(known, after, before)
        self.gap_days = _usual_gaps(Histories.from_interactions(interactions))

    def _learn(self, known: Interactions, after: Interactions, now: int) -> None:
        """Set `b` from what people did until `now` and who of those who then came took what again."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - only fitting needs it

        came = np.unique(after.user)
        histories = Histories.from_interactions(known, users=came, now=now)
        share = Popularity(window_days=self.window_days, half_life_days=self.half_life_days).fit(known).overall
        x = _told(histories, share, _usual_gaps(Histories.from_interactions(known)))
        own = histories.matrix.tocoo()
        again = np.asarray(after.matrix[came][own.row, own.col]).ravel() > 0
        if min(again.sum(), (~again).sum()) >= FEWEST_REPEATS:
            learnt = LogisticRegression(max_iter=1000).fit(x, again)
            self.b, self.usual_chance = np.concatenate([learnt.intercept_, learnt.coef_[0]]), float(again.mean())

    def _again(self, histories: Histories) -> np.ndarray:
        """What each cell of `histories.matrix` is ordered by: the chance, or the weight where there is none."""
        own = histories.matrix.tocoo()
        if not len(self.b):
            return own.data
        logit = self.b[0] + _told(histories, self.overall, self.gap_days) @ self.b[1:]
        chance = 1 / (1 + np.exp(-logit))
        return np.where(histories.now[own.row] > 0, chance / self.usual_chance, own.data)

    def _score(self, histories: Histories, groups: Groups | None) -> np.ndarray:
        scores = super()._score(histories, groups)
        own = histories.matrix.tocoo()
        scores[own.row, own.col] += 1 + self._again(histories)  # a share of popularity is at most 1
        return scores

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        return np.where(codes[:, None] == history.matrix.indices, 1 + self._again(history), 0)


def _days(histories: Histories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each cell of `histories.matrix`: days on which it was taken, days from the first to the last, days since."""
    row = histories.row
    order = np.lexsort((histories.at, histories.item, row))
    row, item, at = row[order], histories.item[order], histories.at[order]
    new_cell = (np.diff(row, prepend=-1) != 0) | (np.diff(item, prepend=-1) != 0)
    new_day = new_cell | (np.diff(at // DAY_SECONDS, prepend=0) != 0)
    first = np.flatnonzero(new_cell)
    last = np.append(first[1:], len(at))[: len(first)] - 1
    days = np.diff(np.append(np.cumsum(new_day)[first], new_day.sum() + 1))
    since = (histories.now[row[last]] - at[last]) / DAY_SECONDS
    return days, (at[last] - at[first]) / DAY_SECONDS, np.maximum(since, 0)


def _usual_gaps(histories: Histories) -> np.ndarray:
    """Each item's usual gap in days, shrunk towards all items'."""
    days, span, _ = _days(histories)
    item, n_items = histories.matrix.indices, histories.n_items
    gaps = np.bincount(item, days - 1, n_items)
    overall = span.sum() / max(1, gaps.sum())
    usual: np.ndarray = (np.bincount(item, span, n_items) + PRIOR_GAPS * overall) / (gaps + PRIOR_GAPS)
    return usual


def _told(histories: Histories, share: np.ndarray, gap_days: np.ndarray) -> np.ndarray:
    """The x of each cell of `histories.matrix`, shape (n_cells, 6)."""
    own = histories.matrix
    days, span, since = _days(histories)
    gap = (span + gap_days[own.indices]) / days
    due = np.log2(np.maximum(since, 0.5) / np.maximum(gap, 0.5))  # half a day: hours are no rhythm
    weight, popular = np.log(own.data.astype(np.float64)), np.log(share[own.indices] + LEAST_SHARE)
    return np.column_stack([weight, np.log(days), np.log1p(since), popular, np.maximum(0, -due), np.maximum(0, due)])
