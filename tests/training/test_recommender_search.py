"""Training with a search: what is searched, kept, judged once and registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from data.errors import DataError
from data.workspace import Workspace
from evaluation.intervals import Interval
from models.recommenders import load
from registry.versions import CHALLENGER, Registry
from training import recommender as recommender_job
from training.recipes import Card, Recipe
from training.recommender import train_recommender
from training.search import Found, search

FAMILIES = ["popularity", "repeat", "item_neighbours", "linear"]


@pytest.fixture
def founds(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """What the searches of a test find, over a few families that are quick to fit."""
    kept: list[Found] = []

    def some_families(rows: Any, **asked: Any) -> Found:
        kept.append(search(rows, **{**asked, "families": asked["families"] or FAMILIES}))
        return kept[-1]

    monkeypatch.setattr(recommender_job, "search", some_families)
    return kept


@pytest.fixture(scope="module")
def small(a_shop: Any, some_orders: Any, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace: Workspace = a_shop(tmp_path_factory.mktemp("search") / "shop", orders=some_orders(users=80, days=80))
    return workspace


def test_without_time_for_a_baseline_it_says_what_to_give(small: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_baseline(rows: Any, **asked: Any) -> Found:
        return search(rows, **{**asked, "families": ["item_neighbours"], "folder": None})

    monkeypatch.setattr(recommender_job, "search", no_baseline)
    with pytest.raises(DataError, match="--minutes"):
        train_recommender(small, trials=1)


def test_a_search_is_kept_in_the_workspace_and_its_winner_is_registered(small: Workspace, founds: list[Found]) -> None:
    result = train_recommender(small, trials=7)
    registry = Registry.of(small)
    folder = registry.fetch(result.version, small.models_dir)
    card = Card.load(folder)
    assert str(card.recipe) == result.chosen
    assert load(folder).name == card.recipe.model
    children = registry.client.search_runs(
        [registry.client.get_run(result.version.run_id).info.experiment_id],
        f"tags.mlflow.parentRunId = '{result.version.run_id}'",
    )
    assert len(children) == len(founds[0].trials) >= 7
    assert {child.data.params["state"] for child in children} <= {"complete", "pruned"}
    assert (small.path / "search" / "trials.db").is_file()

    again = train_recommender(small, trials=7)
    assert [str(trial.recipe) for trial in founds[1].trials] == [str(trial.recipe) for trial in founds[0].trials]
    assert [trial.seconds for trial in founds[1].trials[:7]] == [trial.seconds for trial in founds[0].trials[:7]]
    assert again.chosen == result.chosen
    assert again.version.number == result.version.number + 1


def test_the_picture_points_out_the_family_that_was_chosen(small: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pointed_out: list[str] = []

    def drawn(path: Path, intervals: dict[str, Any], *, highlight: str, **_: Any) -> None:
        assert highlight in intervals
        pointed_out.append(highlight)
        path.touch()

    def a_variety(rows: Any, **asked: Any) -> Found:
        found = search(rows, **{**asked, "families": ["popularity", "graph", "graph-bspm"], "folder": None})
        best = next(trial for trial in found.trials if trial.family == "graph-bspm")
        return replace(found, recipe=best.recipe, gain=Interval.around(1.0, 0.5))

    monkeypatch.setattr(recommender_job.plots, "comparison", drawn)
    monkeypatch.setattr(recommender_job, "search", a_variety)
    train_recommender(small, trials=3)
    assert pointed_out == ["graph-bspm"]


def test_the_settings_may_ask_for_a_search_and_without_one_the_quick_families_are_tried(
    a_shop: Any, some_orders: Any, tmp_path: Path, founds: list[Found]
) -> None:
    orders = some_orders(users=60, days=80)
    quick = a_shop(tmp_path / "quick", orders=orders)
    train_recommender(quick)
    assert [trial.recipe.model for trial in founds[0].trials] == list(recommender_job.QUICK)
    assert not (quick.path / "search").exists()
    with quick.settings_file.open() as file:
        text = file.read()
    quick.settings_file.write_text(text.replace("bootstrap = 100", "bootstrap = 100\ntrials = 5"))
    train_recommender(Workspace.open(quick.path))
    assert len([trial for trial in founds[1].trials if trial.recipe.model != "blend"]) == 5


def test_the_command_takes_trials_and_minutes(small: Workspace, founds: list[Found]) -> None:
    asked = ["train", "recommender", "--trials", "5", "--minutes", "2", "--seed", "4", "-w", str(small.path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "attune promote recommender" in done.output
    assert len([trial for trial in founds[0].trials if trial.recipe.model != "blend"]) == 5
    version = Registry.of(small).version("recommender", CHALLENGER)
    assert version is not None
    assert Card.load(Registry.of(small).fetch(version, small.models_dir)).seed == 4


def test_a_recipe_made_of_others_survives_its_card(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    members = [
        {"model": "als", "params": {"factors": 8, "alpha": 0.1 + 0.2}},
        {"model": "item_neighbours", "params": {}},
    ]
    recipe = Recipe("blend", {"members": members, "weights": [0.7, 0.3]}, exclude_seen=True)
    Card(recipe, 3, datetime(2026, 1, 1, tzinfo=UTC)).save(tmp_path)
    found = Card.load(tmp_path).recipe
    assert found == recipe
    assert found.fit_key == recipe.fit_key
    assert str(found) == (
        "blend, members=[als, factors=8, alpha=0.3; item_neighbours], weights=[0.7; 0.3], new items only"
    )
