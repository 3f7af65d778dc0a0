"""People are shared out as the settings say, stay where they are for a period, and move no more than shares do."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.settings import Arms
from serving.decisions.arms import Arm, arm_of
from serving.decisions.ids import new_decision_id

NOW = datetime(2026, 1, 31, tzinfo=UTC)
USERS = [f"u{i}" for i in range(5000)]


def arms_of(users, arms, *, salt="shop", now=NOW):
    return [arm_of(user, arms, salt=salt, now=now).name for user in users]


def test_people_are_shared_out_as_the_settings_say():
    shares = Arms(random=0.2, usual=0.1, holdout=0.05)
    counted = Counter(arms_of(USERS, shares))
    for name in ("random", "usual", "holdout", "model"):
        share = getattr(shares, name)
        error = (share * (1 - share) / len(USERS)) ** 0.5
        assert abs(counted[name] / len(USERS) - share) < 4 * error, name
        assert arm_of(USERS[arms_of(USERS, shares).index(name)], shares, salt="shop", now=NOW) == Arm(name, share)


def test_an_arm_holds_for_its_period_and_is_drawn_anew_after_it():
    shares = Arms(random=0.25, usual=0.25, holdout=0.25, period_days=30)
    begins = datetime.fromtimestamp(30 * 86_400 * 680, UTC)
    first = arms_of(USERS, shares, now=begins)
    assert first == arms_of(USERS, shares, now=begins + timedelta(days=30, seconds=-1))
    later = arms_of(USERS, shares, now=begins + timedelta(days=30))
    assert 0.2 < sum(a == b for a, b in zip(first, later, strict=True)) / len(USERS) < 0.3
    assert first != arms_of(USERS, shares, salt="another", now=begins)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.4), more=st.floats(0, 0.4))
def test_a_holdout_that_grows_keeps_whom_it_had(share, more):
    before, after = (arms_of(USERS[:200], Arms(holdout=holdout)) for holdout in (share, share + more))
    assert all(then == "holdout" for first, then in zip(before, after, strict=True) if first == "holdout")


@pytest.mark.parametrize("name", ["random", "usual", "holdout"])
def test_a_whole_share_takes_everybody(name):
    shares = {"random": 0.0, "usual": 0.0, "holdout": 0.0} | {name: 1.0}
    assert set(arms_of(USERS[:200], Arms(**shares))) == {name}


def test_ids_are_their_own_and_sort_by_time():
    ids = [new_decision_id(NOW + timedelta(microseconds=step)) for step in range(100)]
    assert ids == sorted(ids)
    assert len({new_decision_id(NOW) for _ in range(100)}) == 100
