"""What each person did with items, in the order of time: what a recommender is asked about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from data.interactions import INTERACTION, Interactions
from data.vocabulary import Vocabulary


class Step(NamedTuple):
    """One thing that somebody did with an item.

    Attributes:
        item_id: The item.
        weight: Strength of interest.
        at: Seconds since 1970 UTC.
        kind: The event's name, or 'order'.
    """

    item_id: str
    weight: float = 1.0
    at: int = 0
    kind: str = INTERACTION


@dataclass(frozen=True, eq=False)
class Histories:
    """Ragged rows of what people did, each row in the order of time. Row r is the part indptr[r]:indptr[r + 1].

    Attributes:
        n_items: Items in the catalogue that the codes belong to.
        indptr: int64 of shape (n + 1,).
        item: Codes, int32 of shape (m,).
        weight: Strength of interest, float32 of shape (m,).
        at: Seconds since 1970 UTC, int64 of shape (m,); 0 where times are not known.
        kind: Codes of `kinds`, int16 of shape (m,).
        kinds: Names of the kinds of events.
        now: When each row is asked about, seconds since 1970 UTC, int64 of shape (n,); nothing in the row is later.
    """

    n_items: int
    indptr: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    at: np.ndarray
    kind: np.ndarray
    kinds: tuple[str, ...]
    now: np.ndarray

    @classmethod
    def from_interactions(cls, known: Interactions, *, users: np.ndarray | None = None, now: int | None = None) -> Self:
        """The rows of some users' codes (-1 for a stranger), by default of all users in their order.

        Args:
            known: What happened before `now`.
            users: Codes, int of shape (n,).
            now: The moment asked at; by default that of each row's last interaction.
        """
        users = np.arange(len(known.users)) if users is None else np.asarray(users)
        begin = np.searchsorted(known.user, users)
        length = np.where(users < 0, 0, np.searchsorted(known.user, users, side="right") - begin)
        indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        taken = np.repeat(begin - indptr[:-1], length) + np.arange(indptr[-1])
        at = known.at[taken]
        last = np.where(length > 0, np.append(at, 0)[indptr[1:] - 1], 0)
        return cls(
            n_items=len(known.items),
            indptr=indptr,
            item=known.item[taken],
            weight=known.weight[taken],
            at=at,
            kind=known.kind[taken],
            kinds=known.kinds,
            now=last if now is None else np.full(len(users), now, np.int64),
        )

    @classmethod
    def from_matrix(cls, matrix: sparse.csr_matrix) -> Self:
        """Rows of weights, shape (n, n_items), without times: the order within a row is that of the columns."""
        matrix = sparse.csr_matrix(matrix)
        return cls(
            n_items=matrix.shape[1],
            indptr=matrix.indptr.astype(np.int64),
            item=matrix.indices.astype(np.int32),
            weight=matrix.data.astype(np.float32),
            at=np.zeros(matrix.nnz, np.int64),
            kind=np.zeros(matrix.nnz, np.int16),
            kinds=(INTERACTION,),
            now=np.zeros(matrix.shape[0], np.int64),
        )

    @classmethod
    def of_steps(cls, items: Vocabulary, rows: Iterable[Sequence[Step]], *, now: Sequence[int] | int = 0) -> Self:
        """Rows of steps in any order, by item id; unknown items are left out.

        Example:
            >>> found = Histories.of_steps(Vocabulary(["tea", "cup"]), [[Step("cup", at=9), Step("tea", at=5)], []])
            >>> found.item.tolist(), found.indptr.tolist()
            ([0, 1], [0, 2, 2])
        """
        lists = [sorted((s for s in row if items.code(s.item_id) >= 0), key=lambda step: step.at) for row in rows]
        steps = [step for row in lists for step in row]
        kinds = tuple(dict.fromkeys(step.kind for step in steps))
        return cls(
            n_items=len(items),
            indptr=np.cumsum([0, *map(len, lists)], dtype=np.int64),
            item=np.array([items.code(step.item_id) for step in steps], np.int32),
            weight=np.array([step.weight for step in steps], np.float32),
            at=np.array([step.at for step in steps], np.int64),
            kind=np.array([kinds.index(step.kind) for step in steps], np.int16),
            kinds=kinds,
            now=np.full(len(lists), now, np.int64),
        )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, rows: slice | np.ndarray) -> Histories:
        """Some of the rows: a slice, or codes or a mask of shape (n,)."""
        chosen = np.arange(len(self))[rows]
        length = np.diff(self.indptr)[chosen]
        indptr = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        taken = np.repeat(self.indptr[chosen] - indptr[:-1], length) + np.arange(indptr[-1])
        return replace(self._of(taken), indptr=indptr, now=self.now[chosen])

    @property
    def row(self) -> np.ndarray:
        """The row of every step, int64 of shape (m,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """Summed weights, shape (n, n_items), float32."""
        matrix = sparse.csr_matrix(
            (self.weight, self.item, self.indptr), shape=(len(self), self.n_items), dtype=np.float32, copy=True
        )
        matrix.sum_duplicates()
        return matrix

    def where(self, kept: np.ndarray) -> Histories:
        """The steps for which `kept`, bool of shape (m,), is true; every row stays."""
        if kept.all():
            return self
        ends = np.concatenate([[0], np.cumsum(kept)])
        return replace(self._of(np.flatnonzero(kept)), indptr=ends[self.indptr])

    def recoded(self, codes: np.ndarray, n_items: int) -> Histories:
        """The same in another catalogue: item i is there `codes[i]`, or unknown (-1) and left out."""
        item = codes[self.item] if len(codes) else self.item
        known = self.where(item >= 0)
        return replace(known, n_items=n_items, item=item[item >= 0].astype(np.int32))

    def without_each(self) -> Histories:
        """Of one row: as many rows as it has distinct items, each without one of them, in order of their codes."""
        distinct = np.unique(self.item)
        copies = self[np.zeros(len(distinct), dtype=np.int64)]
        return copies.where(copies.item != np.repeat(distinct, len(self.item)))

    def _of(self, taken: np.ndarray) -> Histories:
        """With other steps; `indptr` is not theirs yet."""
        return replace(self, item=self.item[taken], weight=self.weight[taken], at=self.at[taken], kind=self.kind[taken])
