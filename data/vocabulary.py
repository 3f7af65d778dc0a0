"""An immutable two-way map between ids and the whole numbers that models compute with."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.errors import DataError

UNKNOWN = -1


class Vocabulary:
    """Ids in a fixed order; an id's position is its code. Two models agree on ids if their hashes agree.

    Example:
        >>> items = Vocabulary(["tea", "cup"])
        >>> items.codes(["cup", "hat"]).tolist()
        [1, -1]
        >>> items.ids([0])
        ['tea']
    """

    def __init__(self, ids: Iterable[str]) -> None:
        """Take distinct ids in their order.

        Raises:
            DataError: an id is there twice.
        """
        index = pd.Index(list(ids), dtype="object")
        if not index.is_unique:
            raise DataError(f"ids {list(index[index.duplicated()][:3])} are in the vocabulary twice.")
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids, {self.hash[:8]})"

    def codes(self, ids: Sequence[str] | np.ndarray | pd.Series) -> np.ndarray:
        """Codes of ids, int64 of shape (n,); -1 for an id that is not here."""
        return np.asarray(self._index.get_indexer(pd.Index(ids, dtype="object")), dtype=np.int64)

    def code(self, id_: str) -> int:
        """Code of one id, -1 if it is not here."""
        return self._codes.get(id_, UNKNOWN)

    def ids(self, codes: Sequence[int] | np.ndarray) -> list[str]:
        """Ids of codes.

        Raises:
            DataError: a code that no id has, such as the -1 of an unknown id.
        """
        wanted = np.asarray(codes, dtype=np.int64)
        strange = wanted[(wanted < 0) | (wanted >= len(self))]
        if strange.size:
            raise DataError(f"code {strange[0]} stands for no id; this vocabulary has 0 to {len(self) - 1}.")
        return list(self._array[wanted])

    @property
    def all_ids(self) -> np.ndarray:
        """Every id in code order, shape (n,), dtype object."""
        return self._array

    @cached_property
    def _codes(self) -> dict[str, int]:
        """What pandas knows too, but tells ten times as slowly one by one."""
        return dict(zip(self._index, range(len(self)), strict=True))

    @cached_property
    def _array(self) -> np.ndarray:
        array: np.ndarray = self._index.to_numpy()
        return array

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the ids and their order."""
        digest = hashlib.sha256()
        for id_ in self._index:
            encoded = id_.encode()
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
        return digest.hexdigest()

    def save(self, folder: Path, name: str) -> None:
        """Write `NAME.ids.npy` (UTF-8 bytes) and `NAME.offsets.npy`: no pickle, any character allowed."""
        encoded = [id_.encode() for id_ in self._index]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(b) for b in encoded], out=offsets[1:])
        np.save(folder / f"{name}.ids.npy", np.frombuffer(b"".join(encoded), dtype=np.uint8))
        np.save(folder / f"{name}.offsets.npy", offsets)

    @classmethod
    def load(cls, folder: Path, name: str) -> Vocabulary:
        """Read what `save` wrote."""
        blob: Any = np.load(folder / f"{name}.ids.npy", allow_pickle=False).tobytes()
        offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False)
        return cls(blob[a:b].decode() for a, b in itertools.pairwise(offsets))
