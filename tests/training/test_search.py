"""The search: every family tried, cut off and taken up again, held to its time, blending only what gains."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from data.errors import DataError
from data.histories import Histories
from data.interactions import Attributes, Interactions
from evaluation.intervals import Interval
from models.recommenders import MODELS
from models.recommenders.base import Recommender
from models.recommenders.popularity import Popularity
from training.blending import blend_weights
from training.judging import JudgedRows, carve_last, carve_random
from training.recipes import Recipe
from training.search import Found, Trial, search
from training.spaces import SPACES, start_of

QUICK = ["popularity", "repeat", "item_neighbours"]


@pytest.fixture(scope="module")
def taken() -> Interactions:
    """300 people who keep to one of three tastes, of ten items each, some of which are more popular."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(300), 8)
    place = np.minimum(rng.geometric(0.2, len(user)) - 1, 9)
    frame = pd.DataFrame(
        {
            "user_id": [f"u{code:03}" for code in user],
            "item_id": [f"i{item:02}" for item in user % 3 * 10 + place],
            "at": np.tile(np.arange(8), 300) * 86_400,
        }
    )
    return Interactions.from_frame(frame)


@pytest.fixture(scope="module")
def rows(taken: Interactions) -> list[JudgedRows]:
    later = carve_last(taken)
    return [carve_last(later.known), later]


def told(found: Found) -> list[tuple[object, ...]]:
    """The trials, but for how long they took."""
    return [(trial.number, str(trial.recipe), trial.quality, trial.state, trial.reason) for trial in found.trials]


@pytest.mark.parametrize("name", SPACES)
def test_every_range_holds_the_defaults_and_makes_a_model(name: str) -> None:
    import optuna

    model, first = start_of(name)
    usual = {**MODELS[model]().params, **first}
    trial = optuna.create_study().ask()
    space = SPACES[name]
    assert set(space(trial)) <= set(usual)
    for param, distribution in trial.distributions.items():
        assert distribution._contains(distribution.to_internal_repr(usual[param])), (param, usual[param])
    for seed in range(5):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        MODELS[model](**space(study.ask()))


def test_defaults_come_first_and_the_best_is_found_and_held_against_the_baseline(rows: list[JudgedRows]) -> None:
    found = search(rows, families=QUICK, trials=6, k=5, blend=False, resamples=200)
    assert [trial.recipe.model for trial in found.trials[:3]] == QUICK
    assert all(not trial.recipe.params for trial in found.trials[:3])
    assert len(found.trials) == 6
    assert found.recipe.model == "item_neighbours"
    assert found.metric == "ndcg_at_5"
    assert found.baseline is not None
    assert found.baseline.is_baseline
    assert found.gain is not None
    assert found.gain.low > 0
    again = np.concatenate(
        [
            part.judge(found.recipe.fit(part.known, 0), exclude_seen=found.recipe.exclude_seen, k=5).values(
                "ndcg", "warm"
            )
            for part in rows
        ]
    )
    assert found.quality.estimate == pytest.approx(float(again.mean()))
    assert list(found.frame().columns)[:4] == ["number", "family", "recipe", "ndcg_at_5"]


def test_only_what_is_surely_better_takes_the_place_of_what_there_is(taken: Interactions) -> None:
    few = carve_last(taken, max_users=30, seed=0)
    found = search([few], families=["item_neighbours", "als"], trials=12, k=5, blend=False, resamples=200)
    complete = [trial for trial in found.trials if trial.quality is not None]
    left = [trial for trial in complete if trial.reason]
    assert left
    assert all("not surely better than" in trial.reason for trial in left)
    for family in ("item_neighbours", "als"):
        held = [trial.quality.estimate for trial in complete if trial.family == family and not trial.reason]
        assert held == sorted(held)
    assert found.recipe == found.best_by_family()[0].recipe


def test_who_is_judged_at_two_moments_is_one_person(taken: Interactions) -> None:
    """Of the same people at the same moment twice nothing more is known than at once."""
    once = carve_last(taken)
    (one, two) = (search(rows, families=["popularity"], trials=1, k=5) for rows in ([once], [once, once]))
    assert (two.quality.low, two.quality.high) == pytest.approx((one.quality.low, one.quality.high))


def test_the_same_seed_tries_the_same_and_another_one_something_else(rows: list[JudgedRows]) -> None:
    first, again, other = (
        search(rows, families=QUICK, trials=6, seed=seed, resamples=100, blend=False) for seed in (1, 1, 2)
    )
    assert told(first) == told(again)
    assert told(first) != told(other)


@pytest.mark.parametrize("cut_off_at", [4, 9])
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(
    rows: list[JudgedRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off_at: int
) -> None:
    """At 4 while the defaults are tried, at 9 while TPE proposes; each fit is one of two of a trial."""
    asked = {"families": QUICK, "trials": 7, "resamples": 100, "seed": 3}
    whole = search(rows, **asked)  # type: ignore[arg-type]
    fits, fit = [], Recipe.fit

    def stopped(recipe: Recipe, *args: object, **kwargs: object) -> Recommender:
        fits.append(recipe)
        if len(fits) == cut_off_at:
            raise KeyboardInterrupt
        return fit(recipe, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Recipe, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(rows, **asked, folder=tmp_path)  # type: ignore[arg-type]
    fits.clear()
    monkeypatch.setattr(Recipe, "fit", lambda *args, **kwargs: (fits.append(args[0]), fit(*args, **kwargs))[1])
    seen: list[Trial] = []
    found = search(rows, **asked, folder=tmp_path, on_trial=seen.append)  # type: ignore[arg-type]
    assert told(found) == told(whole)
    assert found.recipe == whole.recipe
    assert seen == list(found.trials)
    assert len(fits) < 2 * 7

    fits.clear()
    once_more = search(rows, **asked, folder=tmp_path)  # type: ignore[arg-type]
    assert told(once_more) == told(whole)
    assert not fits


def test_a_search_that_was_cut_off_while_it_kept_a_trial_does_not_hold_that_against_itself(
    rows: list[JudgedRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    asked = {"families": QUICK, "trials": 5, "resamples": 100, "seed": 3, "blend": False}
    whole = search(rows, **asked)  # type: ignore[arg-type]

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "tell", cut_off)
        with pytest.raises(KeyboardInterrupt):
            search(rows, **asked, folder=tmp_path)  # type: ignore[arg-type]
    found = search(rows, **asked, folder=tmp_path)  # type: ignore[arg-type]
    assert told(found) == told(whole)
    assert [trial.family for trial in found.best_by_family()] == [trial.family for trial in whole.best_by_family()]


def test_other_rows_begin_anew(rows: list[JudgedRows], tmp_path: Path) -> None:
    search(rows, families=["popularity"], trials=1, folder=tmp_path)
    checkpoint = tmp_path / "checkpoint1.member0"  # as a search that was cut off leaves it
    checkpoint.touch()
    search(rows, families=["popularity"], trials=1, folder=tmp_path)
    assert checkpoint.exists()
    found = search(rows[:1], families=["popularity"], trials=1, folder=tmp_path, resamples=100)
    alone = search(rows[:1], families=["popularity"], trials=1, resamples=100)
    assert told(found) == told(alone)
    assert not checkpoint.exists()


def test_other_code_begins_anew(rows: list[JudgedRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(rows, families=["popularity"], trials=1, folder=tmp_path)
    kept = tmp_path / "models" / "popularity" / "best.json"
    stale = json.loads(kept.read_text()) | {"score": 2.0}  # as an older version's model had it
    kept.write_text(json.dumps(stale))
    search(rows, families=["popularity"], trials=1, folder=tmp_path)
    assert json.loads(kept.read_text())["score"] == 2
    monkeypatch.setattr("training.search.code_hash", lambda: "upgraded")
    search(rows, families=["popularity"], trials=1, folder=tmp_path)
    assert json.loads(kept.read_text())["score"] < 1


def test_items_of_which_something_else_is_known_begin_anew(rows: list[JudgedRows], tmp_path: Path) -> None:
    asked: dict[str, Any] = {"families": ["popularity", "content"], "trials": 2, "blend": False, "folder": tmp_path}
    search(rows, **asked)
    cups = Attributes(("category=cups",), sparse.csr_matrix(np.ones((len(rows[0].known.items), 1), np.float32)))
    found = search([replace(part, known=replace(part.known, attributes=cups)) for part in rows], **asked)
    assert [trial.state for trial in found.trials] == ["complete", "complete"]


class Broken(Popularity):
    """Cannot learn."""

    name = "broken"
    error: BaseException = DataError("broken: needs what is not there")

    def _fit(self, interactions: Interactions) -> None:  # noqa: ARG002
        raise self.error


class Slow(Popularity):
    """Learns for ever."""

    name = "slow"

    def _fit(self, interactions: Interactions) -> None:  # noqa: ARG002
        for _ in range(6_000):
            time.sleep(0.01)


@pytest.fixture
def with_strange_families(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Broken, Slow):
        monkeypatch.setitem(MODELS, kind.name, kind)
        monkeypatch.setitem(SPACES, kind.name, lambda _trial: {})  # type: ignore[arg-type]


@pytest.mark.usefixtures("with_strange_families")
@pytest.mark.parametrize("error", [DataError("needs attributes"), MemoryError(), np.linalg.LinAlgError("singular")])
def test_a_family_that_fails_is_told_and_does_not_end_the_search(
    rows: list[JudgedRows], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Broken, "error", error)
    found = search(rows, families=["broken", "popularity"], trials=4, resamples=100)
    assert [trial.state for trial in found.trials] == ["failed", *["complete"] * 3]
    assert found.trials[0].reason
    assert found.trials[0].quality is None
    assert found.recipe.model == "popularity"
    with pytest.raises(DataError, match=r"no recommender could be fitted\. broken: "):
        search(rows, families=["broken"], trials=2)


@pytest.mark.usefixtures("with_strange_families")
def test_the_time_limit_holds_and_keeps_time_for_refits(rows: list[JudgedRows]) -> None:
    started = time.monotonic()
    found = search(rows, families=["slow", "popularity"], minutes=0.08, resamples=100, refits=1)
    assert time.monotonic() - started < 60 * 0.08 + 1.5
    slow = found.trials[0]
    assert slow.state == "out of time"
    assert slow.seconds < 60 * 0.08 / 2
    assert "fitted again" in slow.reason
    assert found.recipe.model == "popularity"


def test_an_import_is_not_cut_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    from training.search import OutOfTime, at_most

    (tmp_path / "slow_to_import.py").write_text(
        "import time\nfor _ in range(40):\n    time.sleep(0.01)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def import_and_wait() -> None:
        with at_most(0.1):
            importlib.import_module("slow_to_import")
            time.sleep(30)

    with pytest.raises(OutOfTime):
        import_and_wait()
    assert sys.modules["slow_to_import"].whole


def test_no_time_at_all_says_so(rows: list[JudgedRows]) -> None:
    with pytest.raises(DataError, match=r"no recommender could be fitted\. popularity: no trial of more than 0 s"):
        search(rows, families=["popularity"], minutes=0)


def test_a_trial_that_lags_behind_after_the_first_rows_is_cut_short(rows: list[JudgedRows]) -> None:
    found = search(rows, families=["popularity", "item_neighbours"], trials=25, resamples=100, blend=False)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    assert all("median" in trial.reason for trial in pruned)


class Half(Recommender):
    """Knows what comes next of every second user, told by a mark in the history, and nothing of the others."""

    serves_cold_users = True
    parity = 0

    def __init__(self, *, noise: float = 0.5) -> None:
        self.noise = noise

    def _fit(self, interactions: Interactions) -> None:
        pass

    def _score(self, histories: Histories, _groups: object) -> np.ndarray:
        rng = np.random.default_rng(len(histories) + self.parity)
        first = histories.item[histories.indptr[:-1]]
        scores = rng.normal(scale=self.noise, size=(len(histories), histories.n_items)).astype(np.float32)
        knows = first % 2 == self.parity
        scores[knows, (first[knows] + 1) % histories.n_items] += 2
        return scores


class Even(Half):
    name = "even"
    parity = 0


class Odd(Half):
    name = "odd"
    parity = 1


@pytest.fixture
def complementary(monkeypatch: pytest.MonkeyPatch) -> JudgedRows:
    """What comes next is the item after the last; one model knows it after even items, one after odd ones."""
    for kind in (Even, Odd):
        monkeypatch.setitem(MODELS, kind.name, kind)
        monkeypatch.setitem(SPACES, kind.name, lambda _trial: {})  # type: ignore[arg-type]
    first = np.random.default_rng(1).integers(0, 50, 400)
    item = np.column_stack([first, (first + 1) % 50]).ravel()
    frame = pd.DataFrame(
        {
            "user_id": [f"u{user:03}" for user in np.repeat(np.arange(400), 2)],
            "item_id": [f"i{code:02}" for code in item],
            "at": np.tile([0, 1], 400),
        }
    )
    return carve_last(Interactions.from_frame(frame))


def test_the_best_families_are_searched_and_the_others_left_alone(
    complementary: JudgedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(usual: float) -> type[Recommender]:
        class Noisy(Even):
            name = f"noise {usual}"

            def __init__(self, *, noise: float = usual) -> None:
                super().__init__(noise=noise)

        return Noisy

    for kind in map(noisy, (3.0, 0.5, 2.5, 1.0, 1.5, 2.0)):
        monkeypatch.setitem(MODELS, kind.name, kind)
        monkeypatch.setitem(SPACES, kind.name, lambda trial: {"noise": trial.suggest_float("noise", 0.5, 3)})
    families = [name for name in SPACES if name.startswith("noise")]
    found = search([complementary], families=families, trials=30, exclude_seen=[True], resamples=100, blend=False)
    first, drawn = found.trials[:6], [trial.family for trial in found.trials[6:]]
    by_quality = sorted((trial.quality.estimate, trial.family) for trial in first if trial.quality)
    assert [family for _, family in by_quality[:2]] == ["noise 3.0", "noise 2.5"]
    assert not {"noise 3.0", "noise 2.5"} & set(drawn)
    assert len(set(drawn)) > 1


def test_models_that_know_different_things_are_blended(complementary: JudgedRows) -> None:
    found = search([complementary], families=["even", "odd"], trials=2, exclude_seen=[True], resamples=200)
    assert found.recipe.model == "blend"
    assert {member["model"] for member in found.recipe.params["members"]} == {"even", "odd"}
    assert sum(found.recipe.params["weights"]) == pytest.approx(1)
    assert found.quality.estimate > max(t.quality.estimate for t in found.trials[:2] if t.quality) + 0.1
    refitted = found.recipe.fit(complementary.known, 0)
    quality = complementary.judge(refitted, exclude_seen=True)
    assert quality.interval("ndcg").estimate == pytest.approx(found.quality.estimate)


def test_a_blend_ends_in_time_for_the_refit(complementary: JudgedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.search.blend_weights", lambda *_, **__: time.sleep(60))
    started = time.monotonic()
    found = search([complementary], families=QUICK, trials=2, minutes=0.1, exclude_seen=[True], resamples=100)
    assert time.monotonic() - started < 60 * 0.1 + 1.5
    assert found.trials[-1].family == "blend"
    assert found.trials[-1].state == "out of time"
    assert found.recipe.model != "blend"


def test_a_blend_that_gains_nothing_is_not_taken(complementary: JudgedRows) -> None:
    found = search([complementary], families=["even", "popularity"], trials=2, exclude_seen=[True], resamples=200)
    assert found.recipe.model == "even"
    tried = [trial for trial in found.trials if trial.family == "blend"]
    assert all(trial.state == "pruned" and "not surely better than" in trial.reason for trial in tried)


def test_equal_models_share_no_weight(complementary: JudgedRows) -> None:
    model = Even().fit(complementary.known)
    weights = blend_weights([complementary], [[model], [model]], first=0, exclude_seen=True, k=5)
    assert weights.tolist() == [1, 0]


def test_what_is_asked_must_make_sense(rows: list[JudgedRows]) -> None:
    with pytest.raises(DataError, match="'svd' is no family to search; choose from popularity"):
        search(rows, families=["svd"], trials=1)
    with pytest.raises(DataError, match="at least one trial"):
        search(rows, trials=0)


def test_carving_holds_out_what_it_says(taken: Interactions) -> None:
    last = carve_last(taken, max_users=50, seed=1)
    assert len(last.histories) == last.held_out.shape[0] == 50
    assert (last.held_out.sum(axis=1) == 1).all()
    assert len(last.known) == len(taken) - 300
    assert (last.histories.now == 7 * 86_400).all()
    share = carve_random(taken, share=0.25, seed=2)
    n_pairs = len(share.known) + share.held_out.sum()
    assert share.held_out.sum() == pytest.approx(0.25 * n_pairs, rel=0.05)
    had = share.known.matrix[share.users].astype(bool).astype(int)
    assert (had.multiply(share.held_out > 0)).nnz == 0
    assert n_pairs == len(taken)
    with pytest.raises(DataError, match="nobody has two items"):
        carve_last(taken.where(np.append(True, taken.user[1:] != taken.user[:-1])))


def test_families_stand_in_the_order_of_their_best_trials() -> None:
    trials = tuple(
        Trial(number, family, Recipe(family), Interval.around(quality), 0.0, "complete")
        for number, (family, quality) in enumerate([("als", 0.1), ("popularity", 0.5), ("als", 0.9)])
    )
    found = Found(trials[2].recipe, "ndcg_at_10", Interval.around(0.9), None, None, trials)
    assert [trial.number for trial in found.best_by_family()] == [2, 1]
