"""Recommenders on the same people: what they were shown at a moment, held against what they took after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from data.chance import some_rows
from data.errors import DataError
from data.histories import Histories
from data.interactions import CATEGORY, Interactions
from data.settings import Settings
from data.tables import Tables
from data.vocabulary import Vocabulary
from evaluation import ranking
from evaluation.intervals import Interval
from evaluation.ranking import Metric, RankingQuality
from features.interactions import interactions
from models.recommenders import Recommender
from models.recommenders.popularity import Popularity
from training.examples import K
from training.recipes import Recipe
from training.results import Comparison, Judged

MAIN: Metric = "ndcg"
METRIC = f"{MAIN}_at_{K}"
MAX_JUDGED_USERS = 5_000
"""Users drawn to judge on: bounds the time, and the interval is narrow enough by far."""
CARVED_PAIRS, CARVED_SHARES = 40_000, (0.05, 0.2)
MAX_CARVED_USERS = 15_000
"""More than else, for each has but an item or two held out."""


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
    """People at a moment: what they had before it, and what they took after it.

    Attributes:
        known: Everybody's interactions before it: what a model may learn from.
        users: Codes in `known.users` of the judged users, int64 of shape (n,); -1 for a stranger.
        ids: Of these, strangers too, shape (n,), dtype object.
        histories: Of these, n rows over the items of `known`.
        held_out: What they took then, shape (n, n_items).
        items: Ids of the columns of `held_out`: what was known, and what was new among what they then took.
        about: What they are judged on, in words.
    """

    known: Interactions
    users: np.ndarray
    ids: np.ndarray
    histories: Histories
    held_out: sparse.csr_matrix
    items: Vocabulary
    about: str

    @classmethod
    def at(cls, tables: Tables, settings: Settings, cutoff: datetime, seed: int) -> Self:
        """The rows of a cutoff: every user with something in the horizon after it, or a seeded draw of them.

        Raises:
            DataError: nothing before the cutoff, or nothing after it.
        """
        horizon_days, moment = settings.recommender.horizon_days, int(cutoff.timestamp())
        known = interactions(tables, settings.recommender, cutoff=cutoff, catalogue=True)
        until = cutoff + timedelta(days=horizon_days)
        after = interactions(tables, settings.recommender, cutoff=until).since(moment)
        if not len(after):
            raise DataError(
                f"nobody did anything in the {horizon_days} days from {cutoff:%Y-%m-%d}. Bring "
                "later events or orders with user_id and item_id, or set another recommender.horizon_days."
            )
        judged = _some(np.unique(after.user), MAX_JUDGED_USERS, seed)
        ids = after.users.all_ids[judged]
        row = known.users.codes(ids)
        items = Vocabulary([*known.items.all_ids, *(id_ for id_ in after.items.all_ids if id_ not in known.items)])
        return cls(
            known=known,
            users=row,
            ids=ids,
            histories=Histories.from_interactions(known, users=row, now=moment),
            held_out=after.matrix[judged] @ _places(after.items, items),
            items=items,
            about=f"what people did in the {horizon_days} days from {cutoff:%Y-%m-%d}",
        )

    def judge(self, model: Recommender, *, exclude_seen: bool, k: int = K) -> RankingQuality:
        """What the judged users would have been shown, held against what they took."""
        return self.measured(self.served(model, exclude_seen=exclude_seen, k=k), self.items)

    def served(self, model: Recommender, *, exclude_seen: bool, k: int = K) -> np.ndarray:
        """What the judged users would have been shown, codes of `items`, best first, -1 in empty places: (n, k).

        Strangers of whom the model says nothing get what is popular, as they do where it is served.
        """
        shown = self._coded(model.recommend(self._over(model.items), k, exclude_seen=exclude_seen).items, model.items)
        strangers = np.flatnonzero(np.diff(self.histories.indptr) == 0)
        if len(strangers) and not model.serves_cold_users:
            popular = self._popular.recommend(self.histories[strangers[:1]], k).items
            shown[strangers] = self._coded(popular, self.known.items)
        return shown

    def measured(self, ranked: np.ndarray, items: Vocabulary) -> RankingQuality:
        """Rankings, codes of `items` of shape (n, k), held against what the judged users took."""
        had, everybody, categories = self._before
        return ranking.evaluate(
            self._coded(ranked, items), self.held_out, had, everybody=everybody, categories=categories
        )

    def _coded(self, ranked: np.ndarray, items: Vocabulary) -> np.ndarray:
        """Codes of another vocabulary as those of `items`."""
        if items == self.items:
            return ranked
        code = np.append(self.items.codes(items.all_ids), -1)  # padding, -1, reads the last place
        return code[ranked]

    @cached_property
    def _popular(self) -> Popularity:
        """What answers strangers where a model does not."""
        return Popularity().fit(self.known)

    @cached_property
    def _before(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix | None]:
        """What the judged users had, what everybody had, and the categories of `items`; None where none are known."""
        places, attributes = _places(self.known.items, self.items), self.known.attributes
        had, everybody = self.histories.matrix @ places, self.known.matrix @ places
        named = [] if attributes is None else [name.startswith(CATEGORY) for name in attributes.names]
        if attributes is None or not any(named):
            return had, everybody, None
        return had, everybody, sparse.csr_matrix(places.T @ attributes.matrix[:, np.flatnonzero(named)])

    def _over(self, items: Vocabulary) -> Histories:
        """The histories in the codes of another vocabulary."""
        if items == self.known.items:
            return self.histories
        return self.histories.recoded(items.codes(self.known.items.all_ids), len(items))


def carve_last(taken: Interactions, *, max_users: int = MAX_JUDGED_USERS, seed: int = 0) -> JudgedRows:
    """Leave-last-out: everybody's last interaction is held out and what came before is known.

    Users with a single interaction keep it and are not judged. Carved from its `known` once more, the rows are those
    that a model of these rows is chosen on.

    Args:
        taken: With `at`, a time or a position, that orders what each user did.
        max_users: Judged are all, or a seeded draw of so many.
        seed: Of the draw.

    Raises:
        DataError: nobody has two interactions.

    Example:
        >>> import pandas as pd
        >>> taken = pd.DataFrame({"user_id": list("aab"), "item_id": ["tea", "cup", "hat"], "at": [1, 2, 1]})
        >>> rows = carve_last(Interactions.from_frame(taken))
        >>> rows.items.ids(rows.held_out.indices), rows.known.items.ids(rows.known.item)
        (['cup'], ['tea', 'hat'])
    """
    ends = np.flatnonzero(np.append(taken.user[1:] != taken.user[:-1], True))  # sorted by user, then by time
    held = np.zeros(len(taken), dtype=bool)
    held[ends[np.diff(ends, prepend=-1) > 1]] = True
    return _carved(taken, held, "the last thing that each did", max_users, seed)


def carve_random(taken: Interactions, *, share: float | None = None, seed: int = 0) -> JudgedRows:
    """A share of each user's items is held out, for data without times; never all of them.

    Judged are all users, or a draw of `MAX_CARVED_USERS`.

    Little is taken, for what suits thinned data may not suit the whole: with a fifth of gowalla missing a graph filter
    of one hop beats a wide one, with a twentieth missing the wide one leads.

    Args:
        taken: Who took what.
        share: In (0, 1); by default what leaves about CARVED_PAIRS to judge on, from a twentieth to a fifth. Of a user
            with n items share * n are held out, rounded up or down by chance.
        seed: Of the carve and the draw.

    Raises:
        DataError: nobody has two items, or by chance nothing was held out.

    Example:
        >>> import pandas as pd
        >>> taken = pd.DataFrame({"user_id": list("aaaab"), "item_id": list("vwxyz")})
        >>> rows = carve_random(Interactions.from_frame(taken), share=0.5)
        >>> rows.held_out.sum(axis=1).tolist(), len(rows.known)
        ([[2.0]], 3)
    """
    pair, of_pair = np.unique(taken.user.astype(np.int64) * len(taken.items) + taken.item, return_inverse=True)
    user = pair // len(taken.items)
    if share is None:
        share = float(np.clip(CARVED_PAIRS / max(len(pair), 1), *CARVED_SHARES))
    rng = np.random.default_rng(seed)
    n_pairs = np.bincount(user, minlength=len(taken.users))
    n_held = np.minimum(np.floor(share * n_pairs + rng.random(len(n_pairs))), n_pairs - 1)
    order = np.lexsort((rng.random(len(pair)), user))
    rank = np.empty(len(pair), dtype=np.int64)
    rank[order] = np.arange(len(pair)) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    held = (rank < n_held[user])[of_pair]
    return _carved(taken, held, f"{share:.0%} of what each took", MAX_CARVED_USERS, seed)


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
            metrics=_measures(quality, resamples),
            gain=ranking.compare(first, quality, MAIN, "warm", resamples=resamples) if quality is not first else None,
        )
        for who, quality in zip(contestants, qualities, strict=True)
    )
    n_cold = int(first.cold_user.sum())
    note = f"judged on {rows.about}"
    if n_cold:
        note += (
            f"; apart from them {n_cold:,} who were strangers until then, to whom a model that has nothing for "
            "strangers shows what is popular"
        )
    return Comparison("recommender", METRIC, len(first.cold_user) - n_cold, judged, (note,))


def _measures(quality: RankingQuality, resamples: int) -> dict[str, Interval]:
    """Everything measured, by its name with the cut: of people who were no strangers, then recall of those who were.

    Coverage and exposure are of the whole audience at once, so they have no interval.
    """
    of_warm = {
        f"{metric}_at_{quality.k}": quality.interval(metric, "warm", resamples=resamples)
        for metric in (MAIN, *(metric for metric in ranking.METRICS if metric != MAIN))
    }
    of_all = {
        f"{name}_at_{quality.k}": Interval.around(value)
        for name, value in (("coverage", quality.coverage), ("exposure_gini", quality.exposure_gini))
    }
    strangers = quality.interval("recall", "cold", resamples=resamples)
    return {**of_warm, f"recall_at_{quality.k}_of_strangers": strangers, **of_all}


def _carved(taken: Interactions, held: np.ndarray, about: str, max_users: int, seed: int) -> JudgedRows:
    """Rows whose held-out part are the interactions under the mask `held`, each asked at its user's first of them."""
    if not held.any():
        raise DataError("nobody has two items, so nothing can be held out to choose a model on. Bring more history.")
    known, after = taken.where(~held), taken.where(held)
    users, first = np.unique(after.user, return_index=True)
    chosen = np.isin(users, _some(users, max_users, seed))
    histories = Histories.from_interactions(known, users=users[chosen])
    return JudgedRows(
        known=known,
        users=users[chosen],
        ids=taken.users.all_ids[users[chosen]],
        histories=replace(histories, now=np.maximum(histories.now, after.at[first[chosen]])),
        held_out=after.matrix[users[chosen]],
        items=taken.items,
        about=about,
    )


def _places(items: Vocabulary, among: Vocabulary) -> sparse.csr_matrix:
    """1 where an item is among the others, shape (len(items), len(among)): columns of the one by those of the other."""
    code = among.codes(items.all_ids)
    known = np.flatnonzero(code >= 0)
    cells = (np.ones(len(known), np.float32), (known, code[known]))
    return sparse.csr_matrix(cells, shape=(len(items), len(among)))


def _some(users: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The users in their order, or a seeded draw of `n` of them."""
    return users[some_rows(len(users), n, seed=seed)]
