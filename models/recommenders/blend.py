"""Several recommenders as one: their scores, put on one scale and added up with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from data.errors import DataError
from data.histories import Histories
from models.recommenders.base import Groups, Recommender
from models.recommenders.composite import Composite, Member, standardised

DEFAULT_MEMBERS: tuple[Member, ...] = ({"model": "repeat"}, {"model": "item_neighbours"}, {"model": "popularity"})
DEFAULT_WEIGHTS = (1.0, 0.1, 0.1)
"""On earlier periods of two shops and of ratings: no worse than its best member where things are taken again, and
near it where only new ones are shown. A search finds better ones for a shop."""
CAUTION = 0.7
"""What attributes tell of a new item is nearer to the middle than what people will do with it."""


class Blend(Composite):
    """score = sum_m w_m z_m, where z_m are the standardised scores of member m (see `standardised`).

    CombSUM over standardised scores (Fox and Shaw 1994, "Combination of multiple searches"; standardisation as in
    Montague and Aslam 2001, "Relevance score normalization for metasearch", "ZMUV"). An item of which no member
    says anything is not ranked.

    Of items that nobody took yet most members know nothing, and nothing said would always leave them last. So they
    have the score of the members that tell of them (`serves_cold_items`), for all members and with some caution:
    score_new = CAUTION (sum_m w_m / sum_t w_t) sum_t w_t z_t over the telling members t.

    Costs what its members cost. Reasons are exact, by leaving out each item of the history in turn.

    Example:
        >>> import pandas as pd
        >>> from data.histories import Step
        >>> from data.interactions import Interactions
        >>> taken = Interactions.from_frame(pd.DataFrame({"user_id": list("aabbcde"), "item_id": list("xyxyzzz")}))
        >>> both = [{"model": "popularity"}, {"model": "item_neighbours", "params": {"similarity": "cosine"}}]
        >>> model = Blend(members=both, weights=[1.0, 3.0]).fit(taken)
        >>> asked = Histories.of_steps(model.items, [[], [Step("x")]])
        >>> [model.items.ids(row) for row in model.recommend(asked, 1).items]
        [['z'], ['y']]
    """

    name = "blend"

    def __init__(
        self,
        *,
        members: Sequence[Member] = DEFAULT_MEMBERS,
        weights: Sequence[float] = DEFAULT_WEIGHTS,
        seed: int = 0,
    ) -> None:
        super().__init__(members=members, seed=seed)
        self.weights = [float(weight) for weight in weights]
        if len(self.weights) != len(self.members) or not np.isfinite(self.weights).all() or not any(self.weights):
            raise DataError(f"weights are {self.weights}; give a finite number to each of {len(self.members)} members.")

    @classmethod
    def of(cls, fitted: Sequence[Recommender], weights: Sequence[float]) -> Self:
        """A blend of models that have learnt already, of the same items.

        Raises:
            DataError: the models do not know the same items, or the weights are not theirs.
            NotFittedError: one has not learnt yet.
        """
        for part in fitted:
            part._check_fitted()
            if part.items != fitted[0].items:
                raise DataError(
                    f"{part.name} knows other items ({part.items}) than {fitted[0].name} ({fitted[0].items}). "
                    "Fit them on interactions with the same `items`."
                )
        blend = cls(members=[{"model": part.name, "params": part.params} for part in fitted], weights=weights)
        blend.items = fitted[0].items
        blend._take(list(fitted))
        return blend

    def _score(self, histories: Histories, groups: Groups | None) -> np.ndarray:
        said = self._said(histories, groups)
        standard = [standardised(scores) for scores in said]
        total = self._added(said, standard)
        telling = [m for m, part in enumerate(self.parts) if part.serves_cold_items and self.weights[m] > 0]
        if telling:
            new = np.asarray(self.parts[telling[0]].new_items)
            told = self._added([scores[:, new] for scores in said], [scores[:, new] for scores in standard], telling)
            told *= np.float32(CAUTION * sum(self.weights) / sum(self.weights[m] for m in telling))
            total[:, new] = np.where(np.isfinite(told), told, total[:, new])
        return total
