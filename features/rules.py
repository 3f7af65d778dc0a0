"""A rule in words, such as `mens == 1 -> Mens else Womens`: who gets which arm, parsed safely, never run as code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.errors import WorkspaceError
from features.expressions import Expression, parse

ARROW, OTHERWISE = "->", " else "


@dataclass(frozen=True)
class Rule:
    """Conditions in order, each with an arm, and an arm for the rest.

    Attributes:
        text: As written.
        parts: Condition and arm; the first that holds counts.
        otherwise: The arm of whoever is in none.
    """

    text: str
    parts: tuple[tuple[Expression, str], ...]
    otherwise: str

    @property
    def arms(self) -> tuple[str, ...]:
        """Those that it names, in its order."""
        return (*(arm for _, arm in self.parts), self.otherwise)

    def codes(self, frame: pd.DataFrame | Mapping[str, np.ndarray], arms: Sequence[str]) -> np.ndarray:
        """The arm of each row as its place in `arms`, int (n,).

        Raises:
            WorkspaceError: an arm or a column that is not there, and what may have been meant.
        """
        for arm in self.arms:
            if arm not in arms:
                raise WorkspaceError(f"rule {self.text!r}: {arm!r} is no arm. There are {', '.join(arms)}.")
        rows = len(frame) if isinstance(frame, pd.DataFrame) else len(next(iter(frame.values())))
        found = np.full(rows, list(arms).index(self.otherwise))
        for condition, arm in reversed(self.parts):
            found[condition.mask(frame)] = list(arms).index(arm)
        return found


def parse_rule(text: str) -> Rule:
    """Read `CONDITION -> ARM else CONDITION -> ARM else ARM`; conditions as in `features.expressions`.

    Raises:
        WorkspaceError: what cannot be read.

    Example:
        >>> rule = parse_rule("mens == 1 -> Mens else Womens")
        >>> rule.codes(pd.DataFrame({"mens": [1, 0]}), ["none", "Mens", "Womens"]).tolist()
        [1, 2]
    """
    *first, otherwise = (part.strip() for part in " ".join(text.split()).split(OTHERWISE))
    if not first or not otherwise or ARROW in otherwise or not all(ARROW in part for part in first):
        raise WorkspaceError(f"rule {text!r} cannot be read. Write it like `orders_90d > 0 -> mail else nothing`.")
    parts = []
    for part in first:
        condition, arm = part.rsplit(ARROW, 1)
        parts.append((parse(condition.strip(), place=f"rule {text!r}"), arm.strip()))
    return Rule(" ".join(text.split()), tuple(parts), otherwise)
