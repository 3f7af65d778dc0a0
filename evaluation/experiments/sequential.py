"""Intervals for those who look at a running experiment: valid at every look, however often and whenever one stops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from evaluation.experiments.means import Difference
from evaluation.intervals import Interval


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """What may be read of a running experiment at any time.

    Attributes:
        interval: The difference; wide enough that at no look, with probability `level`, the truth lies outside.
        p_value: Of no difference, valid however often one looked.
    """

    interval: Interval
    p_value: float


def always_valid(difference: Difference, *, planned_people: int, level: float = 0.95) -> AlwaysValid:
    """The asymptotic confidence sequence of a difference (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024).

    Theorem 2.2 with the variance of the difference: after n of N planned people

        estimate +- se sqrt(2 (n rho^2 + 1) / (n rho^2) log(sqrt(n rho^2 + 1) / alpha)),

    rho chosen so that it is tightest at N people (their appendix B.2): N rho^2 = -W(-alpha^2 / e) - 1, W the lower
    branch of Lambert's function. It is about 1.5 times as wide as an interval for one look. It can be read once enough
    people carry the outcome (`difference.enough`); before that it is unbounded.

    Args:
        difference: Of the people so far.
        planned_people: How many were to be asked in all, both arms together; more may come.
        level: Coverage over all looks together.

    Example:
        >>> from evaluation.experiments.means import difference_of_means
        >>> rng = np.random.default_rng(0)
        >>> so_far = difference_of_means(rng.normal(1, 1, 500), rng.normal(0, 1, 500))
        >>> print(always_valid(so_far, planned_people=2000).interval)
        1.0423 [0.8519, 1.2326]
    """
    estimate = difference.interval.estimate
    if not difference.enough:
        return AlwaysValid(Interval(estimate, -np.inf, np.inf, level), 1.0)
    alpha, r = 1 - level, _information(difference.n_treated + difference.n_control, planned_people, level)
    half = difference.standard_error * np.sqrt(2 * (r + 1) / r * np.log(np.sqrt(r + 1) / alpha))
    z = estimate / difference.standard_error
    return AlwaysValid(Interval.around(estimate, half, level=level), _p_value(z**2, 1, r))


def planned_of(planned_people: int, some: int, people: int) -> int:
    """How many of all planned people will be such as some of the people so far are; at least one.

    Example:
        >>> planned_of(2000, 30, 100)
        600
    """
    return max(1, round(planned_people * some / people))


def always_valid_p_value(q: float, degrees: int, people: int, *, planned_people: int, level: float = 0.95) -> float:
    """Of a sum of squares that has a chi-square distribution at each look where nothing is, valid at all of them.

    The mixture of `always_valid` in as many dimensions: (r + 1)^(degrees / 2) exp(-q r / (2 (r + 1))), r = n rho^2.

    Args:
        q: The sum, such as Cochran's Q.
        degrees: Of freedom.
        people: So far, both arms together.
        planned_people: As of `always_valid`.
        level: As there.

    Example:
        >>> round(always_valid_p_value(20.0, 1, 500, planned_people=1000), 4)
        0.0007
    """
    return _p_value(q, degrees, _information(people, planned_people, level))


def _information(people: int, planned_people: int, level: float) -> float:
    """What is known after n people, n rho^2."""
    at_plan = float(-lambertw(-((1 - level) ** 2) / np.e, -1).real - 1)
    return at_plan * people / planned_people


def _p_value(q: float, degrees: int, r: float) -> float:
    return min(1.0, float((r + 1) ** (degrees / 2) * np.exp(-q * r / (2 * (r + 1)))))
