"""Candidates from several recommenders, put in order by trees that know the person, the item and both together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from data.chance import some_rows
from data.errors import ModelFileError
from data.histories import Histories
from data.interactions import Interactions
from models.recommenders.base import BLOCK_CELLS, Groups, top_k
from models.recommenders.composite import Composite, Member, standardised

if TYPE_CHECKING:
    import lightgbm

DAY_SECONDS = 86_400
MAX_HORIZON_SHARE = 0.5
"""Of the time that the interactions span: labels never take more of it, so that members have something to learn."""
HELD_OUT = 0.2
"""Where no times are known: the share of a user's items that are labels."""
STOPPING = 0.2
"""The share of users whose rows only tell when to stop."""
MIN_USERS = 30
"""With fewer users who took a candidate afterwards there is nothing to learn of; then members count alike."""
MAX_USERS = 20_000
"""More teach the trees little more, and each is some hundred rows."""
GAP_PRIOR = 5.0
"""An item's usual gap leans on that of all items as if so many further gaps had been seen."""
TREES = "trees.txt"
DEFAULT_MEMBERS: tuple[Member, ...] = ({"model": "repeat"}, {"model": "item_neighbours"}, {"model": "popularity"})

OF_ITEM = ("share", "recent_share", "trend", "age_days", "usual_gap_days")
OF_USER = ("n_steps", "n_items", "days_since_last", "mean_gap_days", "repeat_share")
OF_BOTH = ("n_taken", "weight_share", "days_since_taken", "rhythm_of_user", "rhythm_of_item", "category_share")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items that may be good for each row, sorted by row and item.

    Attributes:
        row: int64 of shape (m,).
        item: Codes, int64 of shape (m,).
        features: float32 of shape (m, n_features), NaN where not known.
        total: Sum of the members' standardised scores, float32 of shape (n, n_items); -inf where none says anything.
    """

    row: np.ndarray
    item: np.ndarray
    features: np.ndarray
    total: np.ndarray


@dataclass(frozen=True, eq=False)
class Examples:
    """What the trees learn from, sorted by user.

    Attributes:
        user: Codes, int64 of shape (m,).
        item: Codes, int64 of shape (m,).
        features: Known before the cutoff, float32 of shape (m, n_features).
        taken: Whether the user took the item afterwards, bool of shape (m,).
    """

    user: np.ndarray
    item: np.ndarray
    features: np.ndarray
    taken: np.ndarray


class Ranker(Composite):
    """Learning to rank in two stages (Covington, Adams and Sargin 2016, "Deep neural networks for YouTube ...").

    Candidates are the `n_candidates` best of each member, once of all items and once of those that are new to the
    person. LambdaRank trees (Burges 2010, "From RankNet to LambdaRank to LambdaMART"; LightGBM, Ke et al. 2017) put
    them in order by each member's standardised score and place, by features of the item (`OF_ITEM`), of the person
    (`OF_USER`) and of both (`OF_BOTH`): how often and how long ago it was taken, and how that compares with the
    usual gap between two times.

    Trained without leakage: members and features of the examples know what happened before an inner cutoff, and
    labels are what was taken in the horizon from then on, by those who had a history. There are `n_windows` such
    cutoffs, the newest one horizon before the newest interaction. In the end the members learn from everything. Where
    no times are known a random fifth of each user's items are the labels. Items' attributes have no history here: at
    the inner cutoffs they are as known when the model is fitted, so an example may know a category or price that came
    after its cutoff; nothing that comes after the fit does it know.

    Items that are no candidates follow after all candidates, in the order of the sum of standardised scores, so that
    a filter which leaves no candidate still leaves a list. That is the order of all items for strangers, and for
    everybody where fewer than MIN_USERS users took a candidate afterwards.

    Costs what its members cost, and about a millisecond. Reasons are exact, by leaving out each item in turn.
    Scoring needs LightGBM.

    Example:
        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> user, day = rng.integers(0, 100, 2_000), rng.integers(0, 60, 2_000)
        >>> frame = pd.DataFrame({"user_id": user, "item_id": user % 9 + rng.integers(0, 2, 2_000), "at": day * 86_400})
        >>> taken = Interactions.from_frame(frame.astype({"user_id": str, "item_id": str}))
        >>> model = Ranker().fit(taken)
        >>> one = Histories.from_interactions(taken, users=taken.users.codes(["4"]))
        >>> sorted(model.items.ids(model.recommend(one, 2, exclude_seen=False).items[0]))
        ['4', '5']
    """

    name = "ranker"
    _arrays = ("item_features", "category")
    _values = ("trees_sha256",)

    item_features: np.ndarray
    """The features OF_ITEM, float32 of shape (n_items, 5)."""
    category: np.ndarray
    """A code for each item's category, int32 of shape (n_items,); -1 where it has none."""
    trees_sha256: str
    """Of the LightGBM text; empty where there was nothing to learn of."""

    def __init__(
        self,
        *,
        members: Sequence[Member] = DEFAULT_MEMBERS,
        n_candidates: int = 50,
        horizon_days: float = 14,
        n_windows: int = 3,
        leaves: int = 15,
        learning_rate: float = 0.05,
        min_rows_in_leaf: int = 50,
        rounds: int = 500,
        patience: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(members=members, seed=seed)
        self.weights = [1.0] * len(self.members)
        self.n_candidates = n_candidates
        self.horizon_days = horizon_days
        self.n_windows = n_windows
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.min_rows_in_leaf = min_rows_in_leaf
        self.rounds = rounds
        self.patience = patience

    @property
    def features(self) -> list[str]:
        """Names of the columns of `Candidates.features`."""
        names = [f"{number}_{part.name}" for number, part in enumerate(self.parts)]
        of_members = [f"{name}_{what}" for what in ("score", "place") for name in names]
        return [*of_members, *OF_ITEM, *OF_USER, *OF_BOTH]

    def _fit(self, interactions: Interactions) -> None:
        self._trees = self._learn(self.examples(interactions))
        self.trees_sha256 = hashlib.sha256(self._trees.encode()).hexdigest() if self._trees else ""
        self.__dict__.pop("_booster", None)
        self._know(interactions)

    def _know(self, interactions: Interactions) -> None:
        """Let the members, and what is known of items, be of these interactions."""
        super()._fit(interactions)
        self.item_features = _of_items(interactions, self.horizon_days)
        self.category = _categories(interactions)

    def examples(self, interactions: Interactions) -> Examples:
        """Candidates as they would have been at each cutoff, and whether they were taken afterwards.

        The members know what was before the last such cutoff when this is done.
        """
        self.items = interactions.items
        n_items = len(self.items)
        none = np.zeros(0, dtype=np.int64)
        found = [Examples(none, none, np.zeros((0, len(self.features)), np.float32), none > 0)]
        for before, after, now in self._windows(interactions):
            self._know(before)
            users = self._some(np.intersect1d(before.user, after.user).astype(np.int64))
            taken = _keys(after.user, after.item, n_items)
            rows = max(1, BLOCK_CELLS // n_items)
            for block in (users[start : start + rows] for start in range(0, len(users), rows)):
                asked = self.candidates(Histories.from_interactions(before, users=block, now=now), None)
                user = block[asked.row]
                keys = _keys(user, asked.item, n_items)
                found.append(Examples(user, asked.item, asked.features, np.isin(keys, taken)))
        return Examples(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in found), strict=True)))

    def _some(self, users: np.ndarray) -> np.ndarray:
        """MAX_USERS of the users at most, in order."""
        return users[some_rows(len(users), MAX_USERS, seed=self.seed)]

    def _windows(self, interactions: Interactions) -> Iterator[tuple[Interactions, Interactions, int]]:
        """What was known at a cutoff, what came in the horizon from then on, and the cutoff; the newest first."""
        first, end = int(interactions.at.min()), int(interactions.at.max()) + 1
        if end - first == 1:
            pairs, pair = np.unique(_keys(interactions.user, interactions.item, len(self.items)), return_inverse=True)
            later = (np.random.default_rng(self.seed).random(len(pairs)) < HELD_OUT)[pair]
            windows = [(interactions.where(~later), interactions.where(later), first)]
        else:
            span = MAX_HORIZON_SHARE * (end - first) / self.n_windows
            horizon = max(1, int(min(self.horizon_days * DAY_SECONDS, span)))
            cutoffs = [end - (n + 1) * horizon for n in range(self.n_windows)]
            windows = [
                (interactions.before(cutoff), interactions.since(cutoff).before(cutoff + horizon), cutoff)
                for cutoff in cutoffs
            ]
        for before, after, now in windows:
            if len(before) and len(after):
                yield before, after, now

    def candidates(self, histories: Histories, groups: Groups | None) -> Candidates:
        """What is worth ranking for each row, with its features."""
        n_items = histories.n_items
        said = self._said(histories, groups)
        standard = [standardised(scores) for scores in said]
        total = self._added(said, standard)
        found = []
        for scores in said:
            for _ in range(2):
                best = top_k(scores, self.n_candidates).items
                row, place = np.nonzero(best >= 0)
                found.append(row * n_items + best[row, place])
                scores[histories.row, histories.item] = -np.inf  # the second time those that are new to the person
        row, item = np.divmod(np.unique(np.concatenate(found)), n_items)
        of_members = [scores[row, item] for scores in standard]
        columns = [
            *of_members,
            *(_places(row, score) for score in of_members),
            *self.item_features[item].T,
            *_of_users(histories)[row].T,
            *self._of_both(histories, row, item),
        ]
        return Candidates(row, item, np.column_stack(columns).astype(np.float32), total)

    def _of_both(self, histories: Histories, row: np.ndarray, item: np.ndarray) -> list[np.ndarray]:
        """The features OF_BOTH, each of shape (m,)."""
        steps = _keys(histories.row, histories.item, histories.n_items)
        order = np.argsort(steps, kind="stable")  # of equal keys in the order of time
        own, start, count = np.unique(steps[order], return_index=True, return_counts=True)
        at = histories.at[order]
        n_taken, weight, first, last = _looked_up(
            _keys(row, item, histories.n_items),
            own,
            (count, np.add.reduceat(histories.weight[order], start), at[start], at[start + count - 1]),
        )
        now = histories.now[row]
        since = np.where((n_taken > 0) & (now > 0), (now - last) / DAY_SECONDS, np.nan)
        own_gap = (last - first) / DAY_SECONDS / np.maximum(n_taken - 1, 1)
        usual_gap = self.item_features[item, OF_ITEM.index("usual_gap_days")]
        everything = np.bincount(histories.row, histories.weight, len(histories))[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            return [
                n_taken,
                weight / everything,
                since,
                np.where(own_gap > 0, since / own_gap, np.nan),
                np.where(usual_gap > 0, since / usual_gap, np.nan),
                self._category_share(histories, row, item),
            ]

    def _category_share(self, histories: Histories, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The share of the steps of a row that were with items of the category, NaN where that is not known."""
        n_categories = int(self.category.max(initial=0)) + 1
        of_step, of_asked = self.category[histories.item], self.category[item]
        keys = _keys(histories.row, of_step, n_categories)[of_step >= 0]
        own, count = np.unique(keys, return_counts=True)
        (n_steps,) = _looked_up(_keys(row, of_asked, n_categories), own, (count,))
        everything = np.diff(histories.indptr)[row]
        return np.where((of_asked >= 0) & (everything > 0), n_steps / np.maximum(everything, 1), np.nan)

    def _learn(self, examples: Examples) -> str:
        """LightGBM's text of the trees; empty where too few users took a candidate."""
        askers = np.unique(examples.user[examples.taken])
        if len(askers) < MIN_USERS:
            return ""
        import lightgbm as lgb  # noqa: PLC0415 - only models with trees need it

        mixed = np.random.default_rng(self.seed).permutation(askers)
        n_stopping = int(STOPPING * len(mixed))
        stop, train = (
            _dataset(examples, np.isin(examples.user, users), self.features)
            for users in (mixed[:n_stopping], mixed[n_stopping:])
        )
        params = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [10],
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "feature_fraction": 0.8,
            "lambda_l2": 5.0,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        stopping = lgb.early_stopping(self.patience, verbose=False)
        booster = lgb.train(params, train, self.rounds, valid_sets=[stop], callbacks=[stopping])
        return booster.model_to_string(num_iteration=booster.best_iteration)

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm as lgb  # noqa: PLC0415

        return lgb.Booster(model_str=self._trees)

    def _score(self, histories: Histories, groups: Groups | None) -> np.ndarray:
        found = self.candidates(histories, groups)
        known = (np.diff(histories.indptr) > 0)[found.row]
        if not self._trees or not known.any():
            return found.total
        row, item, total = found.row[known], found.item[known], found.total
        score = np.asarray(self._booster.predict(found.features[known], raw_score=True, num_threads=1), np.float32)
        start = np.flatnonzero(np.diff(row, prepend=-1))
        best_left = total[row[start]].max(axis=1) + 1
        total[row[start]] += (np.minimum.reduceat(score, start) - best_left)[:, None]
        total[row, item] = score
        return total

    def _save_more(self, folder: Path) -> None:
        super()._save_more(folder)
        (folder / TREES).write_text(self._trees, encoding="utf-8")

    def _load_more(self, folder: Path) -> None:
        super()._load_more(folder)
        self._trees = (folder / TREES).read_text(encoding="utf-8")
        if (hashlib.sha256(self._trees.encode()).hexdigest() if self._trees else "") != self.trees_sha256:
            raise ModelFileError(f"{folder / TREES} is cut short or changed. Fetch the version again, or train anew.")


def _dataset(examples: Examples, kept: np.ndarray, features: list[str]) -> lightgbm.Dataset:
    import lightgbm as lgb  # noqa: PLC0415

    user = examples.user[kept]
    groups = np.diff(np.append(np.flatnonzero(np.diff(user, prepend=-1)), len(user)))
    return lgb.Dataset(examples.features[kept], examples.taken[kept], group=groups, feature_name=features)


def _keys(row: np.ndarray, column: np.ndarray, n_columns: int) -> np.ndarray:
    """A number for each cell of a matrix, int64."""
    return row.astype(np.int64) * n_columns + column


def _looked_up(asked: np.ndarray, keys: np.ndarray, columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The value of each column at the keys that are asked for, 0 where a key is not there; `keys` are sorted."""
    place = np.searchsorted(keys, asked)
    known = np.append(keys, -1)[place] == asked
    return [np.where(known, np.append(column, 0)[place], 0) for column in columns]


def _places(row: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The place of each score within its row, the best is 0; `row` is sorted."""
    order = np.lexsort((-score, row))
    start = np.searchsorted(row, row)
    place = np.empty(len(row), dtype=np.int64)
    place[order] = np.arange(len(row))
    return place - start


def _of_users(histories: Histories) -> np.ndarray:
    """The features OF_USER, float64 of shape (n, 5)."""
    n_steps = np.diff(histories.indptr)
    row, n = histories.row, len(histories)
    own = np.unique(_keys(row, histories.item, histories.n_items)) // max(1, histories.n_items)
    n_items = np.bincount(own, minlength=n)
    known = n_steps > 0
    at = np.append(histories.at, 0)
    first, last = at[histories.indptr[:-1]], at[histories.indptr[1:] - 1]
    later = np.flatnonzero((np.diff(histories.at, prepend=0) > 0) & (np.diff(row, prepend=-1) == 0))
    n_gaps = np.bincount(row[later], minlength=n)
    missing = np.full(n, np.nan)
    timed = known & (histories.now > 0)
    columns = (
        n_steps,
        n_items,
        np.where(timed, (histories.now - last) / DAY_SECONDS, missing),
        np.where(n_gaps > 0, (last - first) / DAY_SECONDS / np.maximum(n_gaps, 1), missing),
        np.where(known, 1 - n_items / np.maximum(n_steps, 1), missing),
    )
    return np.column_stack(columns)


def _of_items(interactions: Interactions, window_days: float) -> np.ndarray:
    """The features OF_ITEM, float32 of shape (n_items, 5)."""
    n_items, newest = len(interactions.items), interactions.at.max()
    recent = interactions.at > newest - window_days * DAY_SECONDS
    count = np.bincount(interactions.item, minlength=n_items)
    share = count / count.sum()
    recent_count = np.bincount(interactions.item[recent], minlength=n_items)
    recent_share = recent_count / recent_count.sum()
    least = 1 / count.sum()
    first = np.full(n_items, newest + 1)
    np.minimum.at(first, interactions.item, interactions.at)
    columns = (
        share,
        recent_share,
        np.log((recent_share + least) / (share + least)),
        np.where(count > 0, (newest - first) / DAY_SECONDS, np.nan),
        _usual_gaps(interactions),
    )
    return np.column_stack(columns).astype(np.float32)


def _usual_gaps(interactions: Interactions) -> np.ndarray:
    """Days between two times that a person took the item: a mean, shrunk to that of all items; NaN without any."""
    n_items = len(interactions.items)
    keys = _keys(interactions.user, interactions.item, n_items)
    order = np.lexsort((interactions.at, keys))
    gap = np.diff(interactions.at[order])
    again = (np.diff(keys[order]) == 0) & (gap > 0)
    item, days = interactions.item[order][1:][again], gap[again] / DAY_SECONDS
    if not len(days):
        return np.full(n_items, np.nan)
    total, count = np.bincount(item, days, n_items), np.bincount(item, minlength=n_items)
    return (total + GAP_PRIOR * days.mean()) / (count + GAP_PRIOR)


def _categories(interactions: Interactions) -> np.ndarray:
    """A code for each item's longest `category=` attribute, int32 of shape (n_items,); -1 where it has none."""
    found = np.full(len(interactions.items), -1, dtype=np.int32)
    if interactions.attributes is None:
        return found
    names = interactions.attributes.names
    columns = sorted((len(name), code) for code, name in enumerate(names) if name.startswith("category="))
    has = sparse.csc_matrix(interactions.attributes.matrix)
    for _, code in columns:  # of a path and its beginnings the longest comes last
        found[has.indices[has.indptr[code] : has.indptr[code + 1]]] = code
    return found
