"""Which moments are learnt from, chosen on and judged on: always the past first, the future last."""

from __future__ import annotations

import math
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
    """Cutoffs of a propensity model, each followed by one horizon of what then happened; all earliest first.

    Attributes:
        seen: Learnt from before the test; the newest ends one horizon before it where the history allows.
        test: The cutoff judged on, once.
        live: Learnt from by the model that goes live: as `seen`, one step on, the test cutoff included.
        horizon_days: Length of a label's window.
    """

    seen: tuple[datetime, ...]
    test: datetime
    live: tuple[datetime, ...]
    horizon_days: int

    @property
    def cutoffs(self) -> tuple[datetime, ...]:
        """Every cutoff once, earliest first."""
        return tuple(sorted({*self.seen, self.test, *self.live}))

    @property
    def purged_test(self) -> bool:
        """Whether every window learnt from ends before the test: what could truly be known by then."""
        return self.seen[-1] + timedelta(days=self.horizon_days) <= self.test

    def earlier(self, cutoffs: tuple[datetime, ...]) -> tuple[datetime, ...]:
        """Those of `cutoffs` whose windows end before the last of them begins; none where the history is short."""
        horizon = timedelta(days=self.horizon_days)
        return tuple(cutoff for cutoff in cutoffs if cutoff + horizon <= cutoffs[-1])

    @property
    def purged_later(self) -> bool:
        """Whether some of `seen` can be learnt from to stop and calibrate on the last of them."""
        return bool(self.earlier(self.seen))


def recommender_split(start: datetime, end: datetime, *, horizon_days: int) -> RecommenderSplit:
    """Cutoffs one horizon apart, back from the end: the last judges, the two before it choose.

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
    validation = (test - 2 * horizon, test - horizon)
    return RecommenderSplit(tuple(cutoff for cutoff in validation if cutoff - start >= horizon), test, end)


def propensity_split(
    start: datetime,
    end: datetime,
    *,
    horizon_days: int,
    cutoffs: int,
    step_days: int,
    min_history_days: int = MIN_HISTORY_DAYS,
) -> PropensitySplit:
    """Rolling cutoffs back from the last one whose horizon has passed, purged by one horizon where the history allows.

    The labels of cutoffs closer than a horizon overlap: those that had not ended by the test could not have been known
    by then. Steps widen until the cutoffs span a horizon, and shrink where the history is short; where even that is too
    little, the gap before the test shrinks.

    Raises:
        DataError: the history is too short even for that; says what is there and what is needed.

    Example:
        >>> from datetime import UTC
        >>> split = propensity_split(datetime(2010, 12, 1, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC),
        ...     horizon_days=90, cutoffs=6, step_days=30)
        >>> [f"{cutoff:%m-%d}" for cutoff in split.seen], f"{split.test:%m-%d}"
        (['02-13', '03-15', '04-14', '05-14', '06-13'], '09-11')
        >>> [f"{cutoff:%m-%d}" for cutoff in split.earlier(split.seen)], split.purged_later, split.purged_test
        (['02-13', '03-15'], True, True)
    """
    shortest = horizon_days + min_history_days + 2 * MIN_STEP_DAYS
    setting = "horizon_days (a label's under [propensity], the value's under [value])"
    _need(start, end, shortest, f"a horizon of {horizon_days} days", setting)
    days = (end - start).days - horizon_days  # from the start to the test cutoff
    gap = horizon_days if days - horizon_days >= min_history_days + MIN_STEP_DAYS else MIN_STEP_DAYS

    def rolling(newest: int) -> tuple[datetime, ...]:
        steps = max(1, cutoffs - 2)
        enough = newest >= GOOD_HISTORY_DAYS + max(horizon_days, MIN_STEP_DAYS)
        first = GOOD_HISTORY_DAYS if enough else min_history_days
        widest = max(step_days, math.ceil(horizon_days / steps))
        step = min(widest, max(MIN_STEP_DAYS, math.ceil((newest - first) / steps)))
        found = [newest - number * step for number in range(steps + 1) if newest - number * step >= min_history_days]
        return tuple(start + timedelta(days=day) for day in reversed(found))

    return PropensitySplit(rolling(days - gap), start + timedelta(days=days), rolling(days), horizon_days)


def first_of_value(start: datetime, horizon_days: int) -> datetime:
    """The first cutoff that value learns from: it needs half a horizon of history to see who stays."""
    return start + timedelta(days=horizon_days / 2)


def _need(start: datetime, end: datetime, days: int, what: str, setting: str) -> None:
    found = (end - start).total_seconds() / 86_400
    if found < days:
        raise DataError(
            f"{what} needs {days} days of history, and {start:%Y-%m-%d} to {end:%Y-%m-%d} are {found:.0f}. "
            f"Bring a longer history, or set a shorter {setting} in attune.toml."
        )
