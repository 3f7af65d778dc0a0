"""A tiny shop that was checked and has models, and the service over it without a socket."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import httpx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import serving.champions
from data.checks import check
from data.interactions import Interactions
from data.state import State, keys
from data.workspace import Workspace
from features.snapshots import build
from models.propensity import Propensity
from models.recommenders.item_neighbours import ItemNeighbours
from models.saving import EXAMPLES
from registry.folder import seal, verify
from serving.app import create_app

START = pd.Timestamp("2026-01-01", tz="UTC")
USERS, ITEMS, DAYS = 60, 40, 40
SETTINGS = """
[arms]
random = 0
usual = 0
holdout = 0

[serving]
poll_seconds = 0.2

[placements.cart]
kind = "complements"

[placements.mixed]
diversity = 0.5

[placements.fresh]
freshness = 50

[placements.paid]
promoted = "price > 38"
promoted_share = 0.4

[placements.listed]
promoted = ["i7", "no such item", "i2", "i8"]
promoted_share = 0.5

[placements.curious]
explore = 0.5
explore_among = 10

[placements.again]
exclude_seen = false

[recommender]
item_columns = ["colour", "organic", "nobody brought it"]

[placements.cheap]
filter = "price < 10"
"""


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Path:
    """Half of the users touch the first half of the items, the others the second; item `i2` is sold out.

    The first live in DE, the others in AT, and so does `fresh`, who has done nothing yet.
    Guests buy `i5` and `i30` together, and `i6` and `i31`. Item `i19` is from yesterday, the others are old.
    """
    workspace = Workspace.create(tmp_path_factory.mktemp("shop"))
    with workspace.settings_file.open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    rng = np.random.default_rng(0)
    rows = 1500
    user = rng.integers(0, USERS, rows)
    item = np.minimum(rng.exponential(6, rows).astype(int), ITEMS // 2 - 1) + (user % 2) * (ITEMS // 2)
    seconds = rng.integers(0, DAYS * 86_400, rows)
    events = pd.DataFrame({
        "event_id": [f"h{i}" for i in range(rows)],
        "user_id": [f"u{i}" for i in user],
        "event": "product_viewed",
        "item_id": [f"i{i}" for i in item],
        "occurred_at": START + pd.to_timedelta(seconds, unit="s"),
    })  # fmt: skip
    bought = events.sample(200, random_state=0)
    orders = pd.DataFrame({
        "order_id": bought.event_id,
        "line_id": "1",
        "user_id": bought.user_id,
        "item_id": bought.item_id,
        "quantity": 1.0,
        "unit_price": 5.0,
        "occurred_at": bought.occurred_at,
    })  # fmt: skip
    guests = pd.DataFrame({
        "order_id": [f"g{i // 2}" for i in range(80)],
        "line_id": [str(i % 2) for i in range(80)],
        "item_id": ["i5", "i30", "i6", "i31"] * 20,
        "quantity": 1.0,
        "unit_price": 5.0,
        "occurred_at": START,
    })  # fmt: skip
    orders = pd.concat([orders, guests], ignore_index=True)
    now = pd.Timestamp.now("UTC").floor("s")
    items = pd.DataFrame({
        "item_id": [f"i{i}" for i in range(ITEMS)],
        "name": [f"Item {i}" for i in range(ITEMS)],
        "category": ["tea" if i < ITEMS // 2 else "cups" for i in range(ITEMS)],
        "price": np.arange(1.0, ITEMS + 1),
        "available": [i != 2 for i in range(ITEMS)],
        "colour": [None if i == 3 else "red" if i % 4 == 0 else "Blue" for i in range(ITEMS)],
        "organic": [None if i == 3 else i % 5 == 0 for i in range(ITEMS)],
        "created_at": [now - pd.Timedelta(days=1 if i == 19 else 1000) for i in range(ITEMS)],
    })  # fmt: skip
    users = pd.DataFrame({"user_id": [*(f"u{i}" for i in range(USERS)), "fresh"]})
    users["country"] = [*("DE" if i % 2 == 0 else "AT" for i in range(USERS)), "AT"]
    for name, frame in {"events": events, "orders": orders, "items": items, "users": users}.items():
        frame.to_parquet(workspace.tables_dir / f"{name}.parquet", index=False)
    check(workspace)
    [snapshot] = build(workspace, [(START + pd.Timedelta(days=DAYS)).to_pydatetime()])
    _save_recommender(events, workspace.path / "versions" / "recommender" / "1")
    _save_propensity(snapshot.frame(), workspace.path / "versions" / "propensity-churn" / "1")
    return workspace.path


def _save_recommender(events: pd.DataFrame, folder: Path) -> None:
    known = Interactions.from_frame(
        events[["user_id", "item_id"]].assign(at=events.occurred_at.astype("int64") // 10**6)
    )
    model = ItemNeighbours().fit(known)
    model.save(folder)
    expected = model.items.ids(model.recommend(sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, ITEMS)), 3).items[0])
    history = {"items": [model.items.ids([0])[0]], "weights": [1.0]}
    examples = {"histories": [history], "k": 3, "expected": [expected]}
    (folder / EXAMPLES).write_text(json.dumps(examples))
    (folder / "card.json").write_text(json.dumps({"exclude_seen": True}))
    seal(folder)


def _save_propensity(features: pd.DataFrame, folder: Path) -> None:
    frame = features[["orders_life", "days_since_order"]].fillna(0)
    label = (frame.orders_life > frame.orders_life.median()).astype(int)
    model = Propensity(min_rows_in_leaf=5).fit(frame, label, valid=frame, valid_label=label)
    model.save(folder)
    rows = frame.head(2).to_dict("records")
    expected = model.predict(frame.head(2)).tolist()
    (folder / EXAMPLES).write_text(json.dumps({"rows": rows, "expected": expected}))
    until = (START + pd.Timedelta(days=DAYS)).isoformat()
    (folder / "card.json").write_text(json.dumps({"fitted_until": until, "horizon_days": 90}))
    seal(folder)


@dataclass
class FakeRegistry:
    """Versions are folders; `champions` says which number is in force."""

    folder: Path
    champions: dict[str, int]

    def version(self, name, alias):
        """As the registry's."""
        assert alias == "champion"
        number = self.champions.get(name)
        return None if number is None else SimpleNamespace(name=name, number=number)

    def fetch(self, version, into):
        """As the registry's, but nothing is copied."""
        assert into.name == "models"
        return verify(self.folder / version.name / str(version.number))


@pytest.fixture
def workspace(shop, tmp_path) -> Workspace:
    """A copy of the shop that a test may change."""
    shutil.copytree(shop, tmp_path / "shop")
    return Workspace(tmp_path / "shop")


@pytest.fixture
def registry(workspace, monkeypatch) -> FakeRegistry:
    """The registry of that copy."""
    fake = FakeRegistry(workspace.path / "versions", {"recommender": 1, "propensity-churn": 1})
    monkeypatch.setattr(serving.champions.Registry, "of", lambda _: fake)
    return fake


class Client:
    """The service on an event loop of its own, asked without a socket."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.app = create_app(workspace)
        state = State.open(workspace.state_url)
        self.admin, self.key = keys.create(state, role="admin"), keys.create(state, role="app")
        state.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://attune")

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._lifespan.__aexit__(None, None, None))
        self.run(self._http.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def engine(self):
        """What is behind the routes."""
        return self.app.state.service.engine

    def run(self, coroutine):
        """A coroutine's result, from its own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def wait(self, holds, seconds: float = 120) -> None:
        """Until something holds, or fail."""
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, "it never came to hold"
            time.sleep(0.02)

    def ready(self) -> Client:
        """Once everything is loaded."""
        self.wait(lambda: self.get("/readyz").status_code == 200, 240)
        return self

    def get(self, path: str) -> httpx.Response:
        """GET without a key."""
        return self.run(self._http.get(path))

    def post(self, path: str, body=None, *, key: str | None = None, content=None, headers=None) -> httpx.Response:
        """POST with the app's key unless another is given."""
        sent = {"Authorization": f"Bearer {self.key if key is None else key}", "Content-Type": "application/json"}
        sent |= headers or {}
        return self.run(self._http.post(path, content=json.dumps(body) if content is None else content, headers=sent))

    def items(self, **body) -> list[str]:
        """Ids recommended."""
        answer = self.post("/v1/recommend", body)
        assert answer.status_code == 200, answer.text
        return [item["item_id"] for item in answer.json()["items"]]


@pytest.fixture
def client(workspace, registry):
    """The service over a copy of the shop."""
    with Client(workspace) as opened:
        yield opened.ready()


@pytest.fixture(scope="module")
def shared(shop, tmp_path_factory):
    """The service for tests that leave no trace that another would mind."""
    path = tmp_path_factory.mktemp("shared") / "shop"
    shutil.copytree(shop, path)
    fake = FakeRegistry(path / "versions", {"recommender": 1, "propensity-churn": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.champions.Registry, "of", lambda _: fake)
        with Client(Workspace(path)) as opened:
            yield opened.ready()


@pytest.fixture
def now() -> str:
    """This moment as the routes read it."""
    return datetime.now(UTC).isoformat()
