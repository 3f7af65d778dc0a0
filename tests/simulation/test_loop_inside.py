"""The shop's own side: it decides by the service's rules, learns from what it logged, and reports what is true."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import DataError
from features.rules import parse_rule
from serving.channels import refuse_channel
from simulation.loop import Loop
from simulation.loop_inside import Inside, shop_of
from simulation.world import World

RULE = "orders_life > 1 -> offer-1 else offer-2"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory):
    """A shop after two weeks under the usual rule, and its decisions by week."""
    world = World.load()
    loop = Loop(world, users=700, days=40, weeks=3)
    shop = Inside(loop, shop_of(tmp_path_factory.mktemp("loop"), world=world, usual=RULE, salt="test"))
    weeks = []
    for week in range(2):
        weeks.append(shop.decide(week))
        shop.live(week, weeks[-1])
    return loop, shop, weeks


def test_everybody_who_can_be_reached_is_decided_for_once_a_week(lived):
    loop, shop, weeks = lived
    assert not shop.decisions["decision_id"].duplicated().any()
    assert set(shop.decisions["arm"]) == {"model", "random", "usual", "holdout"}
    both = weeks[0].merge(weeks[1], on="user_id")
    assert (both["arm_x"] == both["arm_y"]).all()
    assert loop.starts(0) == weeks[0]["at"].iloc[0]


def test_arms_get_what_they_should(lived):
    _, shop, weeks = lived
    last = weeks[-1].set_index("user_id")
    rule = shop.usual
    assert (last["chosen"][last["arm"] == "holdout"] == "none").all()
    for arm in ("usual", "model"):  # nothing was learnt: the model arm follows the rule too
        told = last["chosen"][last["arm"] == arm]
        assert (told == [rule[user] for user in told.index]).all()
    even = last[last["arm"] == "random"]
    assert np.allclose(even["probability"], 1 / 7)
    assert even["chosen"].nunique() > 4


def test_the_usual_rule_is_asked_about_what_is_known_then(lived):
    loop, shop, _ = lived
    known = shop.features(loop.starts(1)).reindex(list(shop.usual))
    said = parse_rule(RULE).codes(known, shop.arms)
    assert [shop.arms[code] for code in said] == list(shop.usual.values())


def test_what_is_learnt_from_was_drawn_and_its_outcome_is_known(lived):
    loop, shop, weeks = lived
    rows = shop.rows(loop.starts(2))
    assert np.allclose(rows.probabilities.sum(axis=1), 1)
    drawn = sum((week["arm"] == "random").sum() for week in weeks)
    assert int((rows.at >= loop.begin).sum()) == drawn
    assert len(rows.table) == len(rows.at) == len(rows.outcome)
    assert shop.rows(loop.starts(1)).at.max() < loop.starts(1)


def test_the_report_has_an_interval_of_what_was_gained(lived):
    loop, shop, _ = lived
    found = shop.gain(loop.starts(2))
    assert found is not None
    assert found.low < found.estimate < found.high


def test_a_horizon_beyond_the_week_is_refused(tmp_path):
    world = World.load()
    shop = shop_of(tmp_path, world=world)
    text = shop.settings_file.read_text().replace("horizon_days = 7", "horizon_days = 14")
    shop.settings_file.write_text(text)
    with pytest.raises(DataError, match="longer than the week"):
        Inside(Loop(world, users=60, days=40, weeks=1), type(shop).open(tmp_path))


def test_a_channel_that_only_this_world_has_may_be_asked_for(tmp_path):
    world = World.load()
    letter = world.messages.channels[0].model_copy(update={"name": "letter"})
    messages = world.messages.model_copy(update={"channels": (letter, *world.messages.channels[1:])})
    shop = shop_of(tmp_path / "shop", world=world.model_copy(update={"messages": messages}))
    refuse_channel("letter", shop.settings)


def test_a_world_that_leaves_nobody_for_the_model_is_refused(tmp_path):
    world = World.load()
    told = world.experiment.model_copy(update={"random_share": 0.9, "holdout_share": 0.1})
    with pytest.raises(DataError, match=r"leave 0\.00 for the model"):
        shop_of(tmp_path, world=world.model_copy(update={"experiment": told}))


def test_thirty_people_are_too_few_to_learn_from(tmp_path):
    world = World.load()
    loop = Loop(world, users=30, days=40, weeks=1)
    learnt = Inside(loop, shop_of(tmp_path, world=world)).learn(loop.starts(0))
    assert learnt.policy == "usual"
    assert "too few to learn from" in learnt.note
