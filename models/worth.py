"""What each customer is worth: orders and money expected over a horizon, with an interval, from rows of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from data.errors import DataError, NotFittedError
from data.files import replacing
from models import saving
from models.baselines import CellMeans
from models.lifetime import Habits, from_features
from models.lifetime.habits import EXPECTED_MONEY, EXPECTED_ORDERS, SAID
from models.lifetime.summary import DAYS_PER_WEEK, TOLD_BY
from models.value import LEAST, Value

LEVEL = 0.8
"""How many of the customers are to end within their interval."""
MIN_IN_GROUP, MAX_GROUPS = 50, 20
"""Customers of whom about as much is expected, and how many such groups there are at the most."""
ORDERED = "orders_life"
"""The feature that tells who ordered before."""
MONEY, ORDERS = "money", "orders"
"""Folders of the trees."""


@dataclass(frozen=True, eq=False)
class Worth:
    """A row per customer, float64 of shape (n,) each; NaN for who never ordered.

    Attributes:
        value: Expected money over the horizon, after discounts and returns, in the shop's currency.
        low: Lower end of what may come; `LEVEL` of the customers end between the two.
        high: Upper end.
        orders: Expected number of orders.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    orders: np.ndarray


@dataclass(frozen=True)
class Band:
    """Between which multiples of their expectation customers end, by how much is expected of them.

    Customers of a later time are put into groups of whom about as much was expected; of each group the middle share of
    what came, over what was expected, is kept, with the correction for small groups of conformal prediction (Vovk,
    Gammerman and Shafer 2005, section 4.5: Mondrian). Between the groups it is interpolated. It asks for no shape of
    the errors, only that customers of one group go on as they did.

    Attributes:
        level: Share of the customers who are to end within.
        expected: Of each group, rising.
        low: Multiple of the expectation, of each group.
        high: The same.
    """

    level: float
    expected: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def fit(cls, expected: np.ndarray, came: np.ndarray, *, level: float = LEVEL) -> Self:
        """Learn from what came, both of shape (n,).

        Raises:
            DataError: nobody to learn from.

        Example:
            >>> came = np.random.default_rng(0).exponential(10, 5000)
            >>> low, high = Band.fit(np.full(5000, 10.0), came).ends(np.array([10.0]))
            >>> bool(0.5 < low[0] < 1.5), bool(21 < high[0] < 25)
            (True, True)
        """
        if not len(expected):
            raise DataError("there is nobody to learn an interval from. Use a later cutoff.")
        order = np.argsort(expected, kind="stable")
        groups = np.array_split(order, int(np.clip(len(order) // MIN_IN_GROUP, 1, MAX_GROUPS)))
        ends = []
        for rows in groups:
            multiple = came[rows] / np.maximum(expected[rows], LEAST)
            beyond = min(1.0, np.ceil((len(rows) + 1) * (1 + level) / 2) / len(rows))
            ends.append(np.quantile(multiple, [1 - beyond, beyond]))
        low, high = np.array(ends).T.tolist()
        return cls(level, tuple(float(expected[rows].mean()) for rows in groups), tuple(low), tuple(high))

    def ends(self, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end for each, shape (n,); what is expected is never outside."""
        at, known = np.log(np.maximum(expected, LEAST)), np.log(np.maximum(self.expected, LEAST))
        low, high = (np.interp(at, known, np.asarray(multiple)) for multiple in (self.low, self.high))
        return expected * np.minimum(low, 1), expected * np.maximum(high, 1)


class CustomerValue:
    """Expected orders and money over a horizon, of customers as a snapshot knows them.

    Models of how often and for how much (`models.lifetime.Habits`) say what is expected; where there are trees
    (`models.value.Value`), they correct that by all other features. Where both are no better than a mean of customers
    alike, that mean is what is expected.

    Args:
        habits: Fitted to what was known of the customers at one cutoff.
        horizon_days: How far it looks.
        trees: Of money and of orders, that learnt on earlier cutoffs; none = what the habits say stands.
        order_value_level: What an order turned out to cost over what the habits expected of it. Gamma-Gamma takes
            spend and frequency as independent; where frequent customers spend more an order, it expects too little.
        means: Of customers alike, which stand in for all of this; none = the habits say what is expected.

    Example:
        >>> from models.lifetime import BgNbd, GammaGamma
        >>> habits = Habits(BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426), GammaGamma(p=6.25, q=3.74, gamma=15.44))
        >>> model = CustomerValue(habits, horizon_days=90)
        >>> model.band = Band(0.8, (1.0,), (0.0,), (3.0,))
        >>> found = model.predict(pd.DataFrame({"orders_life": [3, 0], "days_since_order": [59.0, None],
        ...     "days_since_first_order": [272.0, None], "order_value_mean": [30.0, None],
        ...     "order_value_first": [30.0, None], "return_share": [0.0, None]}))
        >>> found.orders.round(2), found.value.round(), found.high.round()
        (array([0.45,  nan]), array([14., nan]), array([42., nan]))
    """

    def __init__(
        self,
        habits: Habits,
        *,
        horizon_days: int,
        trees: tuple[Value, Value] | None = None,
        order_value_level: float = 1.0,
        means: CellMeans | None = None,
    ) -> None:
        self.habits = habits
        self.horizon_days = horizon_days
        self.trees = trees
        self.order_value_level = order_value_level
        self.means = means
        self.band: Band | None = None

    @property
    def features(self) -> list[str]:
        """What it reads of a snapshot."""
        if self.means is not None:
            return list(dict.fromkeys((ORDERED, *self.means.edges)))
        of_trees = self.trees[0].features if self.trees else []
        return [*TOLD_BY, *(name for name in of_trees if name not in (*TOLD_BY, *SAID))]

    def expect(self, features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Expected money and orders, each of shape (n,), of people who all ordered before.

        Raises:
            DataError: a feature that is not there, or somebody who never ordered.
        """
        if self.means is not None:
            return self.means.expect(features)
        rows = self.rows(features, self.features)
        money, orders = rows[EXPECTED_MONEY].to_numpy(), rows[EXPECTED_ORDERS].to_numpy()
        if self.trees is not None:
            money, orders = self.trees[0].predict(rows, money), self.trees[1].predict(rows, orders)
        return self.order_value_level * money, orders

    def rows(self, features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """What trees learn from: the named features as numbers, and what the habits say of each row."""
        said = self.habits.told(from_features(features), self.horizon_days / DAYS_PER_WEEK)
        own = {
            name: pd.to_numeric(features[name], errors="coerce").to_numpy(np.float64, na_value=np.nan) for name in names
        }
        return pd.concat([said, pd.DataFrame(own, index=said.index)], axis=1)

    def predict(self, features: pd.DataFrame) -> Worth:
        """What each row is worth.

        Raises:
            NotFittedError: the band comes first.
            DataError: a feature that is not there.
        """
        if self.band is None:
            raise NotFittedError("a customer value has no interval yet: learn a Band or load(folder) first.")
        if ORDERED not in features:
            raise DataError(f"value: the feature {ORDERED!r} is not there. Build the features again, or train anew.")
        known = (features[ORDERED].to_numpy(np.float64, na_value=0) > 0).nonzero()[0]
        found = np.full((4, len(features)), np.nan)
        money, orders = self.expect(features.iloc[known])
        found[:, known] = money, *self.band.ends(money), orders
        return Worth(*found)

    def importance(self) -> pd.Series:
        """Each feature's share of what the trees of money gain, the greatest first; empty where there are none."""
        return self.trees[0].importance() if self.trees else pd.Series(dtype=float)

    def save(self, folder: Path) -> None:
        """Write `model.json`, and the trees in folders of their own; the folder appears whole or not at all."""
        if self.band is None:
            raise NotFittedError("a customer value has no interval yet: learn a Band first.")
        about = {
            "name": "customer value",
            "habits": self.habits.as_json(),
            "horizon_days": self.horizon_days,
            "order_value_level": self.order_value_level,
            "band": asdict(self.band),
            "trees": self.trees is not None,
            **({} if self.means is None else {"means": self.means.as_json()}),
        }
        with replacing(folder) as beside:
            saving.write(beside, about)
            for name, trees in zip((MONEY, ORDERS), self.trees or (), strict=False):
                trees.save(beside / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            trees = (Value.load(folder / MONEY), Value.load(folder / ORDERS)) if about["trees"] else None
            model = cls(
                Habits.from_json(about["habits"]),
                horizon_days=int(about["horizon_days"]),
                trees=trees,
                order_value_level=float(about["order_value_level"]),
                means=CellMeans.from_json(about["means"]) if "means" in about else None,
            )
            band = about["band"]
            model.band = Band(band["level"], *(tuple(band[name]) for name in ("expected", "low", "high")))
        return model
