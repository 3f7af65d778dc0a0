"""Two arms compared by a mean or a ratio of sums: the difference, how sure it is, as a share, capped and adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from data.errors import DataError
from evaluation.intervals import Interval

CAP_SHARE = 0.99
"""Money is capped at this quantile of all amounts that are not zero."""
NO_AND_YES = (("no", "No", "false", "False"), ("yes", "Yes", "true", "True"))
ENOUGH = 10
"""So many people must carry the smaller arm's sum, were the arms alike, before a difference is believed."""
RARE = 0.5
"""An outcome that fewer of the people than this share have is rare: how it varies is judged over both arms together."""
BETWEEN_ARMS = 0.5
"""How far the variances of two arms are believed to lie apart, as a standard deviation of their logarithms."""
CLEAR_BASE = 4
"""A lift in percent needs a control mean that is so many standard errors above zero."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Treatment minus control, in the outcome's own unit per person.

    Attributes:
        interval: The difference.
        standard_error: Of it; NaN where nothing varies.
        degrees: Of freedom of its t distribution.
        p_value: Two-sided, of no difference; it is below 1 - level exactly when the interval leaves out zero.
        treated: The value in the treated arm.
        control: The value in the control arm.
        relative: The difference as a share of the control's value; None where that base is too near zero.
        n_treated: People.
        n_control: People.
        carriers: How many people would carry the smaller arm's sum, were the arms alike: those with an outcome, fewer
            if a few of them have most of it; of a yes or a no those with the rarer answer.
    """

    interval: Interval
    standard_error: float
    degrees: float
    p_value: float
    treated: Interval
    control: Interval
    relative: Interval | None
    n_treated: int
    n_control: int
    carriers: float

    @property
    def enough(self) -> bool:
        """Whether so many people carry the outcome that the interval can be believed."""
        return self.carriers >= ENOUGH and self.standard_error > 0

    def at(self, level: float) -> Interval:
        """The interval of the difference at another level."""
        return _around(self.interval.estimate, self.standard_error, self.degrees, level)


def difference_of_means(
    treated: np.ndarray, control: np.ndarray, *, level: float = 0.95, alike: bool = False
) -> Difference:
    """Mean of `treated`, shape (n,), minus mean of `control`, shape (m,): Welch's t interval, made fit for money.

    The difference is nearly normal where arms are large. With rare and unequal amounts, and one arm far smaller, the
    smaller arm's own variance is small just when its mean is, and Welch's interval covers less than it says. So where
    under half of the people have an outcome, an arm's variance s_a^2 is moderated towards that of both, s^2 (Smyth
    2004, "Linear models and empirical Bayes methods for assessing differential expression"), and never reduced,

        Var(y_a) = max(s_a^2, (n_a s_a^2 + k s^2) / (n_a + k)),  k = (kurtosis - 1) / BETWEEN_ARMS^2:

    s_a^2 has a relative error of (kurtosis - 1) / n_a, and arms' variances are believed to differ by `BETWEEN_ARMS`.
    Of a yes or a no the rarer answer is the outcome. Degrees of freedom after Welch (1947) and Satterthwaite (1946).
    `benchmarks coverage` measures how often the interval holds the truth.

    Args:
        treated: Outcomes, shape (n,).
        control: Outcomes, shape (m,).
        level: Coverage.
        alike: Whether nothing was done yet, so that variances are moderated however many have an outcome.

    Raises:
        DataError: an arm without people, or a value that is missing.

    Example:
        >>> found = difference_of_means(np.array([3.0, 4, 5, 4]), np.array([1.0, 2, 3, 2]))
        >>> print(found.interval, found.n_treated)
        2.0000 [0.5873, 3.4127] 4
    """
    return _difference(_Arm.of_means(treated), _Arm.of_means(control), level, alike=alike)


def difference_adjusted(
    treated: np.ndarray,
    control: np.ndarray,
    treated_before: np.ndarray,
    control_before: np.ndarray,
    *,
    level: float = 0.95,
) -> Difference:
    """CUPED: the difference of means, less what the arms differed in before by chance (Deng et al. 2013, eq. 4).

    Each outcome y becomes y - (x - mean(x)) theta, theta by least squares within the arms, so the arms' expected means
    stay. A missing value before counts as the mean, and that it is missing is one more thing known before. Of n people
    k columns take k degrees of freedom: the variance left is too small by (n - 2 - k) / (n - 2), and theta is off by
    chance about as much again, so that the error is divided by this. Where no degree is left nothing is adjusted.

    Args:
        treated: Outcomes, shape (n,).
        control: Outcomes, shape (m,).
        treated_before: What was known of each before assignment, shape (n,) or (n, k); NaN = not known.
        control_before: The same of the control.
        level: Coverage.

    Raises:
        DataError: as `difference_of_means`; or the shapes differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> before = rng.normal(100, 20, (2, 1000))
        >>> after = before + rng.normal(0, 5, (2, 1000))
        >>> raw, cuped = difference_of_means(*after), difference_adjusted(*after, *before)
        >>> raw.standard_error / cuped.standard_error > 3.5
        True
    """
    raw = [_Arm.of_means(treated), _Arm.of_means(control)]
    y, x = np.r_[treated, control].astype(np.float64), _known(treated_before, control_before)
    if len(x) != len(y):
        raise DataError(f"{len(y)} outcomes and {len(x)} rows of what was before: give one of each a person.")
    arm = np.r_[np.zeros(len(treated), np.int64), np.ones(len(control), np.int64)]
    theta, _, columns, _ = np.linalg.lstsq(_within(x, arm), _within(y[:, None], arm)[:, 0], rcond=None)
    if columns >= len(y) - 2:
        return _difference(raw[0], raw[1], level)
    y = y - (x - x.mean(axis=0)) @ theta
    arms = [_Arm.of_means(part) for part in np.split(y, [len(treated)])]
    return _difference(arms[0], arms[1], level, rare=(raw[0], raw[1]), columns=int(columns))


def difference_of_ratios(
    treated: np.ndarray,
    treated_per: np.ndarray,
    control: np.ndarray,
    control_per: np.ndarray,
    *,
    level: float = 0.95,
) -> Difference:
    """Sum of `treated` over sum of `treated_per` minus the same of the control: revenue per order, clicks per message.

    People are drawn, not orders or messages, so each arm's ratio R = sum(y) / sum(x) is linearised by person,
    (y - R x) / mean(x): the delta method (Deng, Knoblich and Lu 2018, section 3.1). Where y is rare, what an arm's
    variance misses of it is added, as in `difference_of_means`.

    Raises:
        DataError: as `difference_of_means`; or an arm whose denominator is zero or below.

    Example:
        >>> y, x = np.array([10.0, 0, 30, 20]), np.array([1.0, 0, 2, 2])
        >>> print(difference_of_ratios(2 * y, x, y, x).treated.estimate)
        24.0
    """
    ratios = _Arm.of_ratio(treated, treated_per), _Arm.of_ratio(control, control_per)
    amounts = _Arm.of_means(treated / np.mean(treated_per)), _Arm.of_means(control / np.mean(control_per))
    return _difference(ratios[0], ratios[1], level, rare=amounts)


def cap_of(values: np.ndarray) -> float:
    """The amount at which money is capped, the same for all arms: a quantile of |values| over those not zero.

    It is one of the amounts, below the largest wherever two differ; infinite where all are zero.

    Example:
        >>> cap_of(np.array([0.0, 0, 20, 30, -10, 90_000]))
        30.0
    """
    amounts = np.abs(values[values != 0])
    return float(np.quantile(amounts, CAP_SHARE, method="lower")) if len(amounts) else np.inf


def as_numbers(column: pd.Series, *, name: str, missing: float = 0.0) -> np.ndarray:
    """A column as numbers, float (n,): yes and true are 1, no and false 0; what is missing counts as told.

    Raises:
        DataError: a value that is no number, or infinite.

    Example:
        >>> as_numbers(pd.Series(["Yes", "No", None]), name="visit").tolist()
        [1.0, 0.0, 0.0]
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(f"{name} holds times; name a column of numbers, or of yes and no.")
    if pd.api.types.is_string_dtype(column):
        column = column.replace({word: str(yes) for yes, words in enumerate(NO_AND_YES) for word in words})
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = (numbers.isna() & column.notna()) | np.isinf(numbers.astype(float))
    if wrong.any():
        raise DataError(
            f"{name}: {wrong.sum()} values are no numbers (first: {str(column[wrong].iloc[0])!r}). "
            "Write an amount as 12.50, a yes and a no as 1 and 0."
        )
    return numbers.astype(float).fillna(missing).to_numpy()


@dataclass(frozen=True, slots=True)
class _Arm:
    """What a difference needs to know of an arm: sums over people of what each contributes to its value."""

    value: float
    n: int
    present: int  # people who contribute
    binary: bool  # whether each contributes 0 or 1
    absolute: float
    squares: float
    deviations: tuple[float, float]  # sums of the second and the fourth powers, from the mean

    @classmethod
    def of(cls, value: float, contributions: np.ndarray) -> _Arm:
        if not np.isfinite(contributions).all():
            raise DataError("an outcome is missing or infinite; people without an outcome have 0.")
        d = contributions
        apart = (d - d.mean()) ** 2
        deviations = float(apart.sum()), float(apart @ apart)
        binary = bool(((d == 0) | (d == 1)).all())
        return cls(value, len(d), int(np.count_nonzero(d)), binary, float(np.abs(d).sum()), float(d @ d), deviations)

    @classmethod
    def of_means(cls, values: np.ndarray) -> _Arm:
        if not len(values):
            raise DataError("an arm has no people; an experiment needs people treated and people left alone.")
        y = np.asarray(values, dtype=np.float64)
        return cls.of(float(y.mean()), y)

    @classmethod
    def of_ratio(cls, values: np.ndarray, per: np.ndarray) -> _Arm:
        if len(values) != len(per) or not np.sum(per) > 0:
            raise DataError(f"a ratio over a sum of {np.sum(per):g}, {len(values)} values and {len(per)} denominators.")
        ratio = float(np.sum(values) / np.sum(per))
        return cls.of(ratio, (values - ratio * per) / np.mean(per))

    @property
    def variance(self) -> float:
        return self.deviations[0] / (self.n - 1) if self.n > 1 else np.nan


def _difference(
    treated: _Arm,
    control: _Arm,
    level: float,
    *,
    rare: tuple[_Arm, _Arm] | None = None,
    columns: int = 0,
    alike: bool = False,
) -> Difference:
    """The difference of two arms; `rare` are the outcomes themselves where the arms hold adjusted ones or ratios.

    `columns` are those that outcomes were adjusted by.
    """
    arms, n = (treated, control), treated.n + control.n
    left = 1 - columns / (n - 2) if columns else 1.0
    outcomes = rare or arms
    squares, present = (sum(part) for part in zip(*((arm.squares, arm.present) for arm in outcomes), strict=True))
    kish = sum(arm.absolute for arm in outcomes) ** 2 / squares if squares else 0.0
    if all(arm.binary for arm in outcomes):  # whichever answer is called yes, the rarer one tells arms apart
        kish = present = min(present, n - present)
    spread = [arm.variance for arm in arms]
    if alike or present < RARE * n:
        spread = [own + more for own, more in zip(spread, _missed(*outcomes), strict=True)]
    if not all(arm.variance for arm in outcomes):  # an arm without any spread has too few people to show it
        spread = [max(spread)] * 2
    variances = [variance / arm.n / left**2 for variance, arm in zip(spread, arms, strict=True)]
    error = float(np.sqrt(sum(variances)))
    estimate = treated.value - control.value
    if not error > 0:  # nothing varies, or one person alone: nothing can be said
        error = degrees = p_value = np.nan
    else:
        below = sum(v**2 / (arm.n - 1) for v, arm in zip(variances, arms, strict=True))
        degrees = left * error**4 / below
        p_value = float(2 * stdtr(degrees, -abs(estimate) / error))
    errors = [np.sqrt(v) if v > 0 else np.nan for v in variances]
    return Difference(
        interval=_around(estimate, error, degrees, level),
        standard_error=error,
        degrees=degrees,
        p_value=p_value,
        treated=_around(treated.value, errors[0], treated.n - 1, level),
        control=_around(control.value, errors[1], control.n - 1, level),
        relative=_relative(treated.value, control.value, (errors[0], errors[1]), degrees, level),
        n_treated=treated.n,
        n_control=control.n,
        carriers=kish * min(treated.n, control.n) / n,
    )


def _missed(treated: _Arm, control: _Arm) -> tuple[float, float]:
    """What is added to each arm's variance, see `difference_of_means`."""
    n = treated.n + control.n
    squares, fourths = (one + other for one, other in zip(treated.deviations, control.deviations, strict=True))
    if not (n > 2 and squares > 0):
        return 0.0, 0.0
    pooled = squares / (n - 2)
    k = (fourths / n / pooled**2 - 1) / BETWEEN_ARMS**2
    missed, missed_too = (k / (arm.n + k) * max(pooled - arm.variance, 0.0) for arm in (treated, control))
    return missed, missed_too


def _known(treated_before: np.ndarray, control_before: np.ndarray) -> np.ndarray:
    """Both arms' columns without gaps, centred, and a column for each that says where gaps were."""
    x = np.concatenate([part.reshape(len(part), -1).astype(np.float64) for part in (treated_before, control_before)])
    gaps = np.isnan(x)
    x = x - np.where(gaps, 0.0, x).sum(axis=0) / np.maximum((~gaps).sum(axis=0), 1)
    return np.column_stack([np.where(gaps, 0.0, x), gaps[:, gaps.any(axis=0)]])


def _around(estimate: float, error: float, degrees: float, level: float) -> Interval:
    half = float(stdtrit(degrees, (1 + level) / 2)) * error if error > 0 else np.nan
    return Interval.around(estimate, half, level=level)


def _relative(
    treated: float, control: float, errors: tuple[float, float], degrees: float, level: float
) -> Interval | None:
    """Treated / control - 1 after Fieller (1954): the ratios R that t(treated - R control) does not refuse."""
    e1, e0 = np.nan_to_num(errors)
    if not (degrees > 0 and control > CLEAR_BASE * e0):
        return None
    q = float(stdtrit(degrees, (1 + level) / 2))
    a, b, c = control**2 - (q * e0) ** 2, treated * control, treated**2 - (q * e1) ** 2
    if a <= 0:
        return None
    half = np.sqrt(max(b**2 - a * c, 0.0)) / a
    return Interval(treated / control - 1, float(b / a - half) - 1, float(b / a + half) - 1, level)


def _within(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`x`, shape (n, k), less the mean of each row's arm."""
    n = np.bincount(codes)
    means = np.column_stack([np.bincount(codes, column) / n for column in x.T])
    result: np.ndarray = x - means[codes]
    return result


def largest_share(values: Sequence[float] | np.ndarray) -> float:
    """What share of the sum of |values| the largest one is; 0 where all are zero.

    Example:
        >>> largest_share([0, 10, 10, 20])
        0.5
    """
    amounts = np.abs(np.asarray(values, dtype=np.float64))
    return float(amounts.max() / amounts.sum()) if amounts.any() else 0.0
