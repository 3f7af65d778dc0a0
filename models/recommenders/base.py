"""What every recommender is: sparse histories in, the best items out, and nobody inside the model."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from data.errors import DataError, ModelFileError
from data.files import replacing
from data.histories import Histories
from data.interactions import Interactions
from data.vocabulary import Vocabulary
from models.fitted import Fitted

BLOCK_CELLS = 2**22
"""Users x items that are scored at once: bounds the memory of `recommend` to about 100 MB."""

BLOCKS_PER_PLACE = 4
"""So many blocks for each of the k best: with more of them fewer columns are sorted that are not among the best."""

LOWEST = np.finfo(np.float32).min

Groups = Sequence[str | tuple[str, ...] | None]
"""Of each row (or user, or item) the name of its group, the names of all that it belongs to, or None."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of each row, best first; equal scores are in the order of their codes.

    Attributes:
        items: Codes, int32 of shape (n, k); -1 at the end of a row where there is nothing more to say.
        scores: float32 of shape (n, k), NaN where `items` is -1. Comparable within a row only.
    """

    items: np.ndarray
    scores: np.ndarray


class Recommender(Fitted, ABC):
    """Base of the recommenders. Public methods validate; `_fit`, `_score`, `_similar` and `_drops` compute.

    Hyperparameters are keyword-only arguments of `__init__`, kept under their own names. Learnt state is
    numpy arrays under the names in `_arrays` and JSON values under those in `_values`.

    Attributes:
        name: What the model is called in `MODELS`, in files and in reports.
        serves_cold_users: Whether an empty history gets a ranking; if not, its row is all -1.
        serves_cold_items: Whether items that nobody took are ranked by what is known of them.
        few_cost_less: Whether the best few are told sooner than many.
        new_items: The codes of those items, of a model that ranks them.
        items: The ids of the item codes, known once fitted.
    """

    _answers_from = "items"
    name: ClassVar[str]
    serves_cold_users: bool = False
    serves_cold_items: ClassVar[bool] = False
    few_cost_less: ClassVar[bool] = False
    _arrays: ClassVar[tuple[str, ...]] = ()
    _values: ClassVar[tuple[str, ...]] = ()

    items: Vocabulary
    _checkpoint: Path | None = None
    new_items: np.ndarray

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(self, interactions: Interactions, *, checkpoint: Path | None = None) -> Self:
        """Learn from interactions; a second fit forgets the first.

        Args:
            interactions: Who did what, when.
            checkpoint: A file that models which learn for long write now and then and go on from, if it is there and
                of the same data and hyperparameters; it is gone at the end.

        Raises:
            DataError: there are no interactions.
        """
        if not len(interactions):
            raise DataError(
                f"{self.name}: there are no interactions to learn from. "
                "Choose a later cutoff, or import events or orders with an item_id and a user_id."
            )
        self.items = interactions.items
        self._checkpoint = checkpoint
        self._fit(interactions)
        return self

    def recommend(
        self,
        histories: Histories | sparse.csr_matrix,
        k: int,
        *,
        exclude_seen: bool = True,
        allowed: np.ndarray | None = None,
        groups: Groups | None = None,
    ) -> Ranking:
        """The k best items for each history, scored in blocks so that memory stays bounded.

        Args:
            histories: What each user did, or only its weights, shape (n_users, n_items), for models that need
                no order. Weights that are not positive and finite are as good as absent. A row without any is
                a stranger.
            k: How many; more than the catalogue holds is fine, the rest is -1.
            exclude_seen: Leave out what is in the user's history.
            allowed: bool of shape (n_items,); only these may be recommended.
            groups: A segment or category per user, several, or None, for models that know groups; others ignore it.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: a shape does not fit the catalogue; k is below 1.
        """
        histories = self._clean(histories)
        n_users, n_items = len(histories), histories.n_items
        if k < 1:
            raise DataError(f"k is {k}; ask for at least one item.")
        if allowed is not None and (allowed.shape != (n_items,) or allowed.dtype != np.bool_):
            raise DataError(f"allowed is {allowed.dtype} of shape {allowed.shape}; give bool of shape ({n_items},).")
        if groups is not None and len(groups) != n_users:
            raise DataError(f"groups has {len(groups)} names; give one (or None) for each of {n_users} users.")

        items = np.full((n_users, k), -1, dtype=np.int32)
        scores = np.full((n_users, k), np.nan, dtype=np.float32)
        rows = max(1, BLOCK_CELLS // max(1, n_items))
        for start in range(0, n_users, rows):
            block = slice(start, start + rows)
            known = histories[block] if n_users > rows else histories
            of = None if groups is None else groups[block]
            best = self._best(known, of, k, allowed=allowed, exclude_seen=exclude_seen)
            items[block], scores[block] = best.items, best.scores
        return Ranking(items, scores)

    def scores(self, histories: Histories | sparse.csr_matrix) -> np.ndarray:
        """What `recommend` ranks by: every item's score for each history, all at once, float32 (n_users, n_items).

        -inf or NaN where the model has nothing to say.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: the histories are of another catalogue.
        """
        return self._scored(self._clean(histories), None)

    def similar(self, item_codes: Sequence[int] | np.ndarray, k: int) -> Ranking:
        """The k items most like each of `item_codes`, itself left out; all -1 for an unknown item (code -1).

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: k is below 1, or a code is outside the catalogue.
        """
        codes = self._known_codes(item_codes)
        if k < 1:
            raise DataError(f"k is {k}; ask for at least one item.")
        score = np.full((len(codes), len(self.items)), -np.inf, dtype=np.float32)
        known = np.flatnonzero(codes >= 0)
        if len(known):
            score[known] = self._similar(codes[known])
            score[known, codes[known]] = -np.inf
        return top_k(score, k)

    def reasons(self, history: Histories | sparse.csr_matrix, item_codes: Sequence[int] | np.ndarray) -> np.ndarray:
        """For each item the history item without which its score would fall most, int64 of shape (n,).

        -1 where no history item holds the score up (a popular item, say).

        Args:
            history: Of one user.
            item_codes: The recommended items.

        Raises:
            NotFittedError: `fit` or `load` comes first.
            DataError: more than one history, or a code outside the catalogue.
        """
        history = self._clean(history)
        if len(history) != 1:
            raise DataError(f"history has {len(history)} rows; reasons are for one user at a time.")
        codes = self._known_codes(item_codes)
        reasons = np.full(len(codes), -1, dtype=np.int64)
        asked = np.flatnonzero(codes >= 0)
        if len(history.item) and len(asked):
            drops = self._drops(history, codes[asked])
            strongest = np.unique(history.item)[drops.argmax(axis=1)]
            reasons[asked] = np.where(drops.max(axis=1) > 0, strongest, -1)
        return reasons

    def knows(self, group: str | None) -> bool:  # noqa: ARG002 - most know no groups
        """Whether scores are others for those who are told to be of this segment or category."""
        return False

    def save(self, folder: Path) -> None:
        """Write `model.json`, the item ids and one npy file per array; the folder appears whole or not at all.

        Raises:
            NotFittedError: there is nothing to save yet.
        """
        self._check_fitted()
        about = {
            "name": self.name,
            "params": self.params,
            "values": {name: getattr(self, name) for name in self._values},
            "n_items": len(self.items),
            "items_hash": self.items.hash,
        }
        with replacing(folder) as beside:
            beside.mkdir()
            self.items.save(beside, "items")
            for name in self._arrays:
                np.save(beside / f"{name}.npy", getattr(self, name), allow_pickle=False)
            self._save_more(beside)
            (beside / "model.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; arrays stay on disk, memory-mapped.

        Raises:
            ModelFileError: a file is missing or cut short, belongs to another model, or the item ids are not
                the ones the model was fitted with.
        """
        about = read_about(folder)
        if about["name"] != cls.name:
            raise ModelFileError(f"{folder} holds the model {about['name']!r}, not {cls.name!r}.")
        try:
            model = cls(**about["params"])
            model.items = Vocabulary.load(folder, "items")
            if model.items.hash != about["items_hash"]:
                raise ModelFileError(
                    f"{folder}: the item ids ({model.items.hash[:8]}) are not the ones the model was fitted with "
                    f"({about['items_hash'][:8]}). Fetch the version again, or train anew."
                )
            for name in cls._arrays:
                stored = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                setattr(model, name, np.asarray(stored))  # the same memory, without `memmap`'s cost at each slice
            for name in cls._values:
                setattr(model, name, about["values"][name])
            model._load_more(folder)
        except (OSError, ValueError, KeyError, TypeError, EOFError, DataError) as error:
            raise ModelFileError(f"{folder} is damaged: {error}. Fetch the version again, or train anew.") from error
        return model

    @abstractmethod
    def _fit(self, interactions: Interactions) -> None:
        """Learn every array and value."""

    @abstractmethod
    def _score(self, histories: Histories, groups: Groups | None, /) -> np.ndarray:
        """A fresh float32 array (n_users, n_items), higher is better; -inf where the model has nothing to say."""

    def _scored(self, histories: Histories, groups: Groups | None, /) -> np.ndarray:
        """As `_score`, with nothing to say of strangers where the model does not serve them."""
        score = self._score(histories, groups)
        if not self.serves_cold_users:
            score[np.diff(histories.indptr) == 0] = -np.inf
        return score

    def _best(
        self, histories: Histories, groups: Groups | None, k: int, /, *, allowed: np.ndarray | None, exclude_seen: bool
    ) -> Ranking:
        """What `recommend` says of one block: all items scored and sorted, unless a model can do with less."""
        score = self._scored(histories, groups)
        if exclude_seen:
            score[histories.row, histories.item] = -np.inf
        if allowed is not None:
            score[:, ~allowed] = -np.inf
        return top_k(score, k)

    def _similar(self, codes: np.ndarray, /) -> np.ndarray:
        """float32 (n, n_items), higher is more alike; -inf where the model has nothing to say."""
        return np.full((len(codes), len(self.items)), -np.inf, dtype=np.float32)

    def _drops(self, history: Histories, codes: np.ndarray, /) -> np.ndarray:
        """How far each score falls without each distinct item of one history, float (n_codes, n_distinct).

        By scoring the history without each; a model that has a formula for it does better.
        """
        whole = self._score(history, None)[0, codes]
        without = history.without_each()
        rows = max(1, BLOCK_CELLS // max(1, history.n_items))
        blocks = [self._score(without[start : start + rows], None)[:, codes] for start in range(0, len(without), rows)]
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(whole[:, None] - np.vstack(blocks).T, nan=0.0)

    def _save_more(self, folder: Path, /) -> None:
        """Write what is neither an array nor a JSON value, such as other models, into the model's folder."""

    def _load_more(self, folder: Path, /) -> None:
        """Read what `_save_more` wrote."""

    def _clean(self, histories: Histories | sparse.csr_matrix) -> Histories:
        self._check_fitted()
        found = histories if isinstance(histories, Histories) else Histories.from_matrix(histories)
        if found.n_items != len(self.items):
            raise DataError(
                f"histories have {found.n_items} columns; {self.name} knows {len(self.items)} items. "
                "Build them with the model's own `items`."
            )
        return found.where((found.weight > 0) & (found.weight < np.inf))

    def _known_codes(self, item_codes: Sequence[int] | np.ndarray) -> np.ndarray:
        self._check_fitted()
        codes = np.asarray(item_codes, dtype=np.int64).reshape(-1)
        if len(codes) and (codes.max() >= len(self.items) or codes.min() < -1):
            raise DataError(f"item codes {codes.min()}..{codes.max()} are not all in 0..{len(self.items) - 1}.")
        return codes


def top_k(scores: np.ndarray, k: int, *, codes: np.ndarray | None = None) -> Ranking:
    """The k best columns of each row; equal scores by code, so the answer never depends on the sort.

    Args:
        scores: float32 of shape (n, n_items); NaN and -inf are never ranked.
        k: How many, at least 1.
        codes: Of the columns, int of shape (n_items,); by default their numbers.

    Example:
        >>> top_k(np.float32([[1, 3, 3, -np.inf]]), 3).items.tolist()
        [[1, 2, 0]]
    """
    items = np.full((len(scores), k), -1, dtype=np.int32)
    best = np.full((len(scores), k), np.nan, dtype=np.float32)
    for row, least in enumerate(at_least(scores, k)):
        columns = np.flatnonzero(scores[row] >= least)  # the best k, and some more
        if codes is not None:
            columns = columns[np.argsort(codes[columns])]
        columns = columns[np.argsort(-scores[row, columns], kind="stable")][:k]
        items[row, : len(columns)] = columns if codes is None else codes[columns]
        best[row, : len(columns)] = scores[row, columns]
    return Ranking(items, best)


def at_least(scores: np.ndarray, k: int) -> np.ndarray:
    """What the k best columns of each row all come to, and few others: the kth best of the bests of blocks of columns.

    Args:
        scores: float32 of shape (n, n_items).
        k: How many, at least 1.

    Returns:
        float32 of shape (n,); the lowest number where fewer than k columns are neither NaN nor -inf.
    """
    n, n_items = scores.shape
    n_blocks = n_items // max(1, n_items // (BLOCKS_PER_PLACE * k))
    first = max(0, n_blocks - k)
    least = np.empty(n, dtype=np.float32)
    for row, score in enumerate(scores[:, : n_items // n_blocks * n_blocks]):
        best = np.fmax.reduce(score.reshape(-1, n_blocks), axis=0, initial=LOWEST)  # NaN is the worst
        least[row] = np.partition(best, first)[first]
    return least


def read_about(folder: Path) -> dict[str, Any]:
    """The `model.json` of a saved recommender.

    Raises:
        ModelFileError: it is missing or no JSON of a model.
    """
    file = folder / "model.json"
    try:
        about: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not {"name", "params", "values", "items_hash"} <= about.keys():
            raise ModelFileError(f"{file} does not describe a recommender. Fetch the version again, or train anew.")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{file} cannot be read: {error}. Fetch the version again, or train anew.") from error
    return about
