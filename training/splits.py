"""Which moments are learnt from, chosen on and judged on: always the past first, the future last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from data.errors import DataError

MIN_HISTORY_DAYS = 14
"""What must lie before a cutoff at the least, so that there is something to know of a customer."""
GOOD_HISTORY_DAYS = 30
"""What lies before every cutoff where the history is long enough for several."""
MIN_STEP_DAYS = 7
"""Closer than this, two cutoffs say much the same."""


@dataclass(frozen=True)
class RecommenderSplit:
    """A global time split: learn before `validation`, choose on the days after it, judge on those after `test`.

    Attributes:
        validation: Cutoffs that models are chosen on, earliest first (rolling, where there is history).
        test: The cutoff that the chosen one is judged on, once.
        end: Just after the last row.
    """

    validation: tuple[datetime, ...]
    test: datetime
    end: datetime


@dataclass(frozen=True)
class PropensitySplit:
    """Cutoffs of a propensity model, each followed by one horizon of what then happened.

    Attributes:
        train: Cutoffs learnt from, earliest first.
        later: The cutoff of early stopping and calibration.
        test: The cutoff judged on, once.
        horizon_days: Length of a label's window.
        purged_later: Whether the train labels' windows end before `later`.
        purged_test: Whether every window learnt from ends before `test`: what could truly be known by then.
    """

    train: tuple[datetime, ...]
    later: datetime
    test: datetime
    horizon_days: int
    purged_later: bool
    purged_test: bool

    @property
    def cutoffs(self) -> tuple[datetime, ...]:
        """Every cutoff, earliest first."""
        return (*self.train, self.later, self.test)

    @property
    def refit(self) -> tuple[tuple[datetime, ...], datetime]:
        """Train and later cutoffs one step on: once judged, the test cutoff calibrates the model that goes live."""
        return (*self.train, self.later), self.test


def recommender_split(start: datetime, end: datetime, *, horizon_days: int, folds: int = 2) -> RecommenderSplit:
    """Cutoffs one horizon apart, back from the end: the last judges, the `folds` before it choose.

    Raises:
        DataError: the history is shorter than three horizons; says what is there and what is needed.

    Example:
        >>> from datetime import UTC
        >>> split = recommender_split(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC),
        ...     horizon_days=14)
        >>> [f"{cutoff:%m-%d}" for cutoff in (*split.validation, split.test)]
        ['01-18', '02-01', '02-15']
    """
    horizon = timedelta(days=horizon_days)
    _need(start, end, 3 * horizon_days, f"a recommender judged on {horizon_days} days", "recommender.horizon_days")
    test = end - horizon
    validation = [test - fold * horizon for fold in range(folds, 0, -1)]
    return RecommenderSplit(tuple(cutoff for cutoff in validation if cutoff - start >= horizon), test, end)


def propensity_split(
    start: datetime, end: datetime, *, horizon_days: int, cutoffs: int, step_days: int
) -> PropensitySplit:
    """Cutoffs back from the last one whose horizon has passed, purged by one horizon where the history allows.

    Labels of cutoffs closer than a horizon overlap: before the test they could not have been known by then, and
    before the later cutoff they make early stopping come too late. Where the history is short the steps between
    the train cutoffs shrink first, then the gap before the later cutoff, then the gap before the test.

    Raises:
        DataError: the history is too short even for that; says what is there and what is needed.

    Example:
        >>> from datetime import UTC
        >>> split = propensity_split(datetime(2010, 12, 1, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC),
        ...     horizon_days=90, cutoffs=6, step_days=30)
        >>> [f"{cutoff:%m-%d}" for cutoff in split.cutoffs], split.purged_later, split.purged_test
        (['01-02', '01-26', '02-19', '03-15', '06-13', '09-11'], True, True)
    """
    shortest = horizon_days + MIN_HISTORY_DAYS + 2 * MIN_STEP_DAYS
    _need(start, end, shortest, f"a horizon of {horizon_days} days", "horizon_days of that label in [propensity]")
    n_train = max(1, cutoffs - 2)
    days = (end - start).days - horizon_days  # from the start to the test cutoff
    free = max(horizon_days, step_days)
    for gap_later, gap_test in ((free, free), (step_days, free), (step_days, step_days)):
        last = days - gap_test - gap_later
        step = min(step_days, (last - GOOD_HISTORY_DAYS) // max(1, n_train - 1))
        if step >= MIN_STEP_DAYS:
            break
    else:
        gap_later = gap_test = step = min(step_days, (days - MIN_HISTORY_DAYS) // 2)
        last, n_train = days - 2 * step, 1
    return PropensitySplit(
        train=tuple(start + timedelta(days=last - number * step) for number in reversed(range(n_train))),
        later=start + timedelta(days=days - gap_test),
        test=start + timedelta(days=days),
        horizon_days=horizon_days,
        purged_later=gap_later >= horizon_days,
        purged_test=gap_test >= horizon_days,
    )


def _need(start: datetime, end: datetime, days: int, what: str, setting: str) -> None:
    found = (end - start).total_seconds() / 86_400
    if found < days:
        raise DataError(
            f"the history is {found:.0f} days long ({start:%Y-%m-%d} to {end:%Y-%m-%d}); "
            f"{what} needs {days}. Bring a longer history, or set a shorter {setting} in attune.toml."
        )
