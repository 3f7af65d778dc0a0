"""An experiment week by week: those who joined in each, and all so far, with intervals that may be read every week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.errors import DataError
from evaluation.experiments.means import Difference, difference_of_means
from evaluation.experiments.sequential import AlwaysValid, always_valid

PERIOD_DAYS = 7


@dataclass(frozen=True, slots=True)
class Period:
    """One period.

    Attributes:
        start: Its first day, as 2026-01-31.
        difference: Of those who joined in it; None if nobody of an arm did.
        so_far: Of all who joined by its end.
        running: `so_far` as it may be read at every period.
    """

    start: str
    difference: Difference | None
    so_far: Difference
    running: AlwaysValid


def over_time(
    treated: np.ndarray,
    control: np.ndarray,
    treated_at: pd.Series,
    control_at: pd.Series,
) -> tuple[Period, ...]:
    """The difference of means by when people were assigned, from the first day that both arms have people.

    Args:
        treated: Outcomes, shape (n,).
        control: Outcomes, shape (m,).
        treated_at: When each was assigned, n times.
        control_at: The same, m times.

    Raises:
        DataError: a time is missing, or there are not as many times as outcomes.

    Example:
        >>> at = pd.Series(pd.date_range("2026-01-01", periods=20, tz="UTC"))
        >>> found = over_time(np.arange(20.0), np.zeros(20), at, at)
        >>> [(period.start, period.so_far.n_treated, period.difference.n_treated) for period in found]
        [('2026-01-01', 7, 7), ('2026-01-08', 14, 7), ('2026-01-15', 20, 6)]
    """
    as_many = (len(treated), len(control)) == (len(treated_at), len(control_at))
    if not as_many or treated_at.isna().any() or control_at.isna().any():
        raise DataError(f"{len(treated)} and {len(control)} outcomes need as many times of assignment, none missing.")
    first = min(treated_at.min(), control_at.min()).normalize()
    length = pd.Timedelta(days=PERIOD_DAYS)
    ours, theirs = (((at - first) // length).to_numpy() for at in (treated_at, control_at))
    periods = []
    for number in np.unique(np.r_[ours, theirs]).tolist():
        until = [treated[ours <= number], control[theirs <= number]]
        if not all(map(len, until)):
            continue
        here = [treated[ours == number], control[theirs == number]]
        so_far = difference_of_means(*until)
        periods.append(
            Period(
                start=str((first + number * length).date()),
                difference=difference_of_means(*here) if all(map(len, here)) else None,
                so_far=so_far,
                running=always_valid(so_far, planned_people=len(treated) + len(control)),
            )
        )
    return tuple(periods)
