"""Splits: the past first, a horizon free in between where the history allows, a refusal that says what is short."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from training.splits import MIN_HISTORY_DAYS, propensity_split, recommender_split

START = datetime(2026, 1, 1, tzinfo=UTC)


@settings(max_examples=50, deadline=None)
@given(
    history_days=st.integers(1, 1500),
    horizon_days=st.integers(1, 365),
    cutoffs=st.integers(2, 24),
    step_days=st.integers(1, 90),
)
def test_every_label_has_its_horizon_and_every_cutoff_its_history(
    history_days: int, horizon_days: int, cutoffs: int, step_days: int
) -> None:
    end = START + timedelta(days=history_days)
    asked = {"horizon_days": horizon_days, "cutoffs": cutoffs, "step_days": step_days}
    if history_days < horizon_days + 28:
        with pytest.raises(DataError, match=f"needs {horizon_days + 28}"):
            propensity_split(START, end, **asked)
        return
    split = propensity_split(START, end, **asked)
    horizon = timedelta(days=horizon_days)
    assert split.test + horizon == end
    for cutoffs_of in (split.seen, split.live):
        assert 2 <= len(cutoffs_of) <= max(2, cutoffs - 1)
        assert list(cutoffs_of) == sorted(set(cutoffs_of))
        assert cutoffs_of[0] >= START + timedelta(days=MIN_HISTORY_DAYS)
        assert all(cutoff + horizon <= cutoffs_of[-1] for cutoff in split.earlier(cutoffs_of))
    assert split.live[-1] == split.test
    assert split.purged_test == (split.seen[-1] + horizon <= split.test)
    assert split.purged_later == (split.seen[0] + horizon <= split.seen[-1])
    assert split.cutoffs == tuple(sorted({*split.seen, *split.live}))


def test_a_long_history_is_purged_and_a_short_one_says_that_it_is_not() -> None:
    days = {"horizon_days": 90, "cutoffs": 6, "step_days": 30}
    long = propensity_split(START, START + timedelta(days=700), **days)
    assert (len(long.seen), long.purged_later, long.purged_test) == (5, True, True)
    short = propensity_split(START, START + timedelta(days=140), **days)
    assert (len(short.seen), short.purged_later, short.purged_test) == (4, False, False)


def test_steps_widen_until_the_cutoffs_span_a_horizon() -> None:
    split = propensity_split(START, START + timedelta(days=1500), horizon_days=365, cutoffs=6, step_days=30)
    assert split.purged_later
    assert (split.seen[-1] - split.seen[0]).days >= 365


@settings(max_examples=50, deadline=None)
@given(history_days=st.integers(1, 400), horizon_days=st.integers(1, 60))
def test_a_recommender_is_chosen_and_judged_on_days_that_do_not_overlap(history_days: int, horizon_days: int) -> None:
    end = START + timedelta(days=history_days)
    if history_days < 3 * horizon_days:
        with pytest.raises(DataError, match=f"needs {3 * horizon_days}"):
            recommender_split(START, end, horizon_days=horizon_days)
        return
    split = recommender_split(START, end, horizon_days=horizon_days)
    horizon = timedelta(days=horizon_days)
    assert 1 <= len(split.validation) <= 2
    cutoffs = (*split.validation, split.test, end)
    assert all(later - earlier == horizon for earlier, later in itertools.pairwise(cutoffs))
    assert cutoffs[0] - START >= horizon
