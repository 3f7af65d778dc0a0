"""Uplift models find differences that are there, and none where there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError, NotFittedError
from models.uplift import UpliftModel, estimated_probabilities
from models.uplift.learners import Rows, s_learner, summed
from models.uplift.model import BELIEF, DOUBT, _believed
from models.uplift.regressors import Linear
from models.uplift.rewards import expected_rewards
from models.views import Views


def trial(seed: int, n: int = 3_000, *, heterogeneous: bool = True, n_arms: int = 2):
    """People, arms, outcomes, and the true effect of each arm."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"age": rng.uniform(20, 60, n), "plan": rng.choice(["basic", "plus", "pro"], n), "noise": rng.normal(size=n)}
    )
    arm = rng.integers(n_arms, size=n)
    bend = np.where(table["plan"] == "pro", 1.0, -0.5) + (table["age"] - 40) / 20 if heterogeneous else np.zeros(n)
    effect = np.column_stack([np.zeros(n), *(0.5 * code + bend * (2 * code - 3) for code in range(1, n_arms))])
    y = table["age"].to_numpy() / 20 + effect[np.arange(n), arm] + rng.normal(size=n)
    return table, arm, y, effect


def test_effects_are_found_arm_by_arm():
    table, arm, y, effect = trial(0, n_arms=3)
    found = UpliftModel().fit(table, arm, y, arms=["none", "mail", "call"]).predict(table)
    assert found[:, 0].tolist() == [0.0] * len(table)
    for code in (1, 2):
        assert np.corrcoef(found[:, code], effect[:, code])[0, 1] > 0.95
        assert np.sqrt(np.mean((found[:, code] - effect[:, code]) ** 2)) < 0.35


@pytest.mark.parametrize("learner", ["S", "T", "X", "DR"])
@pytest.mark.parametrize("family", ["linear", "trees"])
def test_every_learner_finds_them_by_itself(learner, family):
    table, arm, y, effect = trial(1)
    model = UpliftModel(learners=[learner], families=[family]).fit(table, arm, y)
    assert np.corrcoef(model.predict(table)[:, 1], effect[:, 1])[0, 1] > 0.8
    assert model.effects[0].differs < 1e-6


def test_where_people_do_not_differ_the_answer_is_the_average_for_nearly_all():
    kept = []
    for seed in range(6):
        table, arm, y, _ = trial(seed, n=1_500, heterogeneous=False)
        model = UpliftModel(families=["linear"]).fit(table, arm, y)
        found = model.predict(table)[:, 1]
        assert found.mean() == pytest.approx(0.5, abs=0.2)
        kept.append(found.std())
    assert np.median(kept) < 0.06
    assert min(kept) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("learner", ["S", "T", "X", "DR"])
def test_no_learner_is_borne_out_by_noise_that_it_knew(learner):
    rng, n, p_values = np.random.default_rng(0), 800, []
    for seed in range(30):
        table = pd.DataFrame(rng.normal(size=(n, 8)), columns=list("abcdefgh"))
        arm = rng.integers(2, size=n)
        y = table["a"].to_numpy() + 0.3 * arm + rng.normal(size=n)
        model = UpliftModel(learners=[learner], families=["linear"]).fit(table, arm, y, seed=seed)
        p_values.append(model.effects[0].differs)
    assert sum(p < 0.05 for p in p_values) <= 4


def test_the_average_is_right_where_chances_differ_and_are_told():
    rng = np.random.default_rng(2)
    n = 6_000
    table = pd.DataFrame({"old": rng.integers(2, size=n), "noise": rng.normal(size=n)})
    p = np.where(table["old"] == 1, 0.8, 0.2)
    arm = (rng.random(n) < p).astype(int)
    y = 2 * table["old"].to_numpy() + 0.3 * arm + rng.normal(0, 0.5, n)
    estimated = estimated_probabilities(table, arm, n_arms=2)
    assert estimated.probabilities[:, 1] == pytest.approx(p, abs=0.05)
    for chances in (np.column_stack([1 - p, p]), estimated.probabilities):
        (effect,) = UpliftModel(families=["linear"]).fit(table, arm, y, probabilities=chances).effects
        assert abs(effect.average - 0.3) < 4 * effect.standard_error < 0.15


def test_predictions_survive_a_round_trip_and_damage_is_told(tmp_path):
    table, arm, y, _ = trial(3, n=1_000)
    model = UpliftModel(learners=["S", "X"]).fit(table, arm, y, arms=["none", "mail"])
    model.save(tmp_path / "uplift")
    loaded = UpliftModel.load(tmp_path / "uplift")
    strange = table.head(5).assign(plan=["basic", "never seen", None, "pro", "plus"])
    for asked in (table, strange):
        np.testing.assert_allclose(loaded.predict(asked), model.predict(asked), atol=1e-9)
        np.testing.assert_allclose(loaded.expected(asked), model.expected(asked), atol=1e-9)
    assert (loaded.arms, loaded.effects, loaded.weights) == (model.arms, model.effects, model.weights)
    trees = tmp_path / "uplift" / "trees.txt"
    trees.write_text(trees.read_text()[:-50])
    with pytest.raises(ModelFileError, match=r"trees\.txt"):
        UpliftModel.load(tmp_path / "uplift")


def test_the_same_seed_gives_the_same_model():
    table, arm, y, _ = trial(4, n=1_000)
    one, other = (UpliftModel(learners=["S"]).fit(table, arm, y, seed=1).predict(table) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_what_is_believed_is_the_slope_where_it_is_known_and_half_where_nothing_is():
    rng = np.random.default_rng(5)
    predicted = rng.normal(size=5_000)
    predicted -= predicted.mean()
    true, flat = (_believed(predicted, slope * predicted + rng.normal(size=5_000)) for slope in (0.9, -0.2))
    assert BELIEF < true.believed < true.slope
    assert true.believed == pytest.approx(0.9, abs=0.05)
    assert (flat.believed, flat.differs > 0.99) == (0, True)
    untold = _believed(predicted / 1_000, rng.normal(size=5_000))
    assert untold.slope_error > 5 * DOUBT
    assert untold.believed == pytest.approx(BELIEF, abs=0.2)


def test_what_is_bent_in_the_outcome_is_no_effect_to_the_linear_s_learner():
    rng, n = np.random.default_rng(0), 4_000
    matrix, arm = rng.normal(size=(n, 2)), rng.integers(2, size=n)
    bent = 3 * matrix[:, 0] * matrix[:, 1]
    rows = Rows(matrix, arm, bent + 0.3 * arm + rng.normal(size=n), np.full((n, 2), 0.5), bent[:, None] + [0.0, 0.3])
    (terms,) = s_learner(Linear(Views(matrix)), rows)
    assert summed(terms, matrix, rows.level).std() < 0.1


@pytest.mark.parametrize(
    ("arm", "y", "why"),
    [
        (np.zeros(200, dtype=int), np.tile([0.0, 1.0], 100), "a control and at least one other"),
        (np.ones(200, dtype=int), np.tile([0.0, 1.0], 100), "arm 0: 0 people"),
        (np.repeat([0, 1], [195, 5]), np.tile([0.0, 1.0], 100), "arm 1: 5 people"),
        (np.tile([0, 1], 100), np.zeros(200), "0 for everybody"),
        (np.tile([0, 1], 100), np.append(np.ones(199), np.nan), "put 0 where nothing came"),
    ],
)
def test_experiments_that_teach_nothing_are_refused(arm, y, why):
    with pytest.raises(DataError, match=why):
        UpliftModel().fit(pd.DataFrame({"x": np.arange(200.0) % 17}), arm, y)


def test_missing_chances_and_questions_before_learning_are_refused():
    table, arm, y, _ = trial(6, n=500)
    for chances in (np.array([0.0, 1.0]), np.full((500, 2), np.nan)):
        with pytest.raises(DataError, match="chance of each arm"):
            UpliftModel().fit(table, arm, y, probabilities=chances)
    with pytest.raises(NotFittedError):
        UpliftModel().predict(table)


def test_negative_money_is_learnt_from():
    table, arm, y, effect = trial(7)
    found = UpliftModel(families=["linear"]).fit(table, arm, y - 5).predict(table)
    assert np.corrcoef(found[:, 1], effect[:, 1])[0, 1] > 0.9


def test_rewards_are_expected_by_action_and_an_unseen_action_earns_the_mean():
    rng = np.random.default_rng(8)
    table, action = pd.DataFrame({"age": rng.uniform(20, 60, 2_000)}), rng.integers(2, size=2_000)
    reward = (rng.random(2_000) < np.where(action == 1, table["age"] / 100, 0.2)).astype(float)
    found = expected_rewards(table, action, reward, n_actions=3)
    old, young = table["age"] > 50, table["age"] < 30
    assert found[old, 1].mean() == pytest.approx(0.55, abs=0.06)
    assert found[young, 1].mean() == pytest.approx(0.25, abs=0.06)
    assert found[:, 2] == pytest.approx(reward.mean(), abs=0.02)


def test_rewards_are_as_right_about_those_whom_the_log_hardly_gave_an_action():
    rng = np.random.default_rng(9)
    table, n = pd.DataFrame({"age": rng.uniform(20, 60, 20_000)}), 20_000
    chance = np.where(table["age"] > 40, 0.9, 0.02)
    action = (rng.random(n) < chance).astype(int)
    probability = np.where(action == 1, chance, 1 - chance)
    truth = ((table["age"].to_numpy() - 40) / 20) ** 2
    log = table, action, truth + rng.normal(0, 0.1, n)
    plain, weighted = (
        expected_rewards(*log, n_actions=2, probability=given)[:, 1].mean() for given in (None, probability)
    )
    assert abs(weighted - truth.mean()) < 0.3 * abs(plain - truth.mean())
