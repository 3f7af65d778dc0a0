"""What customers are worth: trained, judged, promoted, scored and served; what cannot be learnt from says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError, ModelFileError
from data.workspace import Workspace
from features.snapshots import build, span
from models.lifetime import from_features
from models.worth import CustomerValue
from registry.versions import CHAMPION, Registry
from training import jobs
from training.compare import compare
from training.drift import check_drift
from training.scoring import VALUES, Bulk, audience_of, score, value_champion
from training.tracking import logged_comparison
from training.value import BASELINES, HABITS, MEAN, NAME, Card, candidates, train_value, value_rows

START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS, HORIZON = 240, 45
SETTINGS = f"[value]\nhorizon_days = {HORIZON}\n[propensity.churn]\nhorizon_days = {HORIZON}\n"
A_Shop = Callable[..., Workspace]


def orders_of(users: int = 350, days: int = DAYS) -> pd.DataFrame:
    """Customers who come over the first half of the time, order at rates of their own, leave, and spend as they do."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(users):
        rate, mean = rng.gamma(1.0, 1 / 15), rng.gamma(6, 6)
        moment = float(rng.uniform(0, days / 2))
        leaves = moment + float(rng.exponential(200))
        while moment < min(days, leaves):
            lines.append((f"person-{user:03}", f"{user}-{moment:.3f}", moment, float(mean * rng.gamma(4, 1 / 4))))
            moment += float(rng.exponential(1 / rate))
    frame = pd.DataFrame(lines, columns=["user_id", "order_id", "day", "unit_price"])
    frame["occurred_at"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.assign(line_id="1", item_id="tea", quantity=1.0)


def sent_back(orders: pd.DataFrame) -> pd.DataFrame:
    """With one customer who buys for a fortune late and returns all of it a day later, and one who leaves no price."""
    last = orders.occurred_at.max() - pd.Timedelta(days=5)
    fortune = orders.iloc[[0, 0]].assign(
        user_id="person-rich", order_id=["rich", "rich-back"], quantity=[99.0, -99.0], unit_price=1e4,
        occurred_at=[last, last + pd.Timedelta(days=1)],
    )  # fmt: skip
    before = orders.iloc[[0]].assign(user_id="person-rich", order_id="early", occurred_at=START + pd.Timedelta(days=3))
    unpriced = orders.iloc[[1]].assign(user_id="person-free", order_id="free", unit_price=np.nan)
    return pd.concat([orders, fortune, before, unpriced], ignore_index=True)


@pytest.fixture(scope="module")
def shop(a_shop: A_Shop, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return a_shop(tmp_path_factory.mktemp("value") / "shop", SETTINGS, orders=sent_back(orders_of()))


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> jobs.Trained:
    return jobs.train(shop, "value")


@pytest.fixture(scope="module")
def champion(shop: Workspace, trained: jobs.Trained) -> Workspace:
    """The shop, with a champion."""
    assert trained.results
    verdict = jobs.promote(shop, NAME)
    assert verdict.passed, str(verdict)
    assert "better than the best baseline" in str(verdict)
    return shop


def test_it_is_judged_beside_honest_baselines_and_its_intervals_hold_their_share(trained: jobs.Trained) -> None:
    (result,) = trained.results
    first, *others = result.test.rows
    assert (result.version.name, first.name) == (NAME, result.chosen)
    assert {row.name for row in others} >= set(BASELINES)
    assert all(row.gain is not None and row.gain.low > 0 for row in others if row.is_baseline)
    assert 0.7 < first.metrics["coverage"].estimate < 0.95
    assert 0.7 < first.metrics["came_per_expected"].estimate < 1.4
    assert any("USD after discounts and returns" in note for note in result.test.notes)


def test_a_run_keeps_the_candidates_the_pictures_and_how_it_was_chosen(shop: Workspace, trained: jobs.Trained) -> None:
    run_id = trained.results[0].version.run_id
    registry = Registry.of(shop)
    assert logged_comparison(registry, run_id).metric == "tweedie_d2"
    pages = {file.path for file in registry.client.list_artifacts(run_id, "pictures")}
    assert pages == {"pictures/value_by_decile.png", "pictures/value_calibration.png"}
    run = registry.client.get_run(run_id).data
    assert {"chosen", "horizon_days", "frequency.model", "spend.q"} <= set(run.params)
    assert {name for name in run.metrics if name.startswith("chosen_on")} == {
        "chosen_on_tweedie_d2_leaving",
        "chosen_on_tweedie_d2_trees",
    }


def test_what_is_sent_back_is_not_earned_and_nothing_after_a_cutoff_is_known_at_it(shop: Workspace) -> None:
    rows = value_rows(shop)
    test = rows.test
    users = pd.read_parquet(next(shop.snapshots_dir.rglob(f"cutoff={rows.split.test:%Y-%m-%d}*")))
    users = users[users.orders_life > 0].sort_values("user_id").user_id.tolist()
    rich = users.index("person-rich")
    assert test.orders[rich] == 1
    assert test.money[rich] == 0
    assert test.features["spend_life"].max() < 1e5
    now = rows.by_cutoff[rows.end].features
    assert from_features(now[now.spend_life > 1e5]).mean_spend[0] < 0.5 * now.spend_life.max()
    for cutoff in rows.split.seen:
        assert cutoff + timedelta(days=HORIZON) <= rows.split.test
        assert cutoff >= span(shop.checked).first + timedelta(days=HORIZON / 2)


def test_its_card_says_over_which_horizon_in_which_money_and_from_when(shop: Workspace, trained: jobs.Trained) -> None:
    card = Card.load(Registry.of(shop).fetch(trained.results[0].version, shop.models_dir))
    assert (card.horizon_days, card.currency, card.fitted_until) == (HORIZON, "USD", span(shop.checked).end)
    assert card.candidate == trained.results[0].chosen


def test_everybody_is_scored_and_chosen_by_what_they_are_worth(champion: Workspace, tmp_path: Path) -> None:
    found = score(champion, tmp_path / "all.parquet")
    frame = pd.read_parquet(found.path)
    assert list(frame) == ["user_id", *VALUES, "lifecycle"]
    model = value_champion(champion)
    assert model is not None
    [snapshot] = build(champion, [span(champion.checked).end])
    worth = model.model.predict(snapshot.frame())
    np.testing.assert_allclose(frame.sort_values("user_id").value, worth.value)
    assert (frame.value_low <= frame.value).all()
    assert (frame.value <= frame.value_high).all()
    assert f"{frame.value.sum():,.0f} USD" in found.spend
    score(champion, tmp_path / "best.csv", where="value > 50 and value_high > 90", labels=["value"])
    best = pd.read_csv(tmp_path / "best.csv")
    assert 0 < len(best) < len(frame)
    assert ((best.value > 50) & (best.value_high > 90)).all()


def test_an_audience_tells_what_it_will_spend(champion: Workspace) -> None:
    told = audience_of(champion, where="value > 50")
    assert told.spend is not None
    assert told.spend.people == told.size
    assert told.spend.whole.low <= told.spend.whole.estimate <= told.spend.whole.high
    assert told.spend.mean > told.spend.everybody > 0


def test_plain_mlflow_answers_as_the_model_does(champion: Workspace) -> None:
    [snapshot] = build(champion, [span(champion.checked).end])
    frame, model = snapshot.frame().head(20), value_champion(champion)
    assert model is not None
    with Registry.of(champion).tracking():
        found = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}").predict(frame)
    np.testing.assert_allclose(found["value"], model.model.predict(frame).value)


def test_a_retrained_version_is_held_against_the_champion_on_rows_that_neither_has_seen(champion: Workspace) -> None:
    older = Registry.of(champion).version(NAME, CHAMPION)
    assert older is not None
    newer = train_value(champion).version
    rows = compare(champion, NAME).rows
    assert [row.name for row in rows][:2] == [f"challenger {newer.number}", f"champion {older.number}"]
    assert rows[1].gain is not None
    assert rows[1].gain.estimate == 0
    verdict = jobs.promote(champion, NAME)
    assert verdict.passed
    assert f"the same recipe as champion {older.number} on the same data" in str(verdict)


def test_a_version_whose_answers_changed_is_refused(champion: Workspace) -> None:
    registry = Registry.of(champion)
    version = registry.version(NAME, CHAMPION)
    assert version is not None
    folder = registry.fetch(version, champion.models_dir)
    about = json.loads((folder / "examples.json").read_text())
    assert len(about["rows"]) == len(about["expected"]) == 5
    assert set(about["rows"][0]) == set(CustomerValue.load(folder).features)
    (folder / "card.json").write_text("{")
    with pytest.raises(ModelFileError, match="attune train value"):
        Card.load(folder)


@pytest.mark.parametrize(("days", "horizon"), [(80, HORIZON), (125, 90)])
def test_a_short_history_has_no_trees_and_intervals_of_the_models_own(
    a_shop: A_Shop, tmp_path: Path, days: int, horizon: int
) -> None:
    settings = SETTINGS.replace(str(HORIZON), str(horizon))
    shop = a_shop(tmp_path / "shop", settings, orders=orders_of(users=300, days=days))
    rows = value_rows(shop)
    assert candidates(rows) == (HABITS,)
    result = train_value(shop)
    assert any("too short for a horizon before the test" in note for note in result.test.notes)
    assert 0.7 < result.test.rows[0].metrics["coverage"].estimate <= 1


def test_where_nothing_beats_the_plain_rules_the_best_of_them_goes_live(a_shop: A_Shop, tmp_path: Path) -> None:
    rng, n = np.random.default_rng(3), 900
    orders = pd.DataFrame({
        "user_id": rng.integers(100, size=n).astype(str), "order_id": np.arange(n).astype(str), "line_id": "1",
        "occurred_at": START + pd.to_timedelta(rng.uniform(0, 180, n), unit="D"), "item_id": "tea",
        "quantity": 1.0, "unit_price": rng.lognormal(3, 0.3, n),
    })  # fmt: skip
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=orders)  # nobody differs from anybody
    result = train_value(shop)
    assert (result.chosen, result.test.rows[0].is_baseline) == (MEAN, True)
    assert f"registered is the best plain rule on earlier rows, {result.chosen}" in result.test.notes[0]
    assert result.test.rows[0].metrics["coverage"].estimate > 0.6
    assert Card.load(Registry.of(shop).fetch(result.version, shop.models_dir)).candidate == MEAN
    verdict = jobs.promote(shop, NAME)
    assert verdict.passed, str(verdict)
    assert f"{MEAN} is the best there is" in str(verdict)
    found = pd.read_parquet(score(shop, tmp_path / "all.parquet", where="value > 20").path)
    assert len(found) == 100
    assert (found.value_low < found.value).all()
    assert (found.value < found.value_high).all()
    assert compare(shop, NAME).rows[0].recipe == MEAN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda orders: orders.drop(columns="unit_price"), r"no orders\.unit_price"),
        (lambda orders: orders.assign(unit_price=np.nan), r"no orders\.unit_price|no order has a price"),
        (lambda orders: orders.drop_duplicates("user_id"), r"0 of \d+ customers ordered more than once, min_repeaters"),
        (lambda orders: orders[orders.user_id < "person-003"], r"customers ordered more than once, min_repeaters = 50"),
        (lambda orders: orders.assign(occurred_at=START), r"needs \d+ days of history, and .* are 1\."),
        (lambda orders: orders.assign(unit_price=-orders.unit_price), r"not fit|no orders|There are no"),
    ],
    ids=["no prices", "empty prices", "one purchase each", "three customers", "one day", "negative prices"],
)
def test_what_cannot_be_learnt_from_says_what_is_missing(
    a_shop: A_Shop, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=change(orders_of(users=120, days=150)))
    with pytest.raises(DataError, match=message):
        jobs.train(shop, "value")


def test_orders_of_the_future_and_negative_prices_are_left_out_and_the_rest_is_learnt_from(
    a_shop: A_Shop, tmp_path: Path
) -> None:
    orders = orders_of(users=150, days=150)
    future = orders.head(5).assign(
        order_id=lambda rows: "f" + rows.order_id, occurred_at=pd.Timestamp("2099-01-01", tz="UTC")
    )
    negative = orders.head(5).assign(order_id=lambda rows: "n" + rows.order_id, unit_price=-1e6)
    shop = a_shop(tmp_path / "shop", SETTINGS, orders=pd.concat([orders, future, negative], ignore_index=True))
    rows = value_rows(shop)
    assert rows.end == span(shop.checked).end < pd.Timestamp("2026-01-01", tz="UTC")
    assert (rows.test.features["spend_life"] > 0).all()


def test_without_a_champion_value_is_no_column_and_who_asks_for_it_is_told(shop_with_churn: Workspace) -> None:
    assert "value" not in Bulk.of(shop_with_churn).columns
    for asked in ({"where": "value > 3"}, {"labels": ["value"]}):
        with pytest.raises(DataError, match=r"value has no champion.*attune train value"):
            Bulk.of(shop_with_churn, **asked)


def test_drift_looks_at_what_customers_are_worth_too(champion: Workspace) -> None:
    [value] = check_drift(champion).models
    assert (value.label, value.age_horizons, value.stale) == (NAME, 0, False)
    assert value.score is not None
    assert (value.score.name, value.score.missing_now) == (NAME, 0)
    assert value.people > 100
    assert {"orders_life", "days_since_order"} <= {one.name for one in value.features}
