"""What a reader finds in MLflow: the page of a comparison, everybody and each group of people apart, and the gate's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import WorkspaceError
from data.workspace import Workspace
from features.profile import attributes_at
from registry.versions import Registry
from training.compare import compare
from training.jobs import promote, train
from training.labelled import labelled_rows
from training.report import in_detail
from training.results import TrainingResult
from training.tracking import GATE

PEOPLE = 240


@pytest.fixture(scope="module")
def shop(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    number = np.arange(PEOPLE)
    users = pd.DataFrame(
        {
            "user_id": [f"person-{user:03}" for user in number],
            "country": np.where(number % 2, "NL", "<b>BE</b>"),
            "gender": pd.Series(np.where(number % 3, "f", "m")).where(number % 7 > 0),
            "age": 18.0 + number % 60,
        }
    )
    settings = '[propensity.churn]\nhorizon_days = 30\n[segments]\nfrequent = "orders_90d > 5"\n'
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ATTUNE_TRAINING__FAIRNESS", '["country", "gender", "age"]')
        folder = tmp_path_factory.mktemp("report") / "shop"
        yield a_shop(folder, settings, orders=some_orders(users=PEOPLE), users=users)


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> TrainingResult:
    [result] = train(shop, "propensity", label="churn").results
    return result


def artifacts(shop: Workspace, run_id: str, folder: str = "") -> set[str]:
    return {Path(file.path).name for file in Registry.of(shop).client.list_artifacts(run_id, folder)}


def text(shop: Workspace, run_id: str, name: str) -> str:
    with Registry.of(shop).tracking():
        return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def test_every_picture_and_table_is_kept_with_the_run(shop: Workspace, trained: TrainingResult) -> None:
    kept = artifacts(shop, trained.version.run_id, "pictures")
    assert kept >= {"calibration.png", "lift.png", "gains.png", "scores.png", "groups.png", "groups.csv"}
    assert kept >= {"permutation_importance.png", "partial_dependence_days_since_order.png"}
    assert artifacts(shop, trained.version.run_id) >= {"comparison.html", "comparison.json", "features.json"}


def test_the_page_tells_of_models_tenths_groups_and_fairness(shop: Workspace, trained: TrainingResult) -> None:
    page = text(shop, trained.version.run_id, "comparison.html")
    assert f"<title>propensity-churn: {trained.chosen} is " in page
    for row in trained.test.rows:
        assert row.name in page
    for part in ("calibration slope", "captured", "segment frequent", "tenure", "lifecycle", "gender", "(not known)"):
        assert part in page
    assert "&lt;b&gt;BE&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "person-" not in page


def test_groups_add_up_to_everybody_and_a_number_becomes_bands(shop: Workspace) -> None:
    rows = labelled_rows(shop, "churn")
    detail = in_detail(shop, rows, np.full(len(rows.test.label), 0.5), resamples=100, seed=0)
    everybody = len(rows.test.label)
    for groups, kinds in (
        (detail.groups, {"tenure", "lifecycle", "segment frequent"}),
        (detail.fairness.groups, {"country", "gender", "age"}),
    ):
        assert {group.attribute for group in groups} == kinds
        for kind in kinds:
            assert sum(group.n for group in groups if group.attribute == kind) == everybody
    assert len([group for group in detail.fairness.groups if group.attribute == "age"]) == 4
    rates = {group.group: group.rate.estimate for group in detail.fairness.groups if group.attribute == "country"}
    assert rates["<b>BE</b>"] > 2 * rates["NL"]  # every second person is frequent
    assert {gap.attribute for gap in detail.fairness.gaps} == {"gender", "age"}  # hardly anybody of NL leaves
    assert sum(decile.n for decile in detail.deciles) == everybody


def test_an_attribute_that_users_lack_is_named(shop: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"users\.religion: there is no such column"):
        attributes_at(shop.checked, labelled_rows(shop, "churn").split.test, ["religion"])


def test_the_gate_leaves_its_reasons_with_the_run_and_the_version(shop: Workspace, trained: TrainingResult) -> None:
    first = promote(shop, "propensity-churn")
    [second] = train(shop, "propensity", label="churn").results
    verdict = promote(shop, "propensity-churn")
    assert first.passed
    assert verdict.passed
    page = text(shop, second.version.run_id, "gate.html")
    assert "Promoted" in page
    assert f"champion {trained.version.number}" in page
    version = Registry.of(shop).version("propensity-churn", second.version.number)
    assert version is not None
    assert version.tags[GATE] == str(verdict)
    assert "has seen these rows" in " ".join(compare(shop, "propensity-churn").notes)
