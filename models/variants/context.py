"""Who is asked about, as a few words: numbers become low, middle or high, categories their common values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

MAX_VALUES = 5
"""Of a category, the most common ones."""
MIN_SHARE = 0.05
"""Of the rows, for a value to be told apart."""
QUANTILES = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class Context:
    """How columns become tokens; each row has at most one of each column.

    Attributes:
        edges: Column of numbers -> where low ends and where high begins.
        values: Column of text -> the values that are told apart.

    Example:
        >>> people = pd.DataFrame({"orders": [0, 1, 2, 3, 4, 9], "country": ["DE", "DE", "AT", "AT", None, "DE"]})
        >>> context = Context.learn(people)
        >>> context.tokens
        ('orders low', 'orders middle', 'orders high', 'country DE', 'country AT')
        >>> context.codes(people.iloc[[0, 4]]).tolist()
        [[0, 3], [2, -1]]
    """

    edges: Mapping[str, tuple[float, ...]]
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def learn(cls, frame: pd.DataFrame) -> Self:
        """From the rows that are learnt from; columns that do not tell them apart are left out."""
        edges, values = {}, {}
        for name in map(str, frame.columns):
            known = frame[name].dropna()
            if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
                found = np.unique(np.quantile(known.astype(float), QUANTILES)) if len(known) else np.array([])
                inside = found[(found > known.min()) & (found <= known.max())] if len(found) else found
                if len(inside):
                    edges[name] = tuple(inside.tolist())
                continue
            counts = known.astype(str).value_counts().sort_index().sort_values(ascending=False, kind="stable")
            common = tuple(str(value) for value in counts.index[counts >= MIN_SHARE * len(frame)][:MAX_VALUES])
            if len(common) > 1:
                values[name] = common
        return cls(edges, values)

    @property
    def tokens(self) -> tuple[str, ...]:
        """In the order of their codes."""
        levels = {2: ("low", "high"), 3: ("low", "middle", "high")}
        numbers = (f"{name} {level}" for name, edges in self.edges.items() for level in levels[len(edges) + 1])
        return (*numbers, *(f"{name} {value}" for name, values in self.values.items() for value in values))

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Codes of each row's tokens, -1 = nothing is known, int of shape (n, columns)."""
        found, first = np.full((len(frame), len(self.edges) + len(self.values)), -1), 0
        for place, (name, edges) in enumerate(self.edges.items()):
            if name in frame:
                number = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
                code = first + np.searchsorted(np.array(edges), number, side="right")
                found[:, place] = np.where(np.isnan(number), -1, code)
            first += len(edges) + 1
        for place, (name, values) in enumerate(self.values.items(), start=len(self.edges)):
            if name in frame:
                code = pd.Index(values).get_indexer(frame[name].astype(object).where(frame[name].notna(), None))
                found[:, place] = np.where(code < 0, -1, first + code)
            first += len(values)
        return found

    def code_of(self, told: Mapping[str, Any]) -> Sequence[int]:
        """The tokens of one row; the same as `codes`, quicker."""
        found, first = [], 0
        for name, edges in self.edges.items():
            value = told.get(name)
            if isinstance(value, (int, float)) and value == value:  # noqa: PLR0124 - NaN
                found.append(first + sum(value >= edge for edge in edges))
            first += len(edges) + 1
        for name, values in self.values.items():
            value = told.get(name)
            if value in values:
                found.append(first + values.index(value))
            first += len(values)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Context.from_json` reads them back."""
        return {
            "edges": {name: list(edges) for name, edges in self.edges.items()},
            "values": {name: list(values) for name, values in self.values.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            {name: tuple(map(float, edges)) for name, edges in told["edges"].items()},
            {name: tuple(map(str, values)) for name, values in told["values"].items()},
        )
