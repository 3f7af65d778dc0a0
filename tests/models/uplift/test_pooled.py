"""One regression for all arms: what it finds, how sure it is, and that it comes back from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError
from models.uplift import PooledEffects

ARMS = ("none", "tea", "pots", "all")
WORTH = 20.0


def people(n: int, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    likes = rng.uniform(size=(n, 2))
    return pd.DataFrame({
        "leaning_tea": likes[:, 0], "leaning_pots": likes[:, 1], "noise": rng.normal(size=n),
        "country": rng.choice(["GB", "FR"], n),
    })  # fmt: skip


def chances(table: pd.DataFrame) -> np.ndarray:
    """Of an order over the message under each arm, (n, K)."""
    tea, pots = table["leaning_tea"].to_numpy(), table["leaning_pots"].to_numpy()
    return np.column_stack([np.zeros(len(table)), 0.2 * tea, 0.2 * pots, np.full(len(table), 0.09)])


def fitted(n: int = 8000, *, seed: int = 0, effect: float = 1.0, about: dict[str, str] | None = None) -> PooledEffects:
    rng = np.random.default_rng(seed + 1)
    table, arm = people(n, seed=seed), rng.integers(len(ARMS), size=n)
    orders = (rng.uniform(size=n) < effect * chances(table)[np.arange(n), arm]).astype(float)
    by_message = orders * rng.gamma(4, WORTH / 4, n)
    other = (rng.uniform(size=n) < 0.05) * rng.gamma(4, WORTH / 4, n)
    return PooledEffects().fit(
        table, arm, by_message + other, brought=orders, by_message=by_message, arms=ARMS, about=about
    )


@pytest.fixture(scope="module")
def model() -> PooledEffects:
    return fitted()


def test_effects_are_those_that_were(model: PooledEffects) -> None:
    asked = people(500, seed=9)
    true = WORTH * chances(asked)
    found = model.predict(asked)
    assert (found[:, 0] == 0).all()
    assert np.corrcoef(found[:, 1], true[:, 1])[0, 1] > 0.9
    assert np.abs(found.mean(axis=0) - true.mean(axis=0)).max() < 0.4
    gained = true[np.arange(500), found.argmax(axis=1)].mean()
    assert gained > 0.9 * true.max(axis=1).mean() > true.mean(axis=0).max()


def test_where_offers_change_nothing_nobody_is_told_apart() -> None:
    nothing = fitted(effect=0.3, seed=4)
    tea = nothing.predict(people(500, seed=9))[:, 1]
    assert tea.std() < 0.6 * WORTH * 0.2 * 0.3 + 0.1


def test_the_posterior_is_as_wide_as_it_is_wrong_and_its_chances_sum_to_one(model: PooledEffects) -> None:
    asked = people(2000, seed=7)
    mean, spread, best = model.posterior(asked)
    assert np.allclose(mean, model.predict(asked))
    assert np.allclose(best.sum(axis=1), 1)
    assert (spread[:, 0] == 0).all()
    off = np.abs(mean - WORTH * chances(asked))[:, 1:] / spread[:, 1:]
    assert (off < 1.96).mean() > 0.6
    assert fitted(2000).posterior(asked)[1][:, 1].mean() > 1.3 * spread[:, 1].mean()


def test_columns_that_arms_are_about_say_more_together() -> None:
    asked = people(1000, seed=9)
    true = WORTH * chances(asked)
    about = {"tea": "leaning_tea", "pots": "leaning_pots", "all": "not there"}
    gained = {
        told: np.mean([
            true[np.arange(1000), fitted(1200, seed=seed, about=told and about).predict(asked).argmax(axis=1)].mean()
            for seed in range(5)
        ])
        for told in (None, "about")
    }  # fmt: skip
    assert gained["about"] > gained[None]


def test_what_is_expected_differs_by_the_effects(model: PooledEffects) -> None:
    asked = people(300, seed=9)
    expected = model.expected(asked)
    assert np.allclose(expected - expected[:, :1], model.predict(asked))
    assert expected[:, 0].mean() == pytest.approx(0.05 * WORTH, abs=0.3)


def test_it_comes_back_from_its_folder(model: PooledEffects, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again, asked = PooledEffects.load(tmp_path / "m"), people(50, seed=3)
    assert all((one == other).all() for one, other in zip(again.posterior(asked), model.posterior(asked), strict=True))
    assert again.effects == model.effects
    with pytest.raises(DataError, match="leaning_tea"):
        again.predict(asked.drop(columns="leaning_tea"))
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    (tmp_path / "m" / "model.json").write_text(json.dumps({**about, "views": {}}))
    with pytest.raises(ModelFileError, match="damaged"):
        PooledEffects.load(tmp_path / "m")


def test_the_same_data_give_the_same_model() -> None:
    asked = people(20, seed=3)
    assert (fitted(1500).posterior(asked)[2] == fitted(1500).posterior(asked)[2]).all()


def one_by_one(spread: float, *, n: int = 900, times: int = 14) -> tuple[PooledEffects, np.ndarray]:
    """Learnt from people who were told of an arm each week, and each one's own readiness, (n, K): gamma around 1."""
    rng = np.random.default_rng(3)
    table, told, answered = people(n, seed=5), np.zeros((n, len(ARMS))), np.zeros((n, len(ARMS)))
    ready = rng.gamma(1 / spread, spread, (n, len(ARMS))) if spread else np.ones((n, len(ARMS)))
    chance, every = np.minimum(chances(table) * ready, 1), np.arange(n)
    rows = []
    for _ in range(times):
        arm = rng.integers(len(ARMS), size=n)
        orders = (rng.uniform(size=n) < chance[every, arm]).astype(float)
        rows.append((arm, orders, told.copy(), answered.copy()))
        told[every, arm] += 1
        answered[every, arm] += orders
    arm, orders, before, ordered = (np.concatenate(part) for part in zip(*rows, strict=True))
    tables = pd.concat([table] * times, ignore_index=True)
    money = {"brought": orders, "by_message": WORTH * orders}
    model = PooledEffects().fit(tables, arm, WORTH * orders, **money, arms=ARMS, own=(before, ordered))
    return model, ready


def test_who_ordered_over_an_arm_before_is_expected_to_again_as_far_as_people_differ() -> None:
    differing, _ = one_by_one(1.0)
    alike, _ = one_by_one(0.0)
    assert differing.shape is not None
    assert alike.shape is not None
    assert 0.5 < differing.shape < 2.5
    assert alike.shape > 6
    asked, told = people(1, seed=9), np.array([[0.0, 8.0, 8.0, 0.0]])
    ordered = np.array([[0.0, 3.0, 0.0, 0.0]])
    usual, own = differing.predict(asked)[0], differing.predict(asked, (told, ordered))[0]
    assert own[1] > 1.2 * usual[1]
    assert own[2] < 0.9 * usual[2]
    assert own[3] == usual[3]
    assert alike.predict(asked, (told, ordered))[0] == pytest.approx(alike.predict(asked)[0], rel=0.35)


def test_own_answers_lead_to_better_choices() -> None:
    model, ready = one_by_one(1.0)
    rng, asked = np.random.default_rng(8), people(900, seed=5)
    chance = np.minimum(chances(asked) * ready, 1)
    told = np.full((900, len(ARMS)), 4.0)
    ordered = rng.binomial(4, chance).astype(float)

    def worth(chosen: np.ndarray) -> float:
        return float(chance[np.arange(900), chosen].mean())

    assert worth(model.predict(asked, (told, ordered)).argmax(axis=1)) > 1.1 * worth(
        model.predict(asked).argmax(axis=1)
    )


def test_a_version_from_before_own_answers_were_learnt_is_read(tmp_path: Path) -> None:
    model, _ = one_by_one(1.0, n=300, times=6)
    model.save(tmp_path / "m")
    assert PooledEffects.load(tmp_path / "m").shape == model.shape
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    del about["shape"]
    (tmp_path / "m" / "model.json").write_text(json.dumps(about))
    old, asked, own = PooledEffects.load(tmp_path / "m"), people(5), (np.ones((5, 4)), np.ones((5, 4)))
    assert old.shape is None
    assert (old.predict(asked, own) == old.predict(asked)).all()
