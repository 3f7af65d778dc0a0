"""Offers that chance dealt become a model, a policy and a verdict; nothing that came later is known before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.tables import Tables
from data.workspace import Workspace
from models.kinds import load_answering
from models.offers import BEST, USUAL, OfferModel
from models.uplift.model import ArmEffect
from registry.versions import CHALLENGER, Registry
from training import jobs, offers
from training.compare import compare
from training.offer_rows import OfferRows, likings, offer_rows

START = pd.Timestamp("2026-01-01", tz="UTC")
WAVES = (60, 90)
ARMS = ("none", "gift", "ten")
USERS = 500
SETTINGS = "[offers]\nhorizon_days = 14\nmin_decisions = 50\n[offers.contact_costs]\nemail = 0.25\n"


def days(n: float | np.ndarray) -> pd.Timestamp:
    return START + pd.to_timedelta(n, unit="D")


def tables_of(seed: int = 0, *, worth: float = 1.0) -> dict[str, pd.DataFrame]:
    """People with one order before or with four; the gift makes the latter buy and the former stay away."""
    rng = np.random.default_rng(seed)
    fan = np.arange(USERS) % 2 == 0
    bought, decided = [], []
    for user in range(USERS):
        early = rng.uniform(1, 50, 4 if fan[user] else 1)
        bought += [(f"u{user}", days(day), 1.0, 0.0, None) for day in early]
        for wave in WAVES:
            arm, at = int(rng.integers(3)), days(wave + rng.uniform(0.1, 0.9))
            decided.append((f"u{user}", at, "random", [ARMS[arm]], [1 / 3]))
            decided.append((f"u{user}", at + pd.Timedelta(days=2), "random", [ARMS[arm]], [1 / 3]))  # asked again
            chance = (0.3, 0.3 + worth * (0.6 if fan[user] else -0.3), 0.3)[arm]
            if rng.random() < chance:
                pieces = 2.0 if arm == 1 and worth else 1.0
                bought.append((f"u{user}", at + pd.Timedelta(days=3), pieces, 3.0 if arm == 2 else 0.0, ARMS[arm]))
    for user in range(60):  # decided for certain: nothing is to be learnt from these
        decided.append((f"m{user}", days(61), "model", ["gift"], [1.0]))
        bought.append((f"m{user}", days(5), 1.0, 0.0, None))
    user, at, pieces, discount, offer = zip(*bought, strict=True)
    orders = pd.DataFrame({
        "order_id": [f"o{i}" for i in range(len(bought))], "line_id": "1", "user_id": user, "item_id": "tea",
        "quantity": pieces, "unit_price": 10.0, "discount": discount, "occurred_at": at,
        "offer_id": [None if one in (None, "none") else one for one in offer],
    })  # fmt: skip
    user, at, arm, chosen, probability = zip(*decided, strict=True)
    decisions = pd.DataFrame({
        "decision_id": [f"d{i}" for i in range(len(decided))], "user_id": user, "at": at, "kind": "offer",
        "placement": "email", "arm": arm, "arm_share": 0.5, "chosen": chosen, "probability": probability,
        "candidates": [list(ARMS)] * len(decided), "model_version": "even",
        "context": json.dumps({"channel": "email"}),
    })  # fmt: skip
    last = orders.iloc[[0]].assign(order_id="last", occurred_at=days(110), offer_id=None)
    return {
        "orders": pd.concat([orders, last], ignore_index=True),
        "decisions": decisions,
        "items": pd.DataFrame({"item_id": ["tea"], "price": [10.0], "cost": [4.0]}),
        "offers": pd.DataFrame({"offer_id": list(ARMS), "kind": ["none", "gift", "amount"], "cost": [0.0, 1.0, 0.0]}),
    }


@pytest.fixture(scope="module")
def shop(a_shop: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return a_shop(tmp_path_factory.mktemp("offers") / "shop", SETTINGS, **tables_of())


@pytest.fixture(scope="module")
def rows(shop: Workspace) -> OfferRows:
    return offer_rows(shop)


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> offers.TrainingResult:
    return jobs.train(shop, "offers").results[0]


def test_of_what_chance_decided_one_decision_of_each_person_counts_in_a_horizon(rows: OfferRows) -> None:
    assert rows.arms == ARMS
    assert len(rows.at) == 2 * USERS
    assert not any(user.startswith("m") for user in rows.user)
    assert np.allclose(rows.probabilities, 1 / 3)


def test_profit_is_what_was_paid_less_all_costs_within_the_horizon(shop: Workspace, rows: OfferRows) -> None:
    orders = shop.tables["orders"].execute()
    for place in range(0, len(rows.arm), 97):
        at = rows.at.iloc[place]
        mine = orders[(orders.user_id == rows.user[place]) & (orders.occurred_at >= at)]
        mine = mine[mine.occurred_at < at + pd.Timedelta(days=14)]
        told = (mine.quantity * 10 - mine.discount - mine.quantity * 4 - (mine.offer_id == "gift") * 1.0).sum()
        assert rows.outcome[place] == pytest.approx(told - 0.25 * (rows.arm[place] > 0))


def test_where_no_event_tells_the_channel_all_orders_count(rows: OfferRows) -> None:
    assert np.allclose(rows.by_message, rows.before_contact)
    assert set(np.unique(rows.orders)) == {0.0, 1.0}
    assert rows.orders.mean() == pytest.approx((rows.by_message > 0).mean())


def test_an_offer_for_a_category_is_about_how_much_people_lean_to_it() -> None:
    told = pd.DataFrame({"offer_id": ["none", "pots", "all", "odd"], "category": [None, "Tea Ware", None, "Rugs"]})
    assert likings(Tables.from_frames(offers=told), ["Tea", "Tea Ware"]) == {"pots": "leaning_tea_ware"}


def test_features_are_those_known_strictly_before_the_decision(
    a_shop: Callable[..., Workspace], tmp_path: Path, rows: OfferRows
) -> None:
    tables = tables_of()
    later = tables["orders"].occurred_at >= days(WAVES[1])
    tables["orders"].loc[later, ["quantity", "unit_price"]] = [50.0, 99.0]
    changed = offer_rows(a_shop(tmp_path / "later", SETTINGS, **tables))
    assert not np.allclose(rows.outcome, changed.outcome)
    pd.testing.assert_frame_equal(rows.table, changed.table)


def test_how_people_answered_each_offer_before_is_learnt_from_and_kept(
    a_shop: Callable[..., Workspace], tmp_path: Path
) -> None:
    tables = tables_of()
    made = tables["decisions"]
    told = made[made["chosen"].str[0] != "none"]
    tables["messages"] = pd.DataFrame({
        "message_id": "m" + told["decision_id"], "user_id": told["user_id"], "channel": "email",
        "decision_id": told["decision_id"], "sent_at": told["at"] + pd.Timedelta(minutes=1),
    })  # fmt: skip
    bought = tables["orders"].drop_duplicates(["user_id", "occurred_at"]).reset_index(drop=True)
    tables["events"] = pd.DataFrame({
        "event_id": bought.index.astype(str), "user_id": bought["user_id"], "event": "order_completed",
        "channel": "email", "item_id": "tea", "occurred_at": bought["occurred_at"],
    })  # fmt: skip
    rows = offer_rows(a_shop(tmp_path / "answers", SETTINGS, **tables))
    first = (rows.at < days(WAVES[1])).to_numpy()
    assert (rows.table.loc[first, ["told of gift", "told of ten"]] == 0).all(axis=None)
    later = rows.table[~first]
    assert set(later["told of gift"]) == {0.0, 2.0}  # who was asked again two days later got it again
    assert set(later["ordered over gift"]) == {0.0, 1.0}
    model = offers.fit(rows)
    assert model.reads_answers
    assert not any(" " in name for name in model.features)
    given = model.predict(later)
    assert not np.allclose(given.profit, model.predict(later[model.features]).profit)


def test_chances_that_are_not_those_of_the_choices_are_not_believed(shop: Workspace, rows: OfferRows) -> None:
    chosen = np.arange(3) == rows.arm[:, None]
    wrong = replace(rows, probabilities=np.where(chosen, 0.6, 0.2), even=np.zeros(len(rows.arm), dtype=bool))
    found = offers.compared(shop, offers.judge(wrong), {BEST: BEST})
    assert any("the logged probabilities are not those of the choices" in note for note in found.notes)


def test_what_comes_of_a_decision_must_be_over(a_shop: Callable[..., Workspace], tmp_path: Path) -> None:
    """On a day that is still under way what people will buy is not known."""
    tables = tables_of()
    moved = pd.Timestamp.now("UTC").floor("D") - tables["orders"]["occurred_at"].max().floor("D")
    tables["orders"]["occurred_at"] += moved
    made = tables["decisions"]["at"] + moved
    on_time = pd.Timestamp.now("UTC").floor("D") - pd.Timedelta(days=14)
    last = (made >= days(90) + moved) & (tables["decisions"]["arm"] == "random")
    tables["decisions"]["at"] = made.where(~last, made + (on_time - days(90) - moved))
    found = offer_rows(a_shop(tmp_path / "live", SETTINGS, **tables))
    assert len(found.at)
    assert (found.at <= on_time).all()


def test_too_few_decisions_say_what_is_missing(a_shop: Callable[..., Workspace], tmp_path: Path) -> None:
    tables = tables_of()
    tables["decisions"] = tables["decisions"].head(80)
    with pytest.raises(DataError, match=r"No offer and at least one offer need 50 each"):
        offer_rows(a_shop(tmp_path / "few", SETTINGS, **tables))
    tables["decisions"] = tables["decisions"].assign(probability=[[1.0]] * 80)
    with pytest.raises(DataError, match=r"no offer was chosen by chance"):
        offer_rows(a_shop(tmp_path / "none", SETTINGS, **tables))


def test_arms_that_were_not_drawn_evenly_are_refused(rows: OfferRows) -> None:
    skewed = rows.of((rows.arm != 1) | (np.arange(len(rows.arm)) % 3 == 0))
    with pytest.raises(DataError, match="it does not hold"):
        offers.judge(skewed)


def test_each_persons_offer_is_judged_on_later_decisions_and_promoted(
    shop: Workspace, trained: offers.TrainingResult
) -> None:
    found = {row.name: row for row in trained.test.rows}
    assert trained.chosen == BEST
    assert set(found) == {
        BEST, "tree", "response model", "nobody", "gift to all", "ten to all",
    }  # fmt: skip
    assert found["nobody"].gain is not None
    assert found["nobody"].gain.low > 0
    assert any("later decisions, from 2026-04-01" in note for note in trained.test.notes)
    assert [row.name for row in trained.test.rows if not row.is_baseline] == [BEST, "tree", "response model"]


def test_the_usual_rule_is_a_baseline_that_must_be_beaten(
    shop: Workspace, rows: OfferRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "orders_life > 2 -> gift else none"  # the truth of this shop: nothing is surely better
    monkeypatch.setenv("ATTUNE_OFFERS__USUAL", rule)
    again, judging = Workspace.open(shop.path), offers.judge(rows)
    found = offers.compared(again, judging, {BEST: BEST})
    assert found.best_baseline.name == rule
    assert not found.beats_baselines
    assert offers.best_simple(again, judging) == USUAL
    assert offers.compared(again, judging, {"challenger": USUAL}).best_baseline.recipe == rule


def test_a_version_answers_its_examples_and_as_a_pyfunc(
    shop: Workspace, trained: offers.TrainingResult, rows: OfferRows
) -> None:
    registry = Registry.of(shop)
    folder = registry.fetch(trained.version, shop.models_dir)
    model = load_answering("offers", folder)
    assert isinstance(model, OfferModel)
    with registry.tracking():
        pyfunc = mlflow.pyfunc.load_model(f"models:/offers/{trained.version.number}")
    told = pyfunc.predict(rows.table.head(9))
    assert list(told.columns) == ["offer", "gift", "gift_low", "gift_high", "ten", "ten_low", "ten_high"]
    assert (told["gift_low"] < told["gift"]).all()


@pytest.mark.slow
def test_versions_are_compared_by_their_policies(shop: Workspace, trained: offers.TrainingResult) -> None:
    assert Registry.of(shop).version("offers", CHALLENGER) is not None
    found = compare(shop, "offers")
    assert found.rows[0].name.startswith("challenger")
    assert found.rows[0].recipe == trained.test.rows[0].recipe


def test_where_nothing_pays_nobody_gets_an_offer(a_shop: Callable[..., Workspace], tmp_path: Path) -> None:
    shop = a_shop(tmp_path / "null", SETTINGS, **tables_of(1, worth=0))
    result = jobs.train(shop, "offers").results[0]
    assert result.chosen == "nobody"
    assert BEST in [row.name for row in result.test.rows], "what was not taken is told too"
    verdict = jobs.promote(shop, "offers")
    assert verdict.passed, str(verdict)
    assert "nobody is the best there is" in str(verdict)
    model = OfferModel.load(Registry.of(shop).fetch(result.version, shop.models_dir))
    assert (model.policy, model.features) == ("none", [])


@pytest.mark.slow
def test_one_wave_is_cross_fitted(rows: OfferRows) -> None:
    first = rows.of((rows.at < days(WAVES[1])).to_numpy())
    assert offers.judge(first).since is None


def test_the_interval_of_an_average_is_its_own() -> None:
    effect = ArmEffect(1.0, 0.1, slope=1.0, slope_error=0.0, believed=1.0, differs=0.0)
    found = OfferModel(["none", "gift"], [effect]).predict(pd.DataFrame(index=range(1)))
    assert found.high[0, 1] - found.profit[0, 1] == pytest.approx(1.96 * 0.1, rel=1e-3)
    assert found.low[0, 0] == found.high[0, 0] == 0.0


def test_a_single_offer_for_all_is_found_where_only_that_is_proven(shop: Workspace, rows: OfferRows) -> None:
    outcome = np.random.default_rng(0).normal(size=len(rows.arm)) + 0.5 * (rows.arm == 2)
    assert offers.best_simple(shop, offers.judge(replace(rows, outcome=outcome))) == "ten"


def test_a_champion_that_is_the_same_for_all_makes_way_only_where_the_arm_explores_and_nothing_is_surely_better(
    shop: Workspace, rows: OfferRows, a_shop: Callable[..., Workspace], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = replace(rows, outcome=rng.normal(size=len(rows.arm)))
    surely_ten = replace(rows, outcome=rng.normal(size=len(rows.arm)) + 0.5 * (rows.arm == 2))
    certain = a_shop(tmp_path / "certain", SETTINGS.replace("[offers]", "[offers]\nexplore = 0", 1), **tables_of())

    def yielding(of: Workspace, told: OfferRows, policy: str = BEST) -> tuple[str, ...]:
        return offers.compared(of, offers.judge(told), {policy: policy}).yielding

    assert yielding(shop, noise) == ("gift to all", "nobody", "ten to all")
    assert yielding(shop, noise, "none") == ()
    assert yielding(certain, noise) == ()
    assert yielding(shop, rows) == (), "it is surely better, and needs no favour"
    assert "ten to all" not in yielding(shop, surely_ten)
