"""Who touched what, how strongly and when: the recommenders' input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from data.errors import DataError
from data.vocabulary import Vocabulary

INTERACTION = "interaction"
"""The kind of what is told without one."""
CATEGORY = "category="
"""How the names of attributes begin that are an item's category, or the beginning of its path."""


@dataclass(frozen=True, eq=False)
class Attributes:
    """What is known of items: which attributes each has.

    Attributes:
        names: Of the columns, such as `category=tea`, `brand=acme` or `word=green`.
        matrix: Strength, shape (n_items, n_attributes), float32.
    """

    names: tuple[str, ...]
    matrix: sparse.csr_matrix


@dataclass(frozen=True, eq=False)
class Interactions:
    """Weighted, timed interactions of users with items, sorted by user and then by time.

    Attributes:
        users: Ids of the rows.
        items: Ids of the columns; those that nobody touched yet may be among them.
        user: Codes, int32 of shape (n,).
        item: Codes, int32 of shape (n,).
        weight: Strength of interest, float32 of shape (n,), positive and finite.
        at: Seconds since 1970 UTC, int64 of shape (n,).
        kind: Codes of `kinds`, int16 of shape (n,).
        kinds: Names of the kinds of events ('order' for an order line).
        attributes: What is known of the items; None where nothing is.
    """

    users: Vocabulary
    items: Vocabulary
    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...] = (INTERACTION,)
    attributes: Attributes | None = None

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, users: Vocabulary | None = None, items: Vocabulary | None = None
    ) -> Interactions:
        """Interactions from columns `user_id, item_id` and optionally `weight`, `at` (seconds since 1970) and `kind`.

        Given vocabularies fix the codes; rows with ids outside them are left out. Without them the ids found
        are taken in sorted order, so the same data gives the same codes.

        Raises:
            DataError: an interaction without a user or an item, or with a weight that is no positive finite number.

        Example:
            >>> found = Interactions.from_frame(pd.DataFrame({"user_id": ["b", "a"], "item_id": ["x", "x"]}))
            >>> found.matrix.shape
            (2, 1)
        """
        for column in ("user_id", "item_id"):
            if frame[column].isna().any():
                raise DataError(f"{column}: {int(frame[column].isna().sum())} interactions have none. Leave them out.")
        user_ids = frame["user_id"].astype(str).to_numpy(dtype=object)
        item_ids = frame["item_id"].astype(str).to_numpy(dtype=object)
        users = Vocabulary(sorted(set(user_ids))) if users is None else users
        items = Vocabulary(sorted(set(item_ids))) if items is None else items
        user, item = users.codes(user_ids), items.codes(item_ids)
        weight = frame["weight"].to_numpy(np.float32) if "weight" in frame else np.ones(len(frame), np.float32)
        at = frame["at"].to_numpy(np.int64) if "at" in frame else np.zeros(len(frame), np.int64)
        named = frame["kind"] if "kind" in frame else np.full(len(frame), INTERACTION, dtype=object)
        kinds, kind = np.unique(np.asarray(named, dtype=str), return_inverse=True)
        bad = ~(np.isfinite(weight) & (weight > 0))
        if bad.any():
            raise DataError(
                f"weight: {int(bad.sum())} of {len(frame)} interactions have no positive finite weight "
                f"(first: {weight[bad][0]}). Leave them out, or mend recommender.event_weights."
            )
        kept = np.flatnonzero((user >= 0) & (item >= 0))
        order = kept[np.lexsort((item[kept], at[kept], user[kept]))]
        return cls(
            users=users,
            items=items,
            user=user[order].astype(np.int32),
            item=item[order].astype(np.int32),
            weight=weight[order],
            at=at[order],
            kind=kind[order].astype(np.int16),
            kinds=tuple(kinds.tolist()) or (INTERACTION,),
        )

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """Summed weights, shape (n_users, n_items), float32."""
        shape = (len(self.users), len(self.items))
        matrix = sparse.csr_matrix((self.weight, (self.user, self.item)), shape=shape, dtype=np.float32)
        matrix.sum_duplicates()
        return matrix

    def where(self, mask: np.ndarray) -> Interactions:
        """The interactions for which `mask`, bool of shape (n,), is true; the vocabularies stay."""
        return replace(
            self,
            user=self.user[mask],
            item=self.item[mask],
            weight=self.weight[mask],
            at=self.at[mask],
            kind=self.kind[mask],
        )

    def before(self, moment: int) -> Interactions:
        """What happened before `moment` (seconds since 1970)."""
        return self.where(self.at < moment)

    def since(self, moment: int) -> Interactions:
        """What happened at or after `moment` (seconds since 1970)."""
        return self.where(self.at >= moment)
