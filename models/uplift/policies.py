"""From what each arm would earn to who gets what: the best arm, within a budget, or by a tree for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.chance import some_rows
from data.errors import DataError
from models.columns import Columns

SPLITS = 8
"""Of a number, at its quantiles."""
MIN_LEAF = 0.05
"""Share of the people that a leaf of the tree must hold."""
MAX_ROWS = 200_000
"""That a tree is learnt from, a seeded draw."""


def best_arms(profit: np.ndarray, *, max_contacts: int | None = None) -> np.ndarray:
    """The arm that earns each person's most, codes (n,); of equals the first, so that nothing beats for nothing.

    Args:
        profit: Expected, of each arm after its cost, (n, K); arm 0 is nothing sent.
        max_contacts: How many may get anything at the most: those who gain the most over nothing do.

    Example:
        >>> profit = np.array([[0.0, 2.0, 1.0], [0.0, -1.0, 3.0], [0.0, -1.0, -1.0]])
        >>> best_arms(profit).tolist(), best_arms(profit, max_contacts=1).tolist()
        ([1, 2, 0], [0, 2, 0])
    """
    if max_contacts is None:
        return profit.argmax(axis=1)
    return spend_at_most(profit, np.append(0.0, np.ones(profit.shape[1] - 1)), budget=max_contacts)


def spend_at_most(profit: np.ndarray, costs: np.ndarray, *, budget: float) -> np.ndarray:
    """The arms that earn the most together while their costs stay within a budget, codes (n,).

    A knapsack with one choice for each person, solved by the price of money: everybody gets the arm with the largest
    profit - price x cost, at the lowest price that keeps to the budget (Sinha, Zoltners 1979); what is then left is
    spent on those who would be next. It falls short of the optimum by one person's profit at the most, but for ties.

    Args:
        profit: Expected, of each arm after its cost, (n, K); arm 0 is nothing sent.
        costs: That count against the budget, (K,), 0 of arm 0.
        budget: Of all people together.

    Raises:
        DataError: a budget or cost below 0, or arm 0 with a cost.

    Example:
        >>> spend_at_most(np.array([[0.0, 2.0], [0.0, 3.0]]), np.array([0.0, 1.0]), budget=1).tolist()
        [0, 1]
    """
    if budget < 0 or (costs < 0).any() or costs[0] != 0:
        raise DataError(f"the budget is {budget}, the costs {costs.tolist()}; give 0 or more, and 0 for the first arm.")

    def chosen(price: float) -> np.ndarray:
        return (profit - price * costs).argmax(axis=1)

    choice = chosen(0.0)
    if costs[choice].sum() <= budget:
        return choice
    cheap, dear = 0.0, 1.0
    while costs[chosen(dear)].sum() > budget:
        dear *= 2
        if dear > 1e15 * max(1.0, float(np.abs(profit).max())):
            return np.zeros(len(profit), dtype=np.int64)
    for _ in range(60):
        price = (cheap + dear) / 2
        cheap, dear = (price, dear) if costs[chosen(price)].sum() > budget else (cheap, price)
    kept, wanted = chosen(dear), chosen(cheap)
    extra = costs[wanted] - costs[kept]
    next_ones = np.flatnonzero(extra > 0)
    affordable = next_ones[np.cumsum(extra[next_ones]) <= budget - costs[kept].sum()]
    kept[affordable] = wanted[affordable]
    return kept


@dataclass(frozen=True, slots=True)
class Condition:
    """A question to a person: is a number at most so much, a time not later, or a category this one? Missing = no.

    Attributes:
        column: Which.
        value: The number, of a time in days since 1970, or the category.
        is_time: Whether it is one.
    """

    column: str
    value: float | str
    is_time: bool = False

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """For whom it does, bool (n,), of columns as `Columns` reads them."""
        values = table[self.column]
        held = values == self.value if isinstance(self.value, str) else values <= self.value
        return held.to_numpy(dtype=bool)

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return f"{self.column} == {self.value!r}"
        if self.is_time:
            return f"{self.column} <= {str(pd.Timestamp(self.value, unit='D').round('s')).removesuffix(' 00:00:00')}"
        return f"{self.column} <= {self.value:.4g}"


@dataclass(frozen=True)
class PolicyTree:
    """Two questions at the most, and an arm.

    Attributes:
        columns: How the table is read.
        question: The first; None = one arm for everybody.
        then: The second, for those who answer yes and for those who answer no; None = no further question.
        arms: Codes: yes-yes, yes-no, no-yes, no-no.
        names: Of the arms.
        gain: Over the best single arm per person, on the people it was learnt from: too good for that reason.
    """

    columns: Columns
    question: Condition | None
    then: tuple[Condition | None, Condition | None]
    arms: tuple[int, int, int, int]
    names: tuple[str, ...]
    gain: float

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        """Arms, codes (n,).

        Raises:
            DataError: a column is not there.
        """
        read = self.columns(table)
        first = np.ones(len(table), dtype=bool) if self.question is None else self.question.holds(read)
        yes, no = (np.ones(len(table), dtype=bool) if part is None else part.holds(read) for part in self.then)
        leaf = np.where(first, np.where(yes, 0, 1), np.where(no, 2, 3))
        return np.asarray(self.arms)[leaf]

    def __str__(self) -> str:
        if self.question is None:
            return f"{self.names[self.arms[0]]} to all"
        lines = []
        for start, part, first in ((f"if {self.question}", self.then[0], 0), ("else", self.then[1], 2)):
            yes, no = self.names[self.arms[first]], self.names[self.arms[first + 1]]
            lines.append(f"{start}: {yes}" if part is None else f"{start}: if {part}: {yes}, else {no}")
        return "\n".join(lines)


def fit_policy_tree(table: pd.DataFrame, values: np.ndarray, *, names: Sequence[str], seed: int = 0) -> PolicyTree:
    """The best of all trees of two levels over quantile splits, by doubly robust value (Athey, Wager 2021).

    Exact: the sums of every pair of questions come from one matrix product, and every pair is looked at.

    Args:
        table: What was known of the people, whatever columns.
        values: What each arm would have earned, doubly robust, (n, K).
        names: Of the arms.
        seed: Of the draw where there are many people.

    Example:
        >>> age = np.arange(400.0) % 40 + 20
        >>> values = np.column_stack([np.zeros(400), np.where(age > 39, 1.0, -1.0)])
        >>> print(fit_policy_tree(pd.DataFrame({"age": age}), values, names=["none", "mail"]))
        if age <= 39: none
        else: mail
    """
    drawn = some_rows(len(table), MAX_ROWS, seed=seed)
    table, values = table.iloc[drawn], values[drawn]
    columns, n = Columns.learn(table), len(table)
    read = columns(table)
    questions = _questions(columns, read)
    B = np.column_stack([np.ones(n), *(question.holds(read) for question in questions)])  # the first is always yes
    # For every pair of questions: value of each arm, and people, among those who say yes to both.
    both = np.stack([B.T @ (B * gamma[:, None]) for gamma in (*values.T, np.ones(n))], axis=-1)
    yes = both[0]
    quadrants = (
        both,
        yes[:, None] - both,
        yes[None, :] - both,
        yes[0] - yes[:, None] - yes[None, :] + both,
    )  # (root, child, K + 1): yes-yes, yes-no, no-yes, no-no
    leaves = [_leaf(part) for part in quadrants]
    slight = 1e-9 * float(np.abs(yes[0, :-1]).max() + np.abs(values).sum())  # of equals the one that asks less
    asked = slight * (np.arange(len(B.T)) > 0)
    under_yes = np.where(_big(quadrants[0], n) & _big(quadrants[1], n), leaves[0] + leaves[1] - asked, -np.inf)
    under_no = np.where(_big(quadrants[2], n) & _big(quadrants[3], n), leaves[2] + leaves[3] - asked, -np.inf)
    total = under_yes.max(axis=1) + under_no.max(axis=1) - asked
    total[0] = leaves[0][0, 0]
    root = int(total.argmax())
    if root == 0:
        best = int(yes[0, :-1].argmax())
        return PolicyTree(columns, None, (None, None), (best,) * 4, tuple(names), 0.0)
    children = [int(side[root].argmax()) for side in (under_yes, under_no)]
    where = [(root, children[0]), (root, children[0]), (root, children[1]), (root, children[1])]
    arms = [int(part[place][:-1].argmax()) for part, place in zip(quadrants, where, strict=True)]
    for side, child in enumerate(children):
        if child == 0 or arms[2 * side] == arms[2 * side + 1]:
            children[side], arms[2 * side + 1] = 0, arms[2 * side]
    then = tuple(None if child == 0 else questions[child - 1] for child in children)
    gain = float(total[root] - total[0]) / n
    return PolicyTree(columns, questions[root - 1], (then[0], then[1]), tuple(arms), tuple(names), gain)  # type: ignore[arg-type]


def _questions(columns: Columns, read: pd.DataFrame) -> list[Condition]:
    found: list[Condition] = []
    for name, column in columns.read.items():
        if column.kind == "category":
            found += [Condition(name, value) for value in column.categories]
            continue
        known = read[name].dropna().to_numpy()
        cuts = np.unique(np.quantile(known, np.arange(1, SPLITS) / SPLITS, method="lower"))
        found += [Condition(name, float(cut), column.kind == "time") for cut in cuts if cut < known.max()]
    return found


def _leaf(sums: np.ndarray) -> np.ndarray:
    """The best arm's value, (...,), of sums by arm and people, (..., K + 1)."""
    best: np.ndarray = sums[..., :-1].max(axis=-1)
    return best


def _big(sums: np.ndarray, n: int) -> np.ndarray:
    """Whether a part is empty, as where nothing is asked, or large enough for a leaf."""
    people = sums[..., -1]
    return (people >= MIN_LEAF * n) | (people < 0.5)
