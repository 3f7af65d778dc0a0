"""What people did up to the last check: arrays built once from the checked tables, a slice per person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from data.errors import DataError
from data.histories import Histories
from data.interactions import Interactions
from data.settings import Recommender
from data.state.reads import Watermarks
from data.tables import Tables
from data.vocabulary import Vocabulary
from features.interactions import interactions
from features.items import category_of
from features.snapshots import span
from models.recommenders.popularity import Popularity
from serving.complements import Complements

SEGMENT = "user."
"""How the names of segments begin."""


@dataclass(frozen=True, eq=False)
class Past:
    """Histories by user, what was popular, and what was bought together.

    Attributes:
        users: Ids of the rows.
        items: Ids of the item codes.
        histories: A row per user; weights have decayed to the end of the tables.
        popular: Windowed popularity, overall, by category and by the users' attributes (see `segment`), guests' orders
            included: answers strangers, and everybody when there is no model.
        complements: What goes with a cart, guests' orders included.
        until: Which of the state's rows are in here.
    """

    users: Vocabulary
    items: Vocabulary
    histories: Histories
    popular: Popularity | None
    complements: Complements | None
    until: Watermarks

    @classmethod
    def of(cls, tables: Tables | None, settings: Recommender, *, attributes: Sequence[str] = ()) -> Past:
        """The past as the checked tables tell it; none if there are no tables or nobody touched an item.

        Args:
            tables: Checked.
            settings: What counts as interest.
            attributes: Columns of `users` by whose values popularity is told too; those that are no text are not.
        """
        nobody = Vocabulary([])
        empty = cls(nobody, nobody, Histories.of_steps(nobody, []), None, None, Watermarks())
        if tables is None:
            return empty
        try:
            cutoff = span(tables).end
            known, guests = (_found(tables, settings, cutoff, guests=guests) for guests in (False, True))
            everybody = _joined(known, guests)
        except DataError:
            return empty
        groups = category_of(tables, cutoff=cutoff, items=everybody.items)
        return cls(
            users=known.users,
            items=everybody.items,
            histories=Histories.from_interactions(everybody, users=np.arange(len(known.users))),
            popular=Popularity().fit(
                everybody, item_groups=groups, user_groups=_segments(tables, cutoff, everybody.users, attributes)
            ),
            complements=Complements.of(everybody),
            until=Watermarks.of(tables),
        )

    def of_user(self, user_id: str) -> Histories | None:
        """One user's row; None for one who is not known. A view, whose cost does not grow with the number of users."""
        row = self.users.code(user_id)
        if row < 0:
            return None
        every = self.histories
        begin, end = every.indptr[row : row + 2]
        steps = slice(begin, end)
        return replace(
            every,
            indptr=np.array([0, end - begin]),
            item=every.item[steps],
            weight=every.weight[steps],
            at=every.at[steps],  # noqa: PD008 - an array
            kind=every.kind[steps],
            now=every.now[row : row + 1],
        )

    def alike(self, item_id: str, allowed: np.ndarray) -> list[tuple[str, float]]:
        """Items that the same people touched, by cosine of their weights, best first; `allowed` is bool (n_items,)."""
        code = self.items.code(item_id)
        if code < 0:
            return []
        together = (self._by_item[code] @ self.histories.matrix).tocoo()
        norms = self._norms
        cosine = together.data / (norms[code] * norms[together.col])
        order = np.lexsort((together.col, -cosine))
        found = [(int(together.col[i]), float(cosine[i])) for i in order if allowed[together.col[i]]]
        return list(zip(self.items.ids([c for c, _ in found]), (s for _, s in found), strict=True))

    @cached_property
    def _by_item(self) -> sparse.csr_matrix:
        """Summed weights, shape (n_items, n_users)."""
        return self.histories.matrix.T.tocsr()

    @cached_property
    def _norms(self) -> np.ndarray:
        """Length of each item's column, shape (n_items,)."""
        weights = self.histories.matrix
        return np.sqrt(np.asarray(weights.multiply(weights).sum(axis=0)).ravel())


def segment(attribute: str, value: str) -> str:
    """What popularity calls the users who have a value of an attribute; no category is called so.

    Example:
        >>> segment("country", "DE")
        'user.country=DE'
    """
    return f"{SEGMENT}{attribute}={value}"


def _segments(tables: Tables, cutoff: datetime, users: Vocabulary, attributes: Sequence[str]) -> list[tuple[str, ...]]:
    """The segments that each user is in."""
    known = tables.as_of(cutoff)["users"]
    names = [name for name in attributes if name in known.columns and known[name].type().is_string()]
    found: list[tuple[str, ...]] = [()] * len(users)
    rows = known.select("user_id", *names).execute().astype(object)
    for code, *values in zip(users.codes(rows.pop("user_id")), *(rows[name] for name in names), strict=True):
        if code >= 0:
            told = zip(names, values, strict=True)
            found[code] = tuple(segment(name, value) for name, value in told if isinstance(value, str) and value)
    return found


def _found(tables: Tables, settings: Recommender, cutoff: datetime, *, guests: bool) -> Interactions:
    """What known people did, or what guests bought; nothing if there are none such."""
    try:
        return interactions(tables, settings, cutoff=cutoff, guests=guests)
    except DataError:
        return Interactions.from_frame(pd.DataFrame({"user_id": [], "item_id": []}))


def _joined(known: Interactions, guests: Interactions) -> Interactions:
    """All of it, in one catalogue; the codes of known people stay.

    Raises:
        DataError: there is nothing.
    """
    if not len(known) + len(guests):
        raise DataError("Nobody touched an item.")
    parts = (known, guests)
    items = Vocabulary(sorted({*known.items.all_ids, *guests.items.all_ids}))
    kinds = tuple(dict.fromkeys((*known.kinds, *guests.kinds)))
    item = [items.codes(part.items.all_ids)[part.item].astype(np.int32) for part in parts]
    kind = [np.array([kinds.index(name) for name in part.kinds], np.int16)[part.kind] for part in parts]
    return Interactions(
        users=Vocabulary([*known.users.all_ids, *guests.users.all_ids]),
        items=items,
        user=np.concatenate([known.user, guests.user + np.int32(len(known.users))]),
        item=np.concatenate(item),
        weight=np.concatenate([known.weight, guests.weight]),
        at=np.concatenate([known.at, guests.at]),
        kind=np.concatenate(kind),
        kinds=kinds,
    )
