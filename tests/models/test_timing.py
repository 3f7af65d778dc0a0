"""The hour and the channel, learnt from people's own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import DataError, ModelFileError, NotFittedError
from models.timing import Engagement, Timing, choose

PEOPLE, MESSAGES = 400, 20


def own_hours() -> np.ndarray:
    """Every second person is of the morning, the others of the evening."""
    return np.where(np.arange(PEOPLE) % 2, 9, 20)


def engagement(*, n: int = PEOPLE, strength: float = 1.0, seed: int = 0) -> Engagement:
    """Messages at random hours from 7 to 21; the second half of the channels is opened half as often."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n), MESSAGES)
    hour, channel = rng.integers(7, 22, len(person)), rng.integers(0, 2, len(person))
    near = np.abs(hour - own_hours()[person]) < 3
    chance = (0.2 + 0.5 * strength * near) / (1 + channel)
    return Engagement(
        n=n,
        channels=("email", "push"),
        person=person,
        channel=channel,
        hour=hour,
        answered=rng.random(len(person)) < chance,
        by_click=np.zeros(len(person), bool),
        active=np.zeros((n, 24)),
    )


def strangers(n: int) -> Engagement:
    told = engagement(n=1)
    none = {name: getattr(told, name)[:0] for name in ("person", "channel", "hour", "answered", "by_click")}
    return replace(told, n=n, active=np.zeros((n, 24)), **none)


@pytest.fixture(scope="module")
def told() -> Engagement:
    return engagement()


@pytest.fixture(scope="module")
def model(told: Engagement) -> Timing:
    return Timing().fit(told)


def test_people_with_an_hour_of_their_own_get_it(told: Engagement, model: Timing) -> None:
    best = choose(model.score(told).rate, allowed=model.hours).hour
    assert (np.abs(best - own_hours()) <= 2).mean() > 0.8


def test_where_the_hour_does_not_matter_rates_hardly_differ_by_hour() -> None:
    flat = engagement(strength=0.0)
    rate = Timing().fit(flat).score(flat).rate[:, 7:22]
    assert (rate.max(axis=1) - rate.min(axis=1)).mean() < 0.06


def test_a_stranger_gets_the_hours_of_everybody(told: Engagement, model: Timing) -> None:
    stranger, everybody = model.score(strangers(3)).rate, model.score(told).rate.mean(axis=0)
    assert np.allclose(stranger, stranger[0])
    assert np.abs(stranger[0] - everybody)[7:22].max() < 0.05


def test_more_history_narrows_the_interval_and_it_holds_the_rate(told: Engagement, model: Timing) -> None:
    known, unknown = model.score(told), model.score(strangers(1))
    for rates in (known, unknown):
        assert (rates.low <= rates.rate + 1e-9).all()
        assert (rates.rate <= rates.high + 1e-9).all()
    assert (known.high - known.low).mean() < 0.7 * (unknown.high - unknown.low).mean()


def test_hours_in_the_shop_tell_of_the_hour_of_who_never_answered(told: Engagement) -> None:
    active = np.zeros((PEOPLE, 24))
    active[np.arange(PEOPLE), own_hours()] = 8
    model = Timing(activity_weight=1.0).fit(replace(told, active=active))
    newcomers = strangers(2)
    newcomers.active[[0, 1], [9, 20]] = 8
    assert np.abs(model.score(newcomers).rate[:, 7:22].argmax(axis=1) + 7 - [9, 20]).max() <= 2


def test_a_persons_channel_is_shrunk_to_the_channels_own_rate(told: Engagement, model: Timing) -> None:
    known, stranger = model.score_channels(told).rate, model.score_channels(strangers(1)).rate[0]
    mean = [told.answered[told.channel == channel].mean() for channel in (0, 1)]
    assert np.allclose(stranger, mean, atol=0.03)
    assert (known[:, 0] > known[:, 1]).mean() > 0.9
    opened = np.bincount(told.person[told.channel == 0], weights=told.answered[told.channel == 0])
    assert known[opened.argmax(), 0] < (opened / np.bincount(told.person[told.channel == 0])).max()


def test_a_message_whose_opens_are_hidden_says_nothing_of_the_channel(told: Engagement, model: Timing) -> None:
    hidden = replace(told, by_click=np.ones(len(told.person), bool))
    assert np.allclose(model.score_channels(hidden).rate, model.score_channels(strangers(PEOPLE)).rate)


def test_own_history_foretells_later_answers(told: Engagement, model: Timing) -> None:
    later = engagement(seed=1)
    gain = model.log_likelihood(told, later) - model.log_likelihood(strangers(PEOPLE), later)
    assert gain.mean() > 0.03


def test_exploration_is_as_often_as_said_and_its_probability_is_logged() -> None:
    rate = np.tile(np.where(np.arange(24) == 20, 0.5, 0.1), (20_000, 1))
    allowed = np.arange(24) >= 14
    draw = np.random.default_rng(1).random(len(rate))
    choice = choose(rate, allowed=allowed, explore=0.2, draw=draw)
    assert (choice.hour == 20).mean() == pytest.approx(0.8 + 0.2 / 10, abs=0.01)
    assert choice.hour.min() >= 14
    assert set(choice.probability.round(3)) == {0.82, 0.02}
    with pytest.raises(DataError, match="no allowed hour"):
        choose(rate[:1], allowed=np.zeros(24, bool))


def test_hours_without_messages_are_not_proposed(model: Timing) -> None:
    assert np.flatnonzero(model.hours).tolist() == list(range(7, 22))


def test_save_and_load_change_nothing_and_damage_is_told(told: Engagement, model: Timing, tmp_path: Path) -> None:
    model.save(tmp_path / "timing")
    assert np.array_equal(Timing.load(tmp_path / "timing").score(told).rate, model.score(told).rate)
    assert b"person" not in (tmp_path / "timing" / "model.json").read_bytes()
    (tmp_path / "timing" / "model.json").write_text("{}")
    with pytest.raises(ModelFileError, match="damaged"):
        Timing.load(tmp_path / "timing")


def test_what_cannot_be_learnt_or_asked_is_refused(told: Engagement, model: Timing) -> None:
    with pytest.raises(NotFittedError):
        Timing().score(told)
    with pytest.raises(DataError, match="at least 50 messages"):
        Timing().fit(strangers(3))
    with pytest.raises(DataError, match="no channel 'fax'"):
        model.score(told, channel="fax")
    with pytest.raises(DataError, match="learnt of the channels"):
        model.score(replace(told, channels=("sms", "push")))


def test_a_plan_is_the_best_hour_of_the_best_channel_that_reaches_them(told: Engagement, model: Timing) -> None:
    wanted, reachable = np.zeros((PEOPLE, 24), bool), np.ones((PEOPLE, 2), bool)
    reachable[0], reachable[1] = [False, True], [False, False]
    wanted[2] = np.arange(24) == 3
    plan = model.plan(told, wanted=wanted, reachable=reachable)
    assert (plan.channel[:2].tolist(), np.isnan(plan.open_rate[:3]).tolist()) == ([1, -1], [False, True, False])
    assert plan.best_hour[2] == 3
    rates = model.score(told, channel="push")
    on_push = np.flatnonzero(plan.channel == 1)
    for found, wanted in ((plan.open_rate, rates.rate), (plan.low, rates.low), (plan.high, rates.high)):
        assert np.allclose(found[on_push], wanted[on_push, plan.best_hour[on_push]])
    assert plan.own.all()
    assert (plan.choice.hour == plan.best_hour).all()


def test_the_plan_for_who_is_not_known_is_that_for_everybody(model: Timing) -> None:
    plan = model.plan(strangers(3), wanted=np.zeros((3, 24), bool), reachable=np.ones((3, 2), bool))
    assert not plan.own.any()
    assert len(set(plan.best_hour)) == 1
    assert set(plan.channel) == {0}


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (1, 24)).filter(np.any), hnp.arrays(float, 24, elements=st.floats(0, 1)), st.floats(0, 1))
def test_chances_of_the_allowed_hours_sum_to_one_and_draws_keep_to_them(
    allowed: np.ndarray, rate: np.ndarray, explore: float
) -> None:
    n = 240
    draw = (np.arange(n) + 0.5) / n
    choice = choose(np.tile(rate, (n, 1)), allowed=allowed, explore=explore, draw=draw)
    assert allowed[0, choice.hour].all()
    chance = dict(zip(choice.hour.tolist(), choice.probability.tolist(), strict=True))
    unseen = [explore / allowed.sum()] * (allowed.sum() - len(chance))
    assert sum(chance.values()) + sum(unseen) == pytest.approx(1)
    for hour, probability in chance.items():
        assert (choice.hour == hour).mean() == pytest.approx(probability, abs=1.5 / n)
