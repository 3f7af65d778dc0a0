"""The variants' model: trained on logged decisions, judged on later ones, refused where it is no better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.workspace import Workspace
from registry.versions import Registry
from training import jobs
from training.variants import NAME, SO_FAR, UNIFORM, USUAL, compared, fitted, train_variants, variant_rows

START = pd.Timestamp("2026-01-01", tz="UTC")
USERS, DAYS = 240, 120
IDS = ("deal", "story")


def a_shop_that_tries(*, explores: bool = True) -> dict[str, pd.DataFrame]:
    """Half the people live in DE and click deals, half in AT and click stories; each is shown one every three days."""
    rng = np.random.default_rng(0)
    rows = []
    for day in range(0, DAYS, 3):
        for user in range(USERS):
            shown = int(rng.integers(2)) if explores else 0
            at = START + pd.Timedelta(days=day, hours=int(rng.integers(24)))
            rows.append((f"d{day}-{user}", user, at, shown, rng.random() < (0.3 if user % 2 == shown else 0.1)))
    told = pd.DataFrame(rows, columns=["decision_id", "user", "at", "shown", "clicked"])
    user_id = told["user"].map("person-{:03}".format)
    decisions = pd.DataFrame({
        "decision_id": told["decision_id"], "user_id": user_id, "at": told["at"], "kind": "variant", "slot": "hero",
        "arm": "random", "arm_share": 1.0, "chosen": [[IDS[shown]] for shown in told["shown"]],
        "probability": [[0.5 if explores else 1.0]] * len(told), "model_version": "even",
        "candidates": [list(IDS)] * len(told),
    })  # fmt: skip
    clicked = told[told["clicked"]]
    outcomes = pd.DataFrame({
        "outcome_id": "o" + clicked["decision_id"], "decision_id": clicked["decision_id"], "kind": "click",
        "at": clicked["at"] + pd.Timedelta(minutes=5),
    })  # fmt: skip
    variants = pd.DataFrame({"variant_id": IDS, "slot": "hero", "text": ["20% off today", "Who grows your tea"]})
    users = pd.DataFrame({"user_id": [f"person-{user:03}" for user in range(USERS)]})
    users["country"] = ["DE" if user % 2 == 0 else "AT" for user in range(USERS)]
    return {"decisions": decisions, "outcomes": outcomes, "variants": variants, "users": users}


@pytest.fixture(scope="module")
def shop(
    a_shop: Callable[..., Workspace],
    some_orders: Callable[..., pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    orders = some_orders(users=20, days=DAYS)
    return a_shop(tmp_path_factory.mktemp("variants") / "shop", orders=orders, **a_shop_that_tries())


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> jobs.Trained:
    return jobs.train(shop, NAME)


def test_to_each_what_suits_beats_one_for_all(trained: jobs.Trained) -> None:
    (result,) = trained.results
    gains = {row.name: row.gain for row in result.test.rows[1:]}
    assert {UNIFORM, USUAL, SO_FAR, "always deal", "always story"} == set(gains)
    for name in (UNIFORM, USUAL, SO_FAR):
        assert gains[name].low > 0.04, name  # the truth: .298 against .2
    value = result.test.rows[0].metrics["reward"]
    assert value.low < 0.298 < value.high


def test_it_is_promoted_and_answers_mlflow(shop: Workspace, trained: jobs.Trained) -> None:
    assert jobs.promote(shop, NAME).passed
    with Registry.of(shop).tracking():
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    asked = pd.DataFrame({"slot": "hero", "variant_id": ["deal", "deal"], "country": ["DE", "AT"]})
    found = model.predict(asked)["expected"].tolist()
    assert found == pytest.approx([0.3, 0.1], abs=0.04)
    folder = Registry.of(shop).fetch(trained.results[0].version, shop.models_dir)
    assert not [file for file in folder.rglob("*") if file.suffix == ".json" and "person-" in file.read_text()]


def test_without_chance_nothing_can_be_told(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    orders = some_orders(users=20, days=DAYS)
    shop = a_shop(tmp_path / "shop", orders=orders, **a_shop_that_tries(explores=False))
    rows = variant_rows(shop)
    test = compared(shop, {NAME: fitted(shop, rows, until=rows.test, known=rows.test)}, rows)
    assert any("cannot be judged" in note for note in test.notes)
    assert not test.beats_baselines


def test_a_shop_without_decisions_is_told_what_to_do(shop: Workspace, tmp_path: Path, a_shop: Callable) -> None:
    empty = a_shop(tmp_path / "shop", orders=pd.read_parquet(shop.tables_dir / "orders.parquet"))
    with pytest.raises(DataError, match="Ask /v1/variants"):
        train_variants(empty)


def test_decisions_about_a_variant_that_moved_to_another_slot_are_left_out(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    told, orders = a_shop_that_tries(), some_orders(users=20, days=DAYS)
    moved = told["variants"].assign(slot=["hero", "footer"])
    shop = a_shop(tmp_path / "some", orders=orders, **told | {"variants": moved})
    rows = variant_rows(shop)
    assert set(rows.made["chosen"]) == {"deal"}
    assert set(rows.made["candidates"]) == {("deal",)}
    left_out = sum(chosen == ["story"] for chosen in told["decisions"]["chosen"])
    note = f"{left_out:,} decisions about story are left out: it stands in another slot now"
    test = compared(shop, {NAME: fitted(shop, rows, until=rows.test, known=rows.test)}, rows)
    assert note in test.notes
    gone = a_shop(tmp_path / "all", orders=orders, **told | {"variants": moved.assign(slot="footer")})
    with pytest.raises(DataError, match="no decision is about a variant that still stands in its slot"):
        variant_rows(gone)
