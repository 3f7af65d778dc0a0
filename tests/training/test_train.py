"""From a checked workspace to registered, compared, promoted and rolled back versions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError, WorkspaceError
from data.settings import Training
from data.workspace import Workspace
from models.baselines import BaseRate, LogisticRFM
from models.stored import load_propensity
from registry.folder import CHECKSUMS
from registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Registry
from training import jobs
from training import propensity as propensity_job
from training import recommender as recommender_job
from training.compare import compare
from training.drift import check_drift
from training.labelled import gaps, labelled_rows
from training.lock import only_one
from training.propensity import BASE_RATE, RECENCY_RULE, RFM, RFM_RULE, best_rule, suspected_leak
from training.propensity_search import search_recipe
from training.recommender import train_recommender
from training.results import Comparison, Judged
from training.scoring import audience_of, score


def checksums(workspace: Workspace, name: str, number: int) -> dict[str, str]:
    registry = Registry.of(workspace)
    version = registry.version(name, number)
    assert version is not None
    found: dict[str, str] = json.loads((registry.fetch(version, workspace.models_dir) / CHECKSUMS).read_text())
    return found


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> jobs.Trained:
    return jobs.train(shop)


def test_everything_the_data_carries_is_trained_and_becomes_a_challenger(
    shop: Workspace, trained: jobs.Trained
) -> None:
    names = [result.version.name for result in trained.results]
    assert names == ["recommender", "propensity-churn", "propensity-purchase", "value"]
    assert set(trained.left_out) == {"propensity-click"}
    assert "'sent_90d' needs messages" in trained.left_out["propensity-click"]
    for result in trained.results:
        found = Registry.of(shop).version(result.version.name, CHALLENGER)
        assert found is not None
        assert found.number == result.version.number


def floor(comparison: Comparison) -> Judged:
    """The baseline with the lowest main metric: what knowing next to nothing of a person gives."""
    baselines = [row for row in comparison.rows if row.is_baseline]
    return min(baselines, key=lambda row: row.metrics[comparison.metric].estimate)


def test_planted_tastes_and_habits_are_found(trained: jobs.Trained) -> None:
    by_name = {result.version.name: result for result in trained.results}
    recommender = by_name["recommender"].test
    assert recommender.rows[0].metrics["ndcg_at_10"].estimate > 1.3 * floor(recommender).metrics["ndcg_at_10"].estimate
    churn = by_name["propensity-churn"].test
    assert 0.75 < churn.rows[0].metrics["roc_auc"].estimate < 0.98
    gain = floor(churn).gain
    assert gain is not None
    assert gain.low > 0.2


def test_a_run_says_from_what_it_was_made_and_keeps_candidates_intervals_and_pictures(
    shop: Workspace, trained: jobs.Trained
) -> None:
    client = Registry.of(shop).client
    for result in trained.results:
        run = client.get_run(result.version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["data_fingerprint"] == shop.fingerprint()
        assert run.data.tags["commit"]
        assert run.data.params["seed"] == "0"
        metric = result.test.metric
        assert run.data.metrics[f"{metric}_low"] <= run.data.metrics[metric] <= run.data.metrics[f"{metric}_high"]
        assert client.list_artifacts(run.info.run_id, "pictures")
        children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
        assert len(children) >= 3
        if result.version.name != "recommender":
            assert len(run.data.params["definitions_hash"]) == 64


def test_plain_mlflow_answers_for_a_registered_version(
    shop: Workspace, trained: jobs.Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    del trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shop.registry_uri)
    mlflow.set_tracking_uri(shop.registry_uri)
    try:
        recommender = mlflow.pyfunc.load_model("models:/recommender@challenger")
        ranked = recommender.predict(pd.DataFrame({"items": [["item-01", "item-02"], []]}), params={"k": 3})
        churn = mlflow.pyfunc.load_model("models:/propensity-churn@challenger")
        model = load_propensity(Registry.of(shop).fetch(_version(shop, "propensity-churn"), shop.models_dir))
        frame = pd.DataFrame({name: [1.0, 50.0] for name in model.features})
        probability = churn.predict(frame)
    finally:
        mlflow.set_tracking_uri(None)
    assert [len(items) for items in ranked["items"]] == [3, len(ranked["items"][1])]
    assert all(0 <= p <= 1 for p in probability)
    np.testing.assert_array_equal(probability, model.predict(frame))


def _version(workspace: Workspace, name: str, alias: str = CHALLENGER) -> Any:
    return Registry.of(workspace).version(name, alias)


def test_no_person_is_inside_a_version(shop: Workspace, trained: jobs.Trained) -> None:
    for result in trained.results:
        folder = Registry.of(shop).fetch(result.version, shop.models_dir)
        assert {file.suffix for file in folder.rglob("*") if file.is_file()} <= {".npy", ".json", ".txt"}
        for file in folder.rglob("*"):
            assert file.is_dir() or b"person-" not in file.read_bytes(), file


def test_the_same_seed_and_data_give_the_same_version(shop: Workspace, trained: jobs.Trained) -> None:
    for result in trained.results:
        name, first = result.version.name, result.version.number
        what = name if name in {"recommender", "value"} else "propensity"
        again = jobs.train(shop, what, label=name.removeprefix("propensity-") if what == "propensity" else None)  # type: ignore[arg-type]
        assert checksums(shop, name, first) == checksums(shop, name, again.results[0].version.number)


def test_versions_pass_the_gate_are_compared_replaced_and_rolled_back(shop: Workspace, trained: jobs.Trained) -> None:
    del trained
    for name in jobs.challengers(shop):
        assert jobs.promote(shop, name).passed, name
    assert jobs.challengers(shop) == []
    with pytest.raises(ModelFileError, match=r"has no challenger; registered are propensity-churn, .*recommender"):
        jobs.promote(shop, "recommender")

    first = _version(shop, "recommender", CHAMPION)
    second = jobs.train(shop, "recommender").results[0].version
    names = [row.name for row in compare(shop, "recommender").rows]
    assert names[:2] == [f"challenger {second.number}", f"champion {first.number}"]
    assert {"popularity", "repeat"} <= set(names)
    verdict = jobs.promote(shop, "recommender")
    assert verdict.passed
    assert "the same recipe" in str(verdict)
    assert _version(shop, "recommender", PREVIOUS).number == first.number
    assert jobs.rollback(shop, "recommender").number == first.number


def test_an_interrupted_training_leaves_no_version_and_the_next_one_works(
    a_shop: Any, some_orders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = a_shop(tmp_path / "shop", orders=some_orders(users=40, days=80))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recommender_job, "write_recommender_examples", stop)
        with pytest.raises(KeyboardInterrupt):
            train_recommender(workspace)
    assert Registry.of(workspace).versions("recommender") == []
    version = jobs.train(workspace, "recommender").results[0].version
    assert version.number == 1

    stored = next((workspace.path / "mlartifacts").rglob("examples.json"))
    stored.write_text("{")
    with pytest.raises(ModelFileError, match=r"examples\.json is truncated or changed"):
        jobs.promote(workspace, "recommender")
    assert Registry.of(workspace).version("recommender", CHAMPION) is None


def test_labels_of_one_class_are_refused_with_the_remedy(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    settings = '[propensity.churn]\nhorizon_days = 30\n[propensity.never]\nevent = "order"\nhorizon_days = 14\n'
    orders = some_orders(users=30, days=120)
    workspace = a_shop(tmp_path / "shop", settings + 'population = "days_since_order > 100"\n', orders=orders)
    with pytest.raises(DataError, match=r"holds for nobody|are positive, at least"):
        jobs.train(workspace, "propensity", label="never")


def test_a_label_nobody_declared_and_an_amount_are_refused(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    settings = '[propensity.spend]\nevent = "spend"\nhorizon_days = 14\n'
    workspace = a_shop(tmp_path / "shop", settings, orders=some_orders(users=10, days=80))
    with pytest.raises(
        WorkspaceError, match=r"'chrun' is no label of this workspace; there are churn, click, purchase, spend"
    ):
        jobs.train(workspace, "propensity", label="chrun")
    with pytest.raises(WorkspaceError, match="an amount"):
        jobs.train(workspace, "propensity", label="spend")
    everything = jobs.train(workspace)
    assert [result.version.name for result in everything.results] == ["recommender"]
    assert "an amount" in everything.left_out["propensity-spend"]


def test_a_history_that_is_too_short_says_how_many_days_are_needed(
    a_shop: Any, some_orders: Any, tmp_path: Path
) -> None:
    workspace = a_shop(tmp_path / "shop", orders=some_orders(users=20, days=40))
    with pytest.raises(DataError, match=r"needs 118 days of history, and .* are \d+"):
        jobs.train(workspace, "propensity", label="churn")
    short = a_shop(tmp_path / "short", orders=some_orders(users=20, days=35))
    with pytest.raises(DataError, match=r"nothing could be trained.*needs 42.*needs 118.*needs 58"):
        jobs.train(short)


def test_events_without_purchases_still_give_a_recommender(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    events = some_orders(users=40, days=80).rename(columns={"order_id": "event_id"})
    events = events.assign(event="product_viewed", event_id=events["event_id"] + "-" + events["line_id"])
    workspace = a_shop(tmp_path / "shop", events=events[["event_id", "user_id", "event", "item_id", "occurred_at"]])
    trained = jobs.train(workspace)
    assert [result.version.name for result in trained.results] == ["recommender"]
    assert set(trained.left_out) == {"propensity-churn", "propensity-click", "propensity-purchase"}


def test_one_user_and_one_item_train_or_say_why_not(a_shop: Any, tmp_path: Path) -> None:
    moments = pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC")
    orders = pd.DataFrame({"order_id": [f"o{i}" for i in range(60)], "line_id": "1", "occurred_at": moments})
    orders = orders.assign(user_id="ann", item_id="tea", quantity=1.0, unit_price=1.0)
    workspace = a_shop(tmp_path / "shop", orders=orders)
    trained = jobs.train(workspace)
    assert [result.version.name for result in trained.results] == ["recommender"]
    assert "popularity" in trained.results[0].chosen
    assert set(trained.left_out) == {"propensity-churn", "propensity-click", "propensity-purchase", "value"}


def test_a_feature_that_knows_the_label_raises_the_alarm() -> None:
    from evaluation.intervals import Interval
    from models.propensity import Propensity
    from training.labelled import Rows

    label, rng = np.array([0, 1] * 50), np.random.default_rng(0)
    town = [f"town {n}" for n in range(100)]
    frame = pd.DataFrame({"age": rng.random(100), "town": town, "cancelled": label})
    frame["state"] = np.where(label, rng.choice(["moved", "unhappy"], 100), rng.choice(["active", "new"], 100))
    rows = Rows(frame, label, np.arange(100), np.zeros(100))
    high, low = Interval(0.99, 0.98, 1.0, 0.95), Interval(0.8, 0.7, 0.9, 0.95)

    def alarm(roc_auc: Interval, *features: str) -> str:
        return suspected_leak(roc_auc, rows, Propensity(rounds=1).fit(frame[list(features)], label))

    assert "cancelled (alone 1.000)" in alarm(low, "age", "cancelled")
    assert "state (alone 1.000)" in alarm(high, "age", "state")
    assert "leans most on age" in alarm(high, "age")
    assert alarm(low, "age", "town") == ""  # each in a town of their own: a name is no knowledge


def test_a_second_job_in_one_workspace_says_that_the_first_runs(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "shop")
    with (
        only_one(workspace, "retrain"),
        pytest.raises(WorkspaceError, match="retrain is already running"),
        only_one(workspace, "retrain"),
    ):
        pass
    with only_one(workspace, "retrain"):
        pass


def test_retraining_goes_from_the_tables_to_the_gate(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    workspace = a_shop(tmp_path / "shop", orders=some_orders(users=60, days=90))
    done = jobs.retrain(workspace)
    assert [verdict.version.name for verdict in done.verdicts] == [
        result.version.name for result in done.trained.results
    ]
    assert _version(workspace, "recommender", CHAMPION) is not None


def test_the_rule_stands_in_for_trees_that_are_no_better(shop: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hardly = propensity_job.Recipe({"rounds": 1, "learning_rate": 1e-4, "leaves": 2, "linear_share": 0})
    monkeypatch.setattr(propensity_job, "_searched", lambda *_, **__: hardly)
    result = propensity_job.train_propensity(shop, "churn")
    assert result.chosen == propensity_job.RFM_RULE
    verdict = jobs.promote(shop, "propensity-churn")
    assert "on the paired" not in str(verdict)
    folder = Registry.of(shop).fetch(result.version, shop.models_dir)
    assert isinstance(load_propensity(folder), LogisticRFM)
    compared = compare(shop, "propensity-churn")
    assert compared.rows[0].is_baseline or compared.rows[0].recipe == propensity_job.RFM_RULE


def test_the_rule_that_stands_in_is_the_best_on_the_rows_before_the_test(shop: Workspace) -> None:
    rng, rows = np.random.default_rng(0), labelled_rows(shop, "churn")

    def best(*turning: str) -> str:
        """Where every feature rises with the label, but the turning ones fall with it on the last cutoff."""
        made = {}
        for cutoff, old in rows.by_cutoff.items():
            label = rng.integers(2, size=len(old.label))
            turned = [-1 if name in turning and cutoff == rows.split.seen[-1] else 1 for name in RFM]
            values = rng.normal(size=(len(label), len(RFM))) + np.outer(label, turned)
            made[cutoff] = replace(old, features=pd.DataFrame(values, columns=list(RFM)), label=label)
        return best_rule(replace(rows, by_cutoff=made))

    assert best() == RFM_RULE
    assert best(*RFM[1:]) == RECENCY_RULE
    assert best(*RFM) == BASE_RATE


def test_a_search_that_the_history_is_too_short_for_is_told(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    settings = "[propensity.churn]\nhorizon_days = 30\n"
    workspace = a_shop(tmp_path / "shop", settings, orders=some_orders(users=120, days=80))
    result = propensity_job.train_propensity(workspace, "churn", trials=2)
    assert propensity_job.NO_SEARCH in result.test.notes
    assert not (workspace.path / "search").exists()


def test_where_nothing_tells_people_apart_everybodys_rate_goes_live(
    a_shop: Any, some_orders: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace = a_shop(
        tmp_path / "shop", "[propensity.churn]\nhorizon_days = 14\n", orders=some_orders(users=60, days=80)
    )
    hardly = propensity_job.Recipe({"rounds": 1, "learning_rate": 1e-4, "leaves": 2, "linear_share": 0})
    monkeypatch.setattr(propensity_job, "_searched", lambda *_, **__: hardly)
    monkeypatch.setattr(propensity_job, "best_rule", lambda _: BASE_RATE)
    result = propensity_job.train_propensity(workspace, "churn")
    registry = Registry.of(workspace)
    registry.crown(result.version)
    assert result.chosen == BASE_RATE
    assert isinstance(load_propensity(registry.fetch(result.version, workspace.models_dir)), BaseRate)
    scored = pd.read_parquet(score(workspace, tmp_path / "all.parquet", where="churn > 0").path)
    assert (scored["churn"] == scored["churn"].iloc[0]).all()
    assert audience_of(workspace, where="churn > 0").size == len(scored)
    assert check_drift(workspace).models[0].features == ()
    assert compare(workspace, "propensity-churn").rows[0].recipe == BASE_RATE
    with registry.tracking():
        plain = mlflow.pyfunc.load_model(f"models:/propensity-churn@{CHAMPION}").predict(pd.DataFrame(index=range(2)))
    assert plain.tolist() == [scored["churn"].iloc[0]] * 2


def test_a_search_goes_on_where_it_stopped_and_keeps_its_trials(
    shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = labelled_rows(shop, "churn")
    found = search_recipe(rows, trials=3, resamples=100, folder=tmp_path)
    assert found.trials["number"].tolist() == [0, 1, 2]
    assert found.trials.loc[0, "linear_share"] == 0.5
    assert found.recipe.params == {} or found.gain.low > 0
    longer = search_recipe(rows, trials=4, resamples=100, folder=tmp_path)
    assert longer.trials[:3].drop(columns="seconds").equals(found.trials.drop(columns="seconds"))
    monkeypatch.setattr("training.propensity_search.code_hash", lambda: "upgraded")  # may mean something else by them
    assert len(search_recipe(rows, trials=1, resamples=100, folder=tmp_path).trials) == 1
    with pytest.raises(DataError, match="has no end"):
        search_recipe(rows)


def test_too_few_of_a_class_are_told_with_what_is_needed(shop: Workspace) -> None:
    rows = labelled_rows(shop, "churn")
    few = Training(min_of_a_class=100_000, min_of_a_class_per_cutoff=1_000)
    told = "; ".join(gaps(rows, few))
    assert gaps(rows, Training()) == []
    for part in ("did it over all cutoffs before the test", "did not", "min_of_a_class = 100000", "per_cutoff = 1000"):
        assert part in told


def test_a_direction_of_no_feature_is_refused(a_shop: Any, some_orders: Any, tmp_path: Path) -> None:
    settings = '[propensity.churn]\nhorizon_days = 30\nfalls_with = ["order_90d"]\n'
    workspace = a_shop(tmp_path / "shop", settings, orders=some_orders(users=30, days=120))
    with pytest.raises(WorkspaceError, match=r"'order_90d' .* is no feature; did you mean 'orders_90d'"):
        labelled_rows(workspace, "churn")
