"""Where items are shown: the placements that the settings declare, with their expressions read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from data.contract import TABLES
from data.settings import Placement
from features import expressions
from features.expressions import Expression
from serving.catalogue import COLUMN, FILTERABLE

DEFAULT = "default"
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
    """The placements by name; one that is not declared is like `default`.

    Example:
        >>> found = Placements({"home": Placement(filter="price < 10")})
        >>> found["home"].only.text, found["elsewhere"].only
        ('price < 10', None)
    """

    def __init__(self, declared: Mapping[str, Placement]) -> None:
        """Read every expression.

        Raises:
            WorkspaceError: one cannot be read, or names what is no column of `items`; says where.
        """
        every = {DEFAULT: Placement(), **declared}
        self._placed = {name: _placed(name, rules) for name, rules in every.items()}

    def __getitem__(self, name: str) -> Placed:
        return self._placed.get(name, self._placed[DEFAULT])


def _placed(name: str, rules: Placement) -> Placed:
    place = f"placements.{name}"
    only = _checked(rules.filter, f"{place}.filter") if rules.filter else None
    promoted = rules.promoted
    return Placed(rules, only, _checked(promoted, f"{place}.promoted") if isinstance(promoted, str) else promoted)


def _checked(text: str, place: str) -> Expression:
    """Tried on an item that has every column, so that a wrong one is told at the start and not at a request."""
    found = expressions.parse(text, place=place)
    found.check(FILTERABLE, called=COLUMN)
    found.mask(pd.DataFrame({c.name: [SAMPLES[c.type]] for c in TABLES["items"].columns if c.name in FILTERABLE}))
    return found
