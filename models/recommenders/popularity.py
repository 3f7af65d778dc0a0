"""What many took lately: overall, and within a segment of users or a category of items. The serving fallback."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from data.errors import DataError
from data.histories import Histories
from data.interactions import CATEGORY, Interactions
from models.recommenders.base import Groups, Recommender

DAY_SECONDS = 86_400
LIFE_PRIOR = 1e-3
"""The weight of all time beside the window's: enough to order what the window does not hold."""
GROUP_PRIOR = 100.0
"""A group's shares lean on everybody's as if so much further weight had been seen: small groups lean most."""


class Popularity(Recommender):
    """Share of the weight of the last `window_days` before the newest interaction, decayed by age.

    Of what one person did with an item only the strongest counts: what is popular is what many took, and neither a
    program that views a page ten thousand times nor one who buys the same every day makes it so.
    Items that nobody touched within the window come last, by their share of all time. Within a group (a segment of
    users, or a category such as `category=tea`) the share is shrunk towards everybody's,
    p(i|g) = (n_gi + m p_i) / (n_g + m): the mean of a Dirichlet posterior. Who belongs to several segments S (a
    country, a channel) and looks at a category c gets ~ p(i|c) prod_S (p(i|s) / p_i)^(1/|S|): opinions on one person
    are pooled by their geometric mean (Genest and Zidek 1986, "Combining probability distributions"), because segments
    overlap, and their product would count what they share twice.
    Weights that were decayed before are decayed further.

    Serves strangers. Knows nothing of the person; hard to beat where catalogues turn over fast.

    Example:
        >>> import pandas as pd
        >>> taken = Interactions.from_frame(pd.DataFrame({"user_id": ["a", "b", "b"], "item_id": ["x", "x", "y"]}))
        >>> model = Popularity().fit(taken)
        >>> model.items.ids(model.recommend(sparse.csr_matrix((1, 2)), 2).items[0])
        ['x', 'y']
    """

    name = "popularity"
    serves_cold_users = True
    _arrays: ClassVar[tuple[str, ...]] = ("overall", "indptr", "indices", "data")
    _values: ClassVar[tuple[str, ...]] = ("groups",)

    overall: np.ndarray
    """Everybody's shares p, float32 of shape (n_items,)."""
    groups: list[str]
    """The segments and categories; row g of the sparse (indptr, indices, data) holds their weights n_gi."""
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    def __init__(self, *, window_days: float = 30, half_life_days: float = 14) -> None:
        self.window_days = window_days
        self.half_life_days = half_life_days

    def fit(
        self,
        interactions: Interactions,
        *,
        checkpoint: Path | None = None,
        user_groups: Groups | None = None,
        item_groups: Groups | None = None,
    ) -> Self:
        """Learn everybody's taste, each segment's, and what is popular in each category of the items' attributes.

        Args:
            interactions: Who touched what, when.
            checkpoint: Learning takes too short for one.
            user_groups: A segment (or several, or None) for each user code; popularity among these users.
            item_groups: A category (or several, or None) for each item code, each named `category=...`; popularity
                among these items. By default the categories that the items' attributes tell, each beginning of a
                path too.

        Raises:
            DataError: no interactions, a wrong number of names, or a segment named like a category.
        """
        super().fit(interactions, checkpoint=checkpoint)
        recent = self._recent(interactions)
        segments, by_segment = _by_group(user_groups, interactions.user, len(interactions.users), interactions, recent)
        if item_groups is None:
            categories, by_category = _by_category(interactions, recent)
        else:
            categories, by_category = _by_group(item_groups, interactions.item, len(self.items), interactions, recent)
        if shared := set(segments) & set(categories):
            raise DataError(f"{min(shared)!r} is a segment and a category. Prefix one of them.")
        self.groups = segments + categories
        weights = sparse.vstack([by_segment, by_category], format="csr", dtype=np.float32)
        self.indptr, self.indices, self.data = weights.indptr, weights.indices, weights.data
        self.__dict__.pop("_row_of", None)
        return self

    def _fit(self, interactions: Interactions) -> None:
        n_items = len(self.items)
        recent = self._recent(interactions)
        life = np.bincount(interactions.item, _strongest(interactions, interactions.weight), n_items)
        counts = np.bincount(interactions.item, recent, n_items)
        self.overall = _shrunk(counts, life / life.sum(), LIFE_PRIOR * recent.sum()).astype(np.float32)

    def _recent(self, interactions: Interactions) -> np.ndarray:
        """Weights, decayed by their age, 0 outside the window and but for each person's strongest of an item."""
        age_days = (interactions.at.max() - interactions.at) / DAY_SECONDS
        decayed = interactions.weight * np.exp2(-age_days / self.half_life_days)
        return _strongest(interactions, np.where(age_days <= self.window_days, decayed, 0))

    def _score(self, histories: Histories, groups: Groups | None) -> np.ndarray:
        scores = np.tile(self.overall, (len(histories), 1))
        for score, names in zip(scores, groups or (), strict=False):
            known = [self._row_of[name] for name in _several(names) if name in self._row_of]
            categories = [row for row in known if self.groups[row].startswith(CATEGORY)]
            for rows in (categories, [row for row in known if row not in categories]):
                for row in rows:
                    self._lift(score, row, 1 / len(rows))
            if known:
                np.divide(score, score.sum(), out=score)
        return scores

    def _lift(self, score: np.ndarray, row: int, power: float) -> None:
        """Times (p(i|g) / p_i) ** power, but for what is the same for all items, so that the group's alone are read."""
        own = slice(*self.indptr[row : row + 2])
        items = self.indices[own]
        score[items] *= (1 + self.data[own] / (GROUP_PRIOR * self.overall[items])) ** power

    def knows(self, group: str | None) -> bool:
        """As `Recommender.knows`."""
        return group in self._row_of

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.groups)}

    def _drops(self, history: Histories, codes: np.ndarray) -> np.ndarray:
        return np.zeros((len(codes), len(np.unique(history.item))))


def _strongest(interactions: Interactions, weight: np.ndarray) -> np.ndarray:
    """The weights, each person's of an item but the greatest set to 0."""
    order = np.lexsort((-weight, interactions.item, interactions.user))
    user, item = interactions.user[order], interactions.item[order]
    further = order[1:][(user[1:] == user[:-1]) & (item[1:] == item[:-1])]
    kept = weight.copy()
    kept[further] = 0
    return kept


def _shrunk(counts: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """Shares of each row of `counts`, shrunk towards the shares `prior` by a weight of `strength`."""
    shares: np.ndarray = (counts + strength * prior) / (counts.sum(axis=-1, keepdims=True) + strength)
    return shares


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


def _by_group(
    names: Groups | None, member: np.ndarray, n_members: int, interactions: Interactions, weight: np.ndarray
) -> tuple[list[str], sparse.csr_matrix]:
    """The distinct names in order, and each one's weight of every item; `names` is by the codes in `member`."""
    named = [set(_several(own)) for own in ([None] * n_members if names is None else names)]
    if len(named) != n_members:
        raise DataError(f"there are {len(named)} group names for {n_members} codes; give one (or None) for each.")
    groups = sorted(set().union(*named))
    row_of = {name: row for row, name in enumerate(groups)}
    cells = [(row_of[name], code) for code, own in enumerate(named) for name in own]
    rows, codes = np.array(cells, dtype=np.int64).reshape(-1, 2).T
    belongs = sparse.csr_matrix((np.ones(len(cells)), (rows, codes)), shape=(len(groups), n_members))
    shape = (n_members, len(interactions.items))
    weights = belongs @ sparse.csr_matrix((weight, (member, interactions.item)), shape=shape)
    weights.eliminate_zeros()
    return groups, weights


def _by_category(interactions: Interactions, weight: np.ndarray) -> tuple[list[str], sparse.csr_matrix]:
    """The categories in order, and the weight of each one's items."""
    n_items, attributes = len(interactions.items), interactions.attributes
    if attributes is None:
        return [], sparse.csr_matrix((0, n_items))
    columns = [column for column, name in enumerate(attributes.names) if name.startswith(CATEGORY)]
    members = attributes.matrix[:, columns].astype(bool)
    weights = members.T.multiply(np.bincount(interactions.item, weight, n_items)).tocsr()
    weights.eliminate_zeros()
    return [attributes.names[column] for column in columns], weights
