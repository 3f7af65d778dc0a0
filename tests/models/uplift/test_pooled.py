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
