"""Small worlds that every model is tried on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.interactions import Interactions

# The contract that the models' test classes inherit: test files import nothing else of each other.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("recommender_contract")

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def checkerboard() -> Interactions:
    """50 x 50: user u took item i when u + i is even, but for u = i, which is what there is to recommend."""
    user, item = np.indices((50, 50)).reshape(2, -1)
    took = ((user + item) % 2 == 0) & (user != item)
    ids = pd.DataFrame({"user_id": user[took], "item_id": item[took]}).map(lambda code: f"{code:02d}")
    return Interactions.from_frame(ids)


@pytest.fixture
def random_shop() -> Interactions:
    """300 users with tastes in three kinds of 60 items, weights of several sizes, over 100 days."""
    rng = np.random.default_rng(7)
    n = 4_000
    user = rng.integers(0, 300, n)
    item = np.where(rng.random(n) < 0.8, user % 3 * 20 + rng.integers(0, 20, n), rng.integers(0, 60, n))
    return Interactions.from_frame(
        pd.DataFrame(
            {
                "user_id": [f"u{code:03d}" for code in user],
                "item_id": [f"i{code:02d}" for code in item],
                "weight": rng.gamma(2.0, 1.0, n) + 0.05,
                "at": rng.integers(0, 100 * 86_400, n),
            }
        )
    )


@pytest.fixture(scope="session")
def movielens() -> tuple[Interactions, Interactions]:
    """MovieLens 100K ratings before and from a moment that leaves the last tenth; items of both."""
    file = DATA / "ml100k" / "ratings.parquet"
    if not file.exists():
        pytest.skip(f"{file} is not there; it is only for tests")
    ratings = pd.read_parquet(file).rename(columns={"user": "user_id", "item": "item_id", "timestamp": "at"})
    liked = Interactions.from_frame(ratings[ratings["rating"] >= 4])
    moment = int(np.quantile(liked.at, 0.9))
    return liked.before(moment), liked.since(moment)
