"""A small shop with two tastes, whose customers buy often or hardly ever, so that models have something to find."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.checks import check
from data.workspace import Workspace
from registry.versions import Registry
from training.propensity import train_propensity

START = pd.Timestamp("2026-01-01", tz="UTC")
DAYS = 150


def orders_of(*, users: int, days: int = DAYS, seed: int = 0) -> pd.DataFrame:
    """Order lines: everybody keeps to one half of 60 items; every second customer is frequent, the others fade."""
    rng = np.random.default_rng(seed)
    lines = []
    for user in range(users):
        rate_days = 6 if user % 2 else 40
        taste = 30 * (user % 4 // 2)
        moment = float(rng.uniform(0, 30))
        while moment < days:
            lines += [
                (f"person-{user:03}", f"{user}-{moment:.3f}", f"item-{taste + item:02}", moment)
                for item in rng.choice(30, size=2, replace=False)
            ]
            moment += float(rng.exponential(rate_days)) + 0.5
    frame = pd.DataFrame(lines, columns=["user_id", "order_id", "item_id", "day"])
    frame["line_id"] = frame.groupby("order_id").cumcount().astype(str)
    frame["occurred_at"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.assign(quantity=1.0, unit_price=10.0)


@pytest.fixture(scope="session")
def a_shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workspace]:
    """Makes checked workspaces: `a_shop(folder, settings, orders=...)`; MLflow's tables, slow to make, once."""
    empty = tmp_path_factory.mktemp("registry") / "mlflow.db"
    assert Registry(f"sqlite:///{empty}").client.search_registered_models() == []

    def opened(folder: Path, settings: str = "", **tables: pd.DataFrame) -> Workspace:
        workspace = Workspace.create(folder)
        with workspace.settings_file.open("a") as file:
            file.write("[training]\nbootstrap = 100\n[recommender]\nhorizon_days = 14\n" + settings)
        for name, frame in tables.items():
            frame.to_parquet(workspace.tables_dir / f"{name}.parquet")
        check(Workspace.open(folder))
        shutil.copy(empty, folder / "mlflow.db")
        return Workspace.open(folder)

    return opened


@pytest.fixture(scope="session")
def some_orders() -> Callable[..., pd.DataFrame]:
    """Makes order lines: `some_orders(users=..., days=...)`."""
    return orders_of


@pytest.fixture(scope="session")
def shop(a_shop: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The shop with 240 customers; churn is asked over 30 days, purchase over 14."""
    settings = "[propensity.churn]\nhorizon_days = 30\n[propensity.purchase]\nhorizon_days = 14\n"
    return a_shop(tmp_path_factory.mktemp("shop") / "shop", settings, orders=orders_of(users=240))


@pytest.fixture(scope="session")
def shop_with_churn(a_shop: Callable[..., Workspace], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The shop with 240 customers, a champion of churn and a named segment; nobody may change it."""
    settings = '[propensity.churn]\nhorizon_days = 30\n[segments]\nfrequent = "orders_90d > 5"\n'
    workspace = a_shop(tmp_path_factory.mktemp("churn") / "shop", settings, orders=orders_of(users=240))
    Registry.of(workspace).crown(train_propensity(workspace, "churn").version)
    return workspace
