"""Where items are shown: the placements that the settings declare, with their expressions read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from data.contract import TABLES
from data.settings import Placement
from features import expressions
from features.expressions import Expression
from serving.catalogue import COLUMN, FILTERABLE, Catalogue

DEFAULT = "default"
BUILT_IN = {DEFAULT: Placement(), "complements": Placement(kind="complements")}
SAMPLES = {"string": "x", "float": 1.0, "bool": True}
"""A value of each type that a filter may read."""


@dataclass(frozen=True)
class Placed:
    """A placement, ready to be used.

    Attributes:
        rules: As declared.
        only: What its items must be.
        promoted: Which items are promoted: a condition on them, or their ids.
    """

    rules: Placement
    only: Expression | None
    promoted: Expression | tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether the best candidates are shown in their order, whatever else there is to choose from."""
        rules = self.rules
        return not (rules.diversity or rules.freshness or rules.explore or rules.promoted_share)


class Placements:
    """The placements by name, two of them built in; one that is not declared is like `default`.

    Example:
        >>> found = Placements({"home": Placement(filter="price < 10")})
        >>> found["home"].only.text, found["elsewhere"].only
        ('price < 10', None)
    """

    def __init__(self, declared: Mapping[str, Placement], *, columns: Sequence[str] = ()) -> None:
        """Read every expression.

        Args:
            declared: The rules by name.
            columns: Further columns of `items` that expressions may name.

        Raises:
            WorkspaceError: one cannot be read, or names what is no column of `items`; says where.
        """
        every = {**BUILT_IN, **declared}
        self._placed = {name: _placed(name, rules, columns) for name, rules in every.items()}

    def __getitem__(self, name: str) -> Placed:
        return self._placed.get(name, self._placed[DEFAULT])

    def check(self, catalogue: Catalogue) -> None:
        """Try every expression on the items that there are: only they tell of what type further columns are.

        Raises:
            WorkspaceError: one compares text with numbers; says where.
        """
        for placed in self._placed.values():
            for expression in (placed.only, placed.promoted):
                if isinstance(expression, Expression):
                    catalogue.allowed(catalogue.items, expression)


def _placed(name: str, rules: Placement, columns: Sequence[str]) -> Placed:
    place, promoted = f"placements.{name}", rules.promoted
    return Placed(
        rules,
        _checked(rules.filter, f"{place}.filter", columns) if rules.filter else None,
        _checked(promoted, f"{place}.promoted", columns) if isinstance(promoted, str) else promoted,
    )


def _checked(text: str, place: str, columns: Sequence[str]) -> Expression:
    """Tried on an item that has every column, so that a wrong one is told at the start and not at a request."""
    found = expressions.parse(text, place=place, example="price < 10")
    found.check((*FILTERABLE, *columns), called=COLUMN)
    samples = dict.fromkeys(columns) | {
        c.name: SAMPLES[c.type] for c in TABLES["items"].columns if c.name in FILTERABLE
    }
    found.mask(pd.DataFrame([samples]))
    return found
