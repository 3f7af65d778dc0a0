"""The recommender's report: the champion's recipe beside the baselines on later purchases, by ids alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.errors import ModelFileError
from data.workspace import Workspace
from evaluation.intervals import Interval
from evaluation.recommender_report import RecommenderReport, text, write
from features.interactions import interactions
from features.snapshots import span
from registry.versions import Registry
from training.examples import write_recommender_examples
from training.recipes import Card, Recipe
from training.recommender_report import recommender_report
from training.tracking import parent_run, register_challenger


@pytest.fixture(scope="module")
def shop(
    a_shop: Callable[..., Workspace],
    some_orders: Callable[..., pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    """240 customers with two tastes, a champion that knows neighbours of items, and people who came late."""
    folder = tmp_path_factory.mktemp("recommended")
    orders = some_orders(users=240)
    items = pd.DataFrame({"item_id": [*sorted(set(orders.item_id)), "new"]})
    items["name"] = [f"Blend {item}" for item in items.item_id]
    items["category"] = ["tea" if number < 30 else "cups" for number in range(len(items))]
    workspace = a_shop(folder / "shop", orders=orders, items=items)
    recipe, made = Recipe("item_neighbours"), folder / "model"
    known = interactions(workspace.checked, workspace.settings.recommender, cutoff=span(workspace.checked).end)
    model = recipe.fit(known, 0)
    model.save(made)
    Card(recipe, 0, span(workspace.checked).end).save(made)
    write_recommender_examples(model, [0, 1], made)
    with parent_run(workspace, "recommender", seed=0, params={}) as run_id:
        version = register_challenger(
            workspace, "recommender", made, run_id=run_id, pyfunc="recommender.py", packages=(), metrics={}
        )
    Registry.of(workspace).crown(version)
    return workspace


@pytest.fixture(scope="module")
def report(shop: Workspace) -> RecommenderReport:
    return recommender_report(shop)


def test_the_model_is_held_against_the_baselines_on_the_same_people(report: RecommenderReport) -> None:
    first, *others = report.rankers
    assert (first.name, first.gain, first.is_baseline) == ("recommender 1", None, False)
    assert {r.name for r in others} >= {"popularity", "repeat"}
    assert all(r.gain is not None and r.gain.low <= r.gain.estimate <= r.gain.high for r in others)
    assert sum(group.people for group in report.groups) == report.people + report.strangers
    popularity = next(r for r in others if r.name == "popularity")
    assert popularity.gain.low > 0  # tastes are there to be found
    assert first.measures["coverage"].estimate > popularity.measures["coverage"].estimate


def test_shares_add_up_and_new_items_are_counted(report: RecommenderReport) -> None:
    for shares in (report.popularity, report.categories):
        for field in ("items", "shown", "baseline", "taken"):
            assert sum(getattr(s, field) for s in shares) == pytest.approx(1)
    assert {s.name for s in report.categories} == {"tea", "cups"}
    assert (report.items, report.new_items) == (61, 1)


def test_examples_are_ids_with_reasons_from_the_own_history(report: RecommenderReport, shop: Workspace) -> None:
    orders = pd.read_parquet(shop.checked_dir / "orders.parquet")
    orders = orders[orders.occurred_at < report.at]
    assert len(report.examples) == 20
    for example in report.examples:
        had = set(orders[orders.user_id == example.user].item_id)
        assert set(example.had) <= had
        assert {shown.because for shown in example.shown} - {""} <= had
        assert sum(shown.taken for shown in example.shown) <= example.took
    assert any(shown.because for example in report.examples for shown in example.shown)
    assert all(report.names[item] == f"Blend {item}" for example in report.examples for item in example.had)


def test_words_follow_the_interval(report: RecommenderReport) -> None:
    def said(low: float, high: float, *, is_rule: bool = False) -> str:
        others = [replace(r, gain=Interval((low + high) / 2, low, high, 0.95)) for r in report.rankers[1:]]
        return replace(report, rankers=(replace(report.rankers[0], is_baseline=is_rule), *others)).sentence

    assert said(0.01, 0.02).startswith("Use it")
    assert said(-0.02, -0.01).startswith("Do not use it")
    assert said(-0.01, 0.02).startswith("The data cannot tell it from")
    assert "simple rule itself" in said(-0.01, 0.02, is_rule=True)
    assert said(-0.02, -0.01, is_rule=True).startswith("Do not use it")
    others = [replace(r, gain=Interval.around(0.5)) for r in report.rankers[1:]]
    few = replace(report, rankers=(report.rankers[0], *others))  # so few that the gain has no interval
    assert few.sentence == "The data cannot tell: too few people came back."


def test_lines_of_the_terminal_name_the_people_and_have_a_word_for_what_is_not_known(report: RecommenderReport) -> None:
    assert "  had 10 items or more (" in text(report)
    first, *others = report.rankers
    nothing = replace(first, measures={**first.measures, "popularity_lift": Interval.around(float("nan"))})
    assert "popularity lift not known" in text(replace(report, rankers=(nothing, *others)))
    groups = tuple(replace(report.groups[0], gain=Interval.around(gain)) for gain in (0.5, np.nan))
    lines = text(replace(report, groups=groups)).splitlines()[-2:]
    assert [line.partition("people): ")[2].removesuffix(" NDCG more than the best baseline") for line in lines] == [
        "0.5000 [not known]", "not known",
    ]  # fmt: skip


def test_the_verb_writes_the_same_bytes_again(shop: Workspace, report: RecommenderReport, tmp_path: Path) -> None:
    words = ["report", "recommender", "--to", str(tmp_path), "--workspace", str(shop.path)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    for suffix in (".html", ".json"):
        write(report, tmp_path / f"again{suffix}")
        assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"recommender{suffix}").read_bytes()
    page = (tmp_path / "again.html").read_text()
    assert not any(outside in page for outside in ("http", "<script", "<link", "url(", "nan "))
    assert json.loads((tmp_path / "again.json").read_text())["sentence"] == report.sentence


def test_without_a_recommender_it_says_what_to_do(a_shop: Callable[..., Workspace], tmp_path: Path) -> None:
    orders = pd.DataFrame({
        "order_id": ["1"], "line_id": ["1"], "user_id": ["ann"], "item_id": ["tea"], "quantity": [1.0],
        "occurred_at": pd.to_datetime(["2026-01-01"], utc=True),
    })  # fmt: skip
    with pytest.raises(ModelFileError, match="attune train recommender"):
        recommender_report(a_shop(tmp_path / "shop", orders=orders))
