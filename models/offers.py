"""What each offer brings of each person more than none does, with an interval, and by which policy offers are given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import ndtri

from data.answers import answered_column, told_column
from data.errors import ModelFileError
from models.uplift import PooledEffects, best_arms
from models.uplift.model import ArmEffect

NOTHING = "none"
"""The offer of nothing: always a candidate, the first of the arms, and what the others are held against."""
BEST = "best for each"
"""The policy that gives each person the offer with the largest expected profit."""
USUAL = "usual"
"""The policy that leaves it to the shop's usual rule; any other policy is an arm for all."""
LEVEL = 0.95
WIDTH = 2 * float(ndtri((1 + LEVEL) / 2))
"""Of an interval, in standard errors."""
LIKELY = 0.5
"""Standard errors by which an offer must look better than what the usual rule gives to take its place: with 69 %."""
ABOUT = "offers.json"


@dataclass(frozen=True, eq=False)
class OfferProfit:
    """What each arm brings of each person more than no offer, after all costs; 0 in the column of no offer.

    Attributes:
        profit: Expected, (n, K).
        low: Lower end of its interval, (n, K).
        high: Upper end, (n, K).
        best: The chance of each to be the best for this person, as far as is known, (n, K).
    """

    profit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    best: np.ndarray


def own_counts(table: pd.DataFrame, arms: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """How often each person was told of each arm before, and ordered over it, (n, K) each; None where nothing tells it.

    Args:
        table: With the columns of `features.answers.own_answers`, or without.
        arms: Ids.
    """
    names = [[told_column(arm) for arm in arms], [answered_column(arm) for arm in arms]]
    if not any(name in table.columns for name in names[0]):
        return None
    told, answered = (table.reindex(columns=columns, fill_value=0.0).to_numpy(dtype=np.float64) for columns in names)
    return told, answered


def unless_usual(found: OfferProfit, usual: np.ndarray) -> np.ndarray:
    """The arm with the largest expected profit if it is likely better than what the usual rule gives, else that one.

    What a shop did before was mostly not done without reason, and that reason may be none of the features.

    Args:
        found: Of n people.
        usual: What the rule gives, codes (n,); -1 = no arm of these.

    Returns:
        Codes, (n,).

    Example:
        >>> profit = np.array([[0.0, 1.0, 1.2], [0.0, 1.0, 3.0]])
        >>> found = OfferProfit(profit, profit - 1, profit + 1, np.eye(3)[[2, 2]])
        >>> unless_usual(found, np.array([1, 1])).tolist()
        [1, 2]
    """
    rows, best = np.arange(len(usual)), best_arms(found.profit)
    edge = found.profit[rows, best] - found.profit[rows, usual]
    width = np.hypot(*((found.high - found.low)[rows, codes] for codes in (best, usual)))
    return np.where((usual >= 0) & (edge < LIKELY * width / WIDTH), usual, best)


class OfferModel:
    """Effects of offers on profit, and the policy that was shown to be worth following.

    The interval of `predict` tells how sure the expected profit of people who look alike is; not what one person will
    bring, nor differences that were not found.

    Args:
        arms: Ids of the offers by code, `NOTHING` first.
        effects: What was found of each but the first.
        policy: `BEST`, `USUAL`, or the arm that everybody gets.
        contact_cost: What telling somebody of an offer cost on average in the decisions learnt from: `profit` is after
            it.
        uplift: Tells people apart; None = everybody has the averages.

    Example:
        >>> found = ArmEffect(average=0.5, standard_error=0.1, slope=0.0, slope_error=1.0, believed=0.0, differs=1.0)
        >>> model = OfferModel(["none", "ten percent"], [found])
        >>> profit = model.predict(pd.DataFrame(index=range(2)))
        >>> profit.profit[:, 1].tolist(), profit.low[0, 1].round(3).item()
        ([0.5, 0.5], 0.304)
    """

    name = "offers"

    def __init__(
        self,
        arms: Sequence[str],
        effects: Sequence[ArmEffect],
        *,
        policy: str = BEST,
        contact_cost: float = 0.0,
        uplift: PooledEffects | None = None,
    ) -> None:
        self.arms, self.effects = tuple(arms), tuple(effects)
        self.policy, self.contact_cost, self.uplift = policy, contact_cost, uplift

    @property
    def features(self) -> list[str]:
        """What it reads of a person."""
        return [] if self.uplift is None else list(self.uplift.columns.read)

    @property
    def reads_answers(self) -> bool:
        """Whether it reads, beside features, how people answered each offer before (`features.answers`)."""
        return self.uplift is not None and self.uplift.shape is not None

    def predict(self, table: pd.DataFrame) -> OfferProfit:
        """Expected extra profit of each arm for each row of features.

        Args:
            table: With `features.answers.own_answers` beside the features; without, people are as others alike.

        Raises:
            DataError: a column is not there.
        """
        if self.uplift is None:
            averages = (
                [0.0, *(getattr(found, name) for found in self.effects)] for name in ("average", "standard_error")
            )
            mean, error = (np.tile(told, (len(table), 1)) for told in averages)
            best = np.eye(len(self.arms))[mean.argmax(axis=1)]
        else:
            mean, error, best = self.uplift.posterior(table, own_counts(table, self.arms))
            mean = mean - self.contact_cost * (np.arange(len(self.arms)) > 0)
        spread = WIDTH / 2 * error
        return OfferProfit(mean, mean - spread, mean + spread, best)

    def of_stranger(self) -> OfferProfit:
        """Of somebody of whom nothing is known: the averages, one row."""
        return OfferModel(self.arms, self.effects).predict(pd.DataFrame(index=range(1)))

    def choose(self, profit: np.ndarray) -> np.ndarray:
        """The arm that the policy gives, codes (n,), by expected profits (n, K); -1 = the one of the usual rule."""
        if self.policy == BEST:
            return best_arms(profit)
        return np.full(len(profit), -1 if self.policy == USUAL else self.arms.index(self.policy))

    def save(self, folder: Path) -> None:
        """Write `offers.json` and, where people are told apart, what `PooledEffects` writes."""
        if self.uplift is None:
            folder.mkdir(parents=True)
        else:
            self.uplift.save(folder)
        about = {
            "arms": self.arms,
            "effects": [asdict(effect) for effect in self.effects],
            "policy": self.policy,
            "contact_cost": self.contact_cost,
            "tells_apart": self.uplift is not None,
        }
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            model = cls(
                about["arms"],
                [ArmEffect(**effect) for effect in about["effects"]],
                policy=about["policy"],
                contact_cost=about["contact_cost"],
                uplift=PooledEffects.load(folder) if about["tells_apart"] else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{folder} is damaged: {error}. Fetch the version again, or train anew.") from error
        return model
