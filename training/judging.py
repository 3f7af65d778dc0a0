"""Recommenders on the same people: what they were shown at a cutoff, held against what they took after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import numpy as np
from scipy import sparse

from data.errors import DataError
from data.interactions import Interactions
from data.settings import Settings
from data.tables import Tables
from data.vocabulary import Vocabulary
from evaluation import ranking
from evaluation.ranking import RankingQuality
from features.interactions import interactions
from models.recommenders import Recommender
from training.examples import K
from training.recipes import Recipe
from training.results import Comparison, Judged

METRIC = f"ndcg_at_{K}"
MAX_JUDGED_USERS = 5_000
"""Users drawn to judge on: bounds the time, and the interval is narrow enough by far."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """A fitted recommender that is judged.

    Attributes:
        name: What to call it.
        recipe: How it was made, and so what it shows.
        model: Fitted on nothing at or after the cutoff it is judged at.
    """

    name: str
    recipe: Recipe
    model: Recommender


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """People at a cutoff: what they had before, and what they took in the horizon after it.

    Attributes:
        cutoff: The moment between the two.
        known: Everybody's interactions before it.
        histories: Of the judged users, shape (n, n_known_items).
        held_out: What they took then, shape (n, n_items).
        items: Ids of the columns of `held_out`.
    """

    cutoff: datetime
    known: Interactions
    histories: sparse.csr_matrix
    held_out: sparse.csr_matrix
    items: Vocabulary

    @classmethod
    def at(cls, tables: Tables, settings: Settings, cutoff: datetime, seed: int) -> Self:
        """The rows of a cutoff: every user with something in the horizon after it, or a seeded draw of them.

        Raises:
            DataError: nothing before the cutoff, or nothing after it.
        """
        until = cutoff + timedelta(days=settings.recommender.horizon_days)
        known = interactions(tables, settings.recommender, cutoff=cutoff)
        after = interactions(tables, settings.recommender, cutoff=until).since(int(cutoff.timestamp()))
        if not len(after):
            raise DataError(
                f"nobody did anything in the {settings.recommender.horizon_days} days from {cutoff:%Y-%m-%d}. Bring "
                "later events or orders with user_id and item_id, or set another recommender.horizon_days."
            )
        judged = np.unique(after.user)
        if len(judged) > MAX_JUDGED_USERS:
            judged = np.sort(np.random.default_rng(seed).choice(judged, MAX_JUDGED_USERS, replace=False))
        row = known.users.codes(after.users.ids(judged))
        warm = np.flatnonzero(row >= 0)
        had = sparse.csr_matrix(
            (np.ones(len(warm), np.float32), (warm, row[warm])), shape=(len(judged), len(known.users))
        )
        return cls(cutoff, known, (had @ known.matrix).tocsr(), after.matrix[judged], after.items)

    def judge(self, model: Recommender, *, exclude_seen: bool) -> RankingQuality:
        """What the judged users would have been shown, held against what they took."""
        histories = recoded(self.histories, self.known.items, model.items)
        ranked = model.recommend(histories, K, exclude_seen=exclude_seen).items
        code = np.append(self.items.codes(model.items.all_ids), -1)  # padding, -1, reads the last place
        return ranking.evaluate(code[ranked], self.held_out, recoded(self.histories, self.known.items, self.items))


def compared(rows: JudgedRows, contestants: Sequence[Contestant], settings: Settings) -> Comparison:
    """Contestants on the same people, the first one against each other one."""
    resamples = settings.training.bootstrap
    qualities = [rows.judge(who.model, exclude_seen=who.recipe.exclude_seen) for who in contestants]
    first = qualities[0]
    judged = tuple(
        Judged(
            name=who.name,
            recipe=str(who.recipe),
            is_baseline=who.recipe.is_baseline,
            metrics={
                METRIC: quality.interval("ndcg", "warm", resamples=resamples),
                f"recall_at_{K}": quality.interval("recall", "warm", resamples=resamples),
                f"recall_at_{K}_of_strangers": quality.interval("recall", "cold", resamples=resamples),
            },
            gain=ranking.compare(first, quality, "ndcg", "warm", resamples=resamples) if quality is not first else None,
        )
        for who, quality in zip(contestants, qualities, strict=True)
    )
    n_cold = int(first.cold_user.sum())
    horizon_days = settings.recommender.horizon_days
    note = (
        f"judged on what people did in the {horizon_days} days from {rows.cutoff:%Y-%m-%d}; "
        f"{n_cold:,} of them were strangers until then and are told apart"
    )
    return Comparison("recommender", METRIC, len(first.cold_user) - n_cold, judged, (note,))


def recoded(matrix: sparse.csr_matrix, columns: Vocabulary, to: Vocabulary) -> sparse.csr_matrix:
    """`matrix` with the columns of another vocabulary; items that it does not know are left out.

    Example:
        >>> tea_first = sparse.csr_matrix([[1, 2]])
        >>> recoded(tea_first, Vocabulary(["tea", "cup"]), Vocabulary(["hat", "tea"])).toarray().tolist()
        [[0, 1]]
    """
    cells = matrix.tocoo()
    column = to.codes(columns.all_ids)[cells.col]
    kept = column >= 0
    return sparse.csr_matrix((cells.data[kept], (cells.row[kept], column[kept])), shape=(matrix.shape[0], len(to)))
