"""Journeys: what is due when, what ends them, and that nobody gets a step twice however it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.settings import Action, ActionStep
from serving.decisions.journeys import Due, Handed, Waiting, next_step, settle
from serving.decisions.triggers import Beginning, Names, read

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NAMES = Names(features=("cart_items", "big"), labels=("churn",))


def trigger(name="cart", **declared):
    """A trigger with two steps, after 4 hours and after a day."""
    steps = (ActionStep(wait="4 hours"), ActionStep(wait="1 day"))
    [found] = read({name: Action(**{"events": ("product_added",), "steps": steps, **declared})}, NAMES).on
    return found


CART = trigger()


ADDED = Beginning(START)


def ask(now, *, of=CART, beginning=ADDED, log=(), goal_at=None, holds=lambda _: True, again_days=30):
    """Where ann is."""
    return next_step("ann", of, beginning, log, goal_at=goal_at, holds=holds, now=now, again_days=again_days)


def handed(due, at, *, sent=True, nothing=False):
    """The log's entry of a step."""
    return Handed(due.decision_id, due.trigger.name, due.beginning, due.number, at, sent=sent, nothing=nothing)


def test_a_step_waits_comes_due_and_is_given_up():
    assert ask(START + 3 * HOUR).why == "waits"
    assert ask(START + 4 * HOUR).number == 0
    later = ask(START + 4 * HOUR + 3 * DAY)  # the first is given up, the second is due
    assert later.number == 1
    assert ask(START + 8 * DAY).why == "late"


def test_the_next_step_waits_from_when_the_one_before_was_handed_out():
    first = ask(START + 30 * HOUR)
    log = [handed(first, START + 30 * HOUR)]
    assert ask(START + 53 * HOUR, log=log).why == "waits"
    assert ask(START + 54 * HOUR, log=log).number == 1
    log.append(handed(ask(START + 54 * HOUR, log=log), START + 54 * HOUR))
    assert ask(START + 99 * HOUR, log=log).why == "over"


def test_asked_again_it_is_the_same_step_under_the_same_id_until_it_is_sent_or_a_day_is_over():
    first = ask(START + 5 * HOUR)
    assert ask(START + 6 * HOUR).decision_id == first.decision_id  # another worker, which saw no log
    unsent = [handed(first, START + 5 * HOUR, sent=False)]
    again = ask(START + 20 * HOUR, log=unsent)
    assert (again.decision_id, again.handed) == (first.decision_id, unsent[0])
    sent = [handed(first, START + 5 * HOUR)]
    assert ask(START + 20 * HOUR, log=sent).why == "waits"
    assert ask(START + 29 * HOUR, log=unsent).number == 1


@pytest.mark.parametrize(
    ("change", "why"), [({"goal_at": START + HOUR}, "goal"), ({"holds": lambda _: False}, "condition")]
)
def test_a_goal_or_a_condition_ends_it(change, why):
    assert ask(START + 5 * HOUR, of=trigger(condition="big > 1"), **change).why == why


def test_an_exit_ends_it_even_what_was_handed_out():
    of = trigger(exit="cart_items == 0")
    first = ask(START + 5 * HOUR, of=of, holds=lambda _: False)
    assert ask(START + 6 * HOUR, of=of, log=[handed(first, START + 5 * HOUR, sent=False)]).why == "exit"


def test_a_goal_before_the_beginning_is_none():
    assert isinstance(ask(START + 5 * HOUR, goal_at=START - HOUR), Due)


def test_a_step_that_the_settings_lost_since_is_not_handed_out_again():
    second = Due(CART, 1, ADDED, "the second")
    log = [handed(second, START + HOUR, sent=False)]
    assert ask(START + 2 * HOUR, log=log).decision_id == "the second"
    one_step = trigger(steps=(ActionStep(wait="4 hours"),))
    assert ask(START + 2 * HOUR, of=one_step, log=log).why == "over"


def test_form_answers_branch_a_journey():
    steps = (ActionStep(condition="big == 1", offer="best"), ActionStep(condition="big == 0"))
    of = trigger(events=("form_submitted",), steps=steps)
    for large in (True, False):
        found = ask(START + HOUR, of=of, holds=lambda condition, large=large: ("1" in condition.text) == large)
        assert found.number == (0 if large else 1)
        log = [handed(found, START + HOUR)]
        for at in (START + 2 * HOUR, START + 9 * DAY):  # a step that was not for them is not late
            after = ask(at, of=of, log=log, holds=lambda c, large=large: ("1" in c.text) == large)
            assert after.why == "over"


def test_a_new_beginning_counts_only_once_the_old_journey_is_old_enough():
    log = [handed(ask(START + 4 * HOUR), START + 4 * HOUR)]
    log.append(handed(ask(START + 28 * HOUR, log=log), START + 28 * HOUR))
    anew = Beginning(START + 10 * DAY)
    assert ask(START + 11 * DAY, beginning=anew, log=log).why == "re_entry"
    assert ask(START + 11 * DAY, beginning=anew, log=log, again_days=7).number == 0
    assert ask(START + 60 * DAY, log=log).why == "over"  # nothing began it anew


def test_a_journey_that_is_longer_than_it_takes_to_begin_anew_goes_on_to_its_last_step():
    of = trigger(steps=(ActionStep(), ActionStep(wait="20 days"), ActionStep(wait="20 days")))
    log = []
    for number, day in enumerate((0, 20, 40)):
        found = ask(START + day * DAY, of=of, log=log)
        assert found.number == number
        log.append(handed(found, START + day * DAY))
    anew = Beginning(START + 35 * DAY)
    assert ask(START + 35 * DAY, of=of, beginning=anew, log=log[:2]).number == 0
    risk = trigger(events=(), condition="churn > 0.6", steps=of.declared.steps)
    asked = {"of": risk, "beginning": None}
    log = []
    for number, day in enumerate((0, 20, 40, 60)):
        found = ask(START + day * DAY, **asked, log=log)
        assert found.number == number % 3
        log.append(handed(found, START + day * DAY))


def test_what_begins_by_a_condition_begins_when_it_is_seen_to_hold():
    risk = trigger(events=(), condition="churn > 0.6", steps=(ActionStep(), ActionStep(wait="2 days")))
    asked = {"of": risk, "beginning": None}
    assert ask(START, **asked, holds=lambda _: False) is None
    first = ask(START, **asked)
    assert (first.number, first.beginning.at) == (0, START)
    assert ask(START + HOUR, **asked).decision_id == first.decision_id  # seen by another at once: one step
    log = [handed(first, START)]
    assert ask(START + DAY, **asked, log=log).why == "waits"
    assert ask(START + 2 * DAY, **asked, log=log).number == 1
    anew = ask(START + 40 * DAY, **asked, log=log)
    assert anew.number == 0
    assert anew.decision_id != first.decision_id


def test_what_begins_by_a_condition_has_not_begun_for_whom_no_step_before_a_wait_is():
    steps = (ActionStep(condition="big == 1"), ActionStep(condition="big == 0"), ActionStep(wait="2 days"))
    asked = {"of": trigger(events=(), condition="churn > 0.6", steps=steps), "beginning": None}
    other = ask(START, **asked, holds=lambda condition: condition.text != "big == 1")
    assert other.number == 1
    log = [handed(other, START)]
    assert ask(START + 2 * DAY, **asked, log=log, holds=lambda condition: condition.text != "big == 1").number == 2
    assert ask(START, **asked, holds=lambda condition: "big" not in condition.text) is None


def test_a_step_by_rhythm_waits_for_the_persons_own():
    of = trigger(events=("order",), steps=(ActionStep(wait="0.5 rhythms"),))
    assert ask(START + 60 * DAY, of=of).reason == "there is no rhythm yet"
    tea = Beginning(START, "tea", ("tea",), 20.0)
    assert ask(START + 9 * DAY, of=of, beginning=tea).why == "waits"
    assert ask(START + 10 * DAY, of=of, beginning=tea).number == 0


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.data())
@settings(max_examples=40, deadline=None)
def test_no_step_is_handed_out_twice_whenever_it_is_asked_and_whatever_happens(hours, data):
    """Each asking hands out what is new; ids never come back, but for what may be lost."""
    now, beginning, log, ids = START, Beginning(START), [], set()
    for passed in hours:
        now += passed * HOUR
        if data.draw(st.booleans()):
            beginning = Beginning(now - HOUR)
        found = ask(now, beginning=beginning, log=log, again_days=5)
        if isinstance(found, Due) and found.handed is None:
            assert found.decision_id not in ids
            ids.add(found.decision_id)
            log.append(handed(found, now, sent=data.draw(st.booleans())))
        elif isinstance(found, Due):
            assert now - found.handed.at < timedelta(hours=24)
            assert not found.handed.sent
    per_journey = [(entry.beginning.at, entry.step) for entry in log]
    assert len(per_journey) == len(set(per_journey))
    begins = sorted({entry.beginning.at: entry.at for entry in reversed(log)}.values())
    assert all(later - earlier >= 5 * DAY for earlier, later in pairwise(begins))


def test_a_conflict_is_settled_by_what_is_expected_else_by_the_shops_order():
    early = trigger("early", priority=1)
    late = trigger("late", priority=9)
    due = [ask(START + 5 * HOUR, of=of) for of in (early, late)]
    assert settle(due, [8.0, 3.0], arm="model", user_id="ann").first == 0
    assert settle(due, [8.0, float("nan")], arm="model", user_id="ann") == settle(
        due, [8.0, 3.0], arm="usual", user_id="ann"
    )
    assert settle(due, [8.0, 3.0], arm="usual", user_id="ann").first == 1
    assert settle(due, [5.0, 5.0], arm="model", user_id="ann").first == 1
    drawn = [settle(due, [8.0, 3.0], arm="random", user_id=f"u{number}") for number in range(200)]
    assert {one.probability for one in drawn} == {0.5}
    assert 70 < sum(one.first for one in drawn) < 130
    swapped = [settle(due[::-1], [3.0, 8.0], arm="random", user_id=f"u{number}").first for number in range(200)]
    assert [one.first for one in drawn] == [1 - first for first in swapped]


def test_nothing_is_told_of_what_never_began():
    assert ask(START, beginning=None) is None
    assert isinstance(ask(START), Waiting)
