"""What each of many arms changes for whom, from few and noisy outcomes: one Bayesian regression that all arms share.

An order that an offer brings is rare, and what people would have ordered anyway drowns it. So what came of a decision
is taken apart: orders that came over the message itself, of which people who were left alone have next to none, what
such an order is worth, and all the rest:

    tau_k(x) = (a_k + v_k x - a_0 - v_0 x) g_k worth(x) + r_k level(x)

a, v: orders over the message, a linear regression in which arms share what treatments have in common; worth: profit of
an order; r_k: the share of their usual profit, level(x), that the offer costs (orders that it scares off, or that
redeem it without having needed it). Each part is normal around zero, around what the arms have in common, with a
variance of its own for every column, which makes the outcomes most likely (MacKay 1992; Tipping 2001): what says
nothing is shrunk to nothing, arms to one another, people to the average.

g_k: how much more readily than others alike somebody orders over this arm, told by what they did before. Such factors
are taken as drawn from a gamma distribution around 1, whose shape makes likely who ordered this time (empirical Bayes:
Robbins 1956), so that after n messages, y of them ordered over, with m orders expected of somebody like this over each,

    g_k = (shape + y) / (shape + n m)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from models import saving
from models.columns import Columns
from models.uplift.encoding import category_sizes, encoded
from models.uplift.model import ArmEffect
from models.uplift.regressors import ridge
from models.views import Views

STEPS = 25
"""Of the variances' iteration."""
DRAWS = 100
"""Of the posterior, that chances and errors are told by."""
MOST_ORDERS = 2.0
"""Over one message that count."""
EXTREME = 0.98
"""Quantile of an order's profit, and of the rest, beyond which more is not believed to say more."""
LOSS_OF_ALL, LOSS_OF_ONE = 0.15, 0.05
"""Standard deviations of the share of people's usual profit that an offer costs or adds: of what offers have in common,
and of each alone. Outcomes tell so little of it that it must be held."""
SHAPES = np.geomspace(0.25, 64, 33)
"""Of the gamma that people's own factors are drawn from: small where they differ much."""
USUAL_SHAPE, SHAPE_SPREAD = 2.0, 1.0
"""What it is believed to be before anything is seen: the middle, and the standard deviation of its log."""
RAREST = 1e-3
"""Fewer orders over a message are not foreseen of anybody: what they did themselves could not be held against it."""
LEAST = 1e-9
ROWS_AT_ONCE = 20_000


class PooledEffects:
    """Extra profit of each arm for each person, with draws of its posterior.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> table = pd.DataFrame({"tea": rng.uniform(size=6000)})
        >>> arm = rng.integers(3, size=6000)
        >>> chance = np.where(arm == 1, 0.3 * table.tea, np.where(arm == 2, 0.3 * (1 - table.tea), 0.0))
        >>> brought = (rng.uniform(size=6000) < chance).astype(float)
        >>> model = PooledEffects().fit(table, arm, 10 * brought, brought=brought, by_message=10 * brought)
        >>> model.predict(pd.DataFrame({"tea": [0.1, 0.9]})).argmax(axis=1).tolist()
        [2, 1]
    """

    arms: tuple[str, ...]
    columns: Columns
    effects: tuple[ArmEffect, ...]
    shape: float | None
    """Of the gamma that people's own factors are drawn from; None = what they did before is not known."""

    def fit(
        self,
        table: pd.DataFrame,
        arm: np.ndarray,
        outcome: np.ndarray,
        *,
        brought: np.ndarray,
        by_message: np.ndarray,
        arms: Sequence[str] | None = None,
        about: Mapping[str, str] | None = None,
        own: tuple[np.ndarray, np.ndarray] | None = None,
        seed: int = 0,
    ) -> Self:
        """Learn from decisions that hung on nothing but the table and chance.

        Args:
            table: What was known of each person before, n rows.
            arm: Codes, 0 = nothing, (n,).
            outcome: Profit, (n,).
            brought: Orders that came over the message, (n,); all orders where nobody knows.
            by_message: Of the outcome, the profit of those, (n,).
            arms: Names, by code.
            about: Arm -> the column that tells how much somebody likes what the arm is about: such columns say alike of
                their arms, so that these tell more together than one by one.
            own: How often each person was told of each arm before, and ordered over it, (n, K) each; None = not known.
            seed: Of the draws.
        """
        n_arms = int(arm.max()) + 1 if arms is None else len(arms)
        self.arms = tuple(arms) if arms is not None else tuple(f"arm {code}" for code in range(n_arms))
        self.columns = Columns.learn(table)
        matrix = encoded(self.columns, table)
        self._views = Views(matrix, category_sizes(self.columns))
        Z = self._seen(matrix)
        self._worth = _worth(Z, brought, by_message)
        rng = np.random.default_rng(seed)
        liked = self._liked(about or {})
        mean, draws = _orders(Z, arm, np.minimum(brought, MOST_ORDERS), n_arms, rng, liked=liked)
        self._level, losses, loss_draws = _losses(Z, arm, outcome - by_message, n_arms, rng)
        # The posterior's mean first, then its draws: (1 + DRAWS, K, 1 + p) and (1 + DRAWS, K).
        self._of_orders = np.concatenate([mean[None], draws])
        self._of_level = np.concatenate([losses[None], loss_draws])
        self.shape = None if own is None else self._found_shape(Z, arm, brought, own)
        mean_effects = self._effects(Z).mean(axis=0)
        self.effects = tuple(
            ArmEffect(float(told[0]), float(told[1:].std()), 1.0, 0.0, 1.0, 0.0) for told in mean_effects[1:]
        )
        return self

    def predict(self, table: pd.DataFrame, own: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """Extra profit under each arm over none, the posterior's mean, (n, K).

        Args:
            table: Of n people.
            own: As of `fit`.

        Raises:
            DataError: a column is not there.
        """
        return self._told(table, own, only_mean=True)[0]

    def posterior(
        self, table: pd.DataFrame, own: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mean, the standard deviation and the chance of each arm to be the best, (n, K) each; see `predict`."""
        return self._told(table, own, only_mean=False)

    def expected(self, table: pd.DataFrame) -> np.ndarray:
        """The profit itself under each arm, (n, K)."""
        Z = self._seen(encoded(self.columns, table))
        alone = self._of_orders[0, 0, 0] + Z @ self._of_orders[0, 0, 1:]
        return np.asarray((_linear(Z, self._level) + alone * self._per_order(Z))[:, None] + self.predict(table))

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        about = {
            "name": "pooled",
            "arms": self.arms,
            **self.columns.to_json(),
            "views": self._views.to_json(),
            "effects": [asdict(effect) for effect in self.effects],
            "worth": self._worth.tolist(),
            "level": self._level.tolist(),
            "of_orders": self._of_orders.tolist(),
            "of_level": self._of_level.tolist(),
            "shape": self.shape,
        }
        saving.write(folder, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: a file is missing, cut short or changed.
        """
        with saving.reading(folder) as about:
            model = cls()
            model.arms = tuple(about["arms"])
            model.columns = Columns.from_json(about)
            model._views = Views.from_json(about["views"])
            model.effects = tuple(ArmEffect(**told) for told in about["effects"])
            model._worth, model._level = np.array(about["worth"]), np.array(about["level"])
            model._of_orders, model._of_level = np.array(about["of_orders"]), np.array(about["of_level"])
            model.shape = about.get("shape")  # versions from before it was learnt have none
        return model

    def _told(
        self, table: pd.DataFrame, own: tuple[np.ndarray, np.ndarray] | None, *, only_mean: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        Z = self._seen(encoded(self.columns, table))
        K = len(self.arms)
        mean, spread, best = (np.zeros((len(Z), K)) for _ in range(3))
        for start in range(0, len(Z), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            before = None if own is None else (own[0][here], own[1][here])
            found = self._effects(Z[here], before, n_draws=0 if only_mean else DRAWS)
            mean[here] = found[:, :, 0]
            if not only_mean:
                spread[here] = found[:, :, 1:].std(axis=2)
                best[here] = (found[:, :, 1:].argmax(axis=1)[:, None, :] == np.arange(K)[None, :, None]).mean(axis=2)
        return mean, spread, best

    def _effects(
        self, Z: np.ndarray, own: tuple[np.ndarray, np.ndarray] | None = None, *, n_draws: int = DRAWS
    ) -> np.ndarray:
        """Of each person and arm the mean's and each draw's, (n, K, 1 + draws)."""
        losses = self._of_level[: 1 + n_draws]
        found = self._more_orders(Z, n_draws)
        if own is not None and self.shape is not None:
            found *= _factor(found[:, :, 0], own, self.shape)[:, :, None]
        found *= self._per_order(Z)[:, None, None]
        found += np.maximum(_linear(Z, self._level), 0.0)[:, None, None] * losses.T[1:]
        return np.concatenate([np.zeros((len(Z), 1, 1 + n_draws)), found], axis=1)

    def _more_orders(self, Z: np.ndarray, n_draws: int = 0) -> np.ndarray:
        """Orders over the message under each arm but none, more than under none, (n, K - 1, 1 + draws)."""
        orders = self._of_orders[: 1 + n_draws]
        more = orders[:, 1:] - orders[:, :1]
        return np.asarray(np.einsum("ij,dkj->ikd", Z, more[:, :, 1:], optimize=True) + more[:, :, 0].T)

    def _found_shape(
        self, Z: np.ndarray, arm: np.ndarray, brought: np.ndarray, own: tuple[np.ndarray, np.ndarray]
    ) -> float:
        """The likeliest of `SHAPES`, by whether who was told before ordered this time."""
        some = np.flatnonzero((arm > 0) & (np.take_along_axis(own[0], arm[:, None], axis=1)[:, 0] > 0))
        code = arm[some, None] - 1
        more, before = self._more_orders(Z[some])[:, :, 0], (own[0][some], own[1][some])
        base = self._of_orders[0, 0, 0] + Z[some] @ self._of_orders[0, 0, 1:]
        ordered = brought[some] > 0
        likely = -0.5 * (np.log(SHAPES / USUAL_SHAPE) / SHAPE_SPREAD) ** 2
        for place, shape in enumerate(SHAPES):
            here = np.take_along_axis(more * _factor(more, before, shape), code, axis=1)[:, 0]
            chance = np.clip(base + here, RAREST, 1 - RAREST)
            likely[place] += np.log(np.where(ordered, chance, 1 - chance)).sum()
        return float(SHAPES[likely.argmax()])

    def _liked(self, about: Mapping[str, str]) -> dict[int, int]:
        """Arm -> place among what `_seen` gives of the column that the arm is about."""
        numbers = [name for place, name in enumerate(self.columns.read) if place in self._views.medians]
        return {
            code: 2 * numbers.index(about[arm])
            for code, arm in enumerate(self.arms)
            if code and about.get(arm) in numbers
        }

    def _per_order(self, Z: np.ndarray) -> np.ndarray:
        """What an order is worth of each person, (n,): at least a tenth of the mean."""
        return np.maximum(_linear(Z, self._worth), 0.1 * abs(self._worth[0]))

    def _seen(self, matrix: np.ndarray) -> np.ndarray:
        """One view of each number, its rank, and whether it is missing; categories as they are: few columns."""
        n_numbers = len(self._views.medians)
        kept = [3 * place + view for place in range(n_numbers) for view in (1, 2)]
        n_views = len(self._views.mean)
        return np.asarray(self._views(matrix)[:, [*kept, *range(3 * n_numbers, n_views)]])


def _factor(more: np.ndarray, own: tuple[np.ndarray, np.ndarray], shape: float) -> np.ndarray:
    """How much more readily people order over each arm than others alike, (n, K - 1), by what is expected of these.

    Of arms over which `more` orders are not expected nothing is said: one for each.
    """
    told, answered = (counts[:, 1:] for counts in own)
    return np.where(more > 0, (shape + answered) / (shape + told * np.maximum(more, RAREST)), 1.0)


def _linear(Z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights[0] + Z @ weights[1:])


def _worth(Z: np.ndarray, brought: np.ndarray, by_message: np.ndarray) -> np.ndarray:
    """Weights, (1 + p,), of the profit of an order."""
    some = brought > 0
    if not some.any():
        return np.zeros(1 + Z.shape[1])
    each = by_message[some] / brought[some]
    each = np.clip(each, *np.quantile(each, (1 - EXTREME, EXTREME)))
    return ridge(np.column_stack([np.ones(len(each)), Z[some]]), each, 1)


def _orders(
    Z: np.ndarray,
    arm: np.ndarray,
    orders: np.ndarray,
    n_arms: int,
    rng: np.random.Generator,
    *,
    liked: Mapping[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the orders over the message under each arm, (K, 1 + p), and draws of them, (DRAWS, K, 1 + p)."""
    n, p = Z.shape
    K = n_arms - 1
    treated, into = (arm > 0).astype(np.float64), np.eye(n_arms)[arm][:, 1:]
    middle, shares = treated.mean(), into.mean(axis=0)
    away, own = treated - middle, into - shares
    likes = sum((np.where(arm == code, Z[:, place], 0.0) for code, place in liked.items()), np.zeros(n))
    parts = [
        np.ones((n, 1)),
        away[:, None],
        likes[:, None],
        Z,
        away[:, None] * Z,
        own,
        (own[:, :, None] * Z[:, None]).reshape(n, -1),
    ]
    # A variance for all, for each column of what treatments share, for the arms, for each column of what is an arm's.
    column = np.arange(p)
    component = [[-1, -1, -1], 0 * column, 1 + column, np.full(K, 1 + p), 2 + p + np.tile(column, K)]
    mean, root = _posterior(np.hstack(parts), orders, np.concatenate(component).astype(np.int64))
    weights = np.vstack([mean, mean + rng.standard_normal((DRAWS, len(mean))) @ root.T])
    alone, shared = weights[:, 0], weights[:, 1]
    base, common, of_arms, mine = np.split(weights[:, 3:], np.cumsum([p, p, K]), axis=1)
    mine = mine.reshape(-1, K, p)
    nothing = np.column_stack(
        [alone - middle * shared - of_arms @ shares, base - middle * common - np.einsum("k,dkp->dp", shares, mine)]
    )
    more = np.concatenate([(shared[:, None] + of_arms)[:, :, None], common[:, None] + mine], axis=2)
    for code, place in liked.items():
        more[:, code - 1, 1 + place] += weights[:, 2]
    found = np.concatenate([nothing[:, None], nothing[:, None] + more], axis=1)
    return found[0], found[1:]


def _losses(
    Z: np.ndarray, arm: np.ndarray, rest: np.ndarray, n_arms: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the usual profit, (1 + p,), the part of it that each arm adds, (K,), and draws of that, (DRAWS, K)."""
    high = np.quantile(rest[rest > 0], EXTREME) if (rest > 0).any() else 0.0
    rest = np.clip(rest, -high, high)
    level = ridge(np.column_stack([np.ones(len(rest)), Z]), rest, 1)
    usual = np.maximum(_linear(Z, level), 0.0)
    into = np.eye(n_arms)[arm][:, 1:]
    if not usual.any():
        return level, np.zeros(n_arms), np.zeros((DRAWS, n_arms))
    D = np.column_stack([usual, (arm > 0) * usual, into * usual[:, None]])
    precision = np.array([0.0, LOSS_OF_ALL**-2, *[LOSS_OF_ONE**-2] * (n_arms - 1)])
    noise = float((rest - usual).var())
    covariance = np.linalg.inv(D.T @ D / noise + np.diag(precision))
    mean = covariance @ (D.T @ rest) / noise
    weights = np.vstack([mean, rng.multivariate_normal(mean, covariance, DRAWS, method="eigh")])
    found = np.column_stack([np.zeros(len(weights)), weights[:, 1:2] + weights[:, 2:]])
    return level, found[0], found[1:]


def _posterior(D: np.ndarray, y: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, (p,), and root of the covariance, (p, p), of normal weights whose variances make y most likely.

    `component` says which weights share a variance; those of -1 are free. Fixed-point iteration of MacKay (1992).
    """
    n = len(y)
    G, c, total = D.T @ D, D.T @ y, float(y @ y)
    free = component < 0
    which = component[~free]
    counts = np.bincount(which)
    noise = max(float(y.var()), LEAST)
    variance = np.full(len(counts), 1e-3 * noise)
    for _ in range(STEPS):
        precision = np.full(len(c), LEAST)
        precision[~free] = 1 / variance[which]
        covariance = np.linalg.inv(G / noise + np.diag(precision))
        mean = covariance @ c / noise
        known = counts - np.bincount(which, np.diag(covariance)[~free]) / variance
        variance = np.maximum(np.bincount(which, mean[~free] ** 2) / np.maximum(known, 1e-2), LEAST * noise)
        left = total - 2 * float(mean @ c) + float(mean @ G @ mean)
        noise = max(left / max(n - free.sum() - known.sum(), 1.0), LEAST)
    eigenvalues, Q = np.linalg.eigh(covariance)
    return mean, Q * np.sqrt(np.maximum(eigenvalues, 0.0))
