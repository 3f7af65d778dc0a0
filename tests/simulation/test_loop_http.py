"""The loop over HTTP: the service decides as the same code does in the process, and the past moves with the weeks."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

import serving.champions
from data.checks import check
from data.state import State, keys
from data.state.schema import tables as state_tables
from data.state.sync import sync
from data.workspace import Workspace
from features.decided import brought
from models.offers import BEST, OfferModel
from models.uplift import PooledEffects
from registry.folder import seal
from serving.app import create_app
from serving.client import Client
from simulation import loop_http
from simulation.loop import Loop
from simulation.loop_inside import Inside, shop_of
from simulation.world import World
from training.examples import write_feature_examples
from training.offers import Card

RULE = "orders_life > 1 -> offer-1 else offer-2"
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class Served(httpx.BaseTransport):
    """The service on an event loop of its own, for a client that waits, without a socket."""

    def __init__(self, shop) -> None:
        self.app = create_app(shop)
        self._loop = asyncio.new_event_loop()
        self._inner = httpx.ASGITransport(self.app)
        self._lifespan = self.app.router.lifespan_context(self.app)

    def __enter__(self):
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._run(self._lifespan.__aenter__())
        until = time.monotonic() + 240
        while self.handle_request(httpx.Request("GET", "http://attune/readyz")).status_code != 200:
            assert time.monotonic() < until, "the service is not ready"
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self._run(self._lifespan.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)

    def handle_request(self, request):
        async def answered():
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            answer = await self._inner.handle_async_request(sent)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self._run(answered())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A world whose first week begins today, its shop, and its own side in the process with the same champion."""
    parameters = World.load()
    world = Loop(parameters, users=200, days=40, weeks=1, begin=MIDNIGHT)
    shop = shop_of(tmp_path / "shop", world=parameters, usual=RULE)
    monkeypatch.setattr(loop_http, "train", lambda *_: SimpleNamespace(results=[]))  # there is too little to learn from
    assert loop_http.prepare(world, shop).startswith("nothing new")
    known = loop_http.known_of(shop)
    rng = np.random.default_rng(0)
    arms = ("none", "offer-1", "offer-3")
    arm = rng.integers(3, size=len(known))
    orders = (rng.random(len(known)) < np.where(arm == 1, known["orders_life"].clip(upper=3) / 3, 0.3)).astype(float)
    learnt = known[["orders_life", "tenure_days", "country"]].reset_index(drop=True)
    about = {"brought": orders, "by_message": 5 * orders}
    uplift = PooledEffects().fit(learnt, arm, 5 * orders, arms=arms, **about)
    model = OfferModel(arms, uplift.effects, policy=BEST, uplift=uplift)
    folder = tmp_path / "versions" / "1"
    folder.parent.mkdir()
    model.save(folder)
    Card(0, MIDNIGHT, 7, "").save(folder)
    write_feature_examples("offers", model, learnt, folder)
    seal(folder)

    class Champions:
        def version(self, name, _alias):
            return SimpleNamespace(name=name, number=1) if name == "offers" else None

        def fetch(self, _version, _into):
            return folder

    monkeypatch.setattr(serving.champions.Registry, "of", lambda _: Champions())
    inside = Inside(world, shop)
    inside.model = model
    return world, shop, inside


@pytest.mark.slow
def test_http_decides_as_the_process_does_and_weeks_pass(shop):
    world, shop, inside = shop
    state = State.of(shop)
    key = keys.create(state, role="admin")
    began = datetime.now(UTC)
    users = [world.user_ids[row] for row in world.asked(0)]
    with Served(shop) as served, Client("http://attune", key=key, transport=served, timeout_seconds=60) as client:
        dealt = loop_http.ask(client, users, channel=world.channel)
        with state.reading() as connection:
            logged = pd.DataFrame(connection.execute(sa.select(state_tables["decisions"])).mappings().all())
        expected = inside.decide(0).set_index("user_id")
        said = logged.set_index("user_id").loc[expected.index]
        assert list(dealt.user_id) == users
        # Rules hold back the same whoever decides; the process asks about consent to the channel alone.
        refusals = world.history["consents"].to_pandas().query("purpose == 'personalisation' and not granted")
        free = said["suppressed"].isna() & ~said.index.isin(refusals["user_id"])
        assert free.mean() > 0.6
        said, expected = said[free], expected[free]
        assert [one[0] for one in said["chosen"]] == list(expected["chosen"])
        assert [one[0] for one in said["probability"]] == pytest.approx(list(expected["probability"]))
        assert list(said["arm"]) == list(expected["arm"])
        assert len(set(expected.loc[expected["arm"] == "model", "chosen"])) > 1

        fresh = world.live(0, dealt)
        loop_http._let_a_week_pass(shop, state, began)
        sending = datetime.now(UTC)
        loop_http.tell(client, fresh, back=timedelta(weeks=1))
        loop_http._reached_at_once(state, sending)
    sync(shop, state)
    audit = check(shop)
    assert audit.fit, audit.failures
    tables = shop.checked
    decisions = tables["decisions"]
    made = decisions.filter(decisions.decision_id.isin(list(dealt.decision_id))).execute()
    week_before = pd.Timestamp(MIDNIGHT) - pd.Timedelta(days=7)
    assert (made["at"] == week_before).all()
    events = tables["events"].execute()
    ours = events[events["event_id"].isin(fresh["events"]["event_id"].to_pylist())]
    assert len(ours) > 0.99 * len(fresh["events"])
    assert ours["occurred_at"].between(week_before, pd.Timestamp(MIDNIGHT)).all()
    assert (ours["received_at"] == ours["occurred_at"]).all()
    sent_back = events["event"] == "order_refunded"  # told of fresh order lines, under ids of their own
    older = events[~events["event_id"].isin(ours["event_id"]) & ~sent_back]
    assert older["occurred_at"].max() < week_before + pd.Timedelta(minutes=1)
    # What people brought is the same money, whichever way the rows came.
    sold = brought(tables, datetime.now(UTC), made[["decision_id", "user_id", "at"]], value="revenue", horizon_days=7)
    lines = fresh["orders"].to_pandas()
    week = lines[pd.to_datetime(lines["occurred_at"], utc=True) >= MIDNIGHT]
    known = week[week["user_id"].isin(users)]
    total = (known["quantity"] * known["unit_price"] - known["discount"].fillna(0)).sum()
    assert sold.sum() == pytest.approx(total, rel=0.02)


def test_what_was_synced_is_of_the_same_state_a_week_later(tmp_path):
    shop = Workspace.create(tmp_path)
    state = State.of(shop)
    no = {"user_id": "ann", "purpose": "email", "granted": False, "at": MIDNIGHT}
    with state.writing() as connection:
        connection.execute(sa.insert(state_tables["consents"]).values(**no))
    sync(shop, state)
    loop_http._let_a_week_pass(shop, state, datetime.now(UTC))
    assert sync(shop, state).gone == {}
    assert Workspace.open(tmp_path).tables["consents"].execute()["at"].tolist() == [MIDNIGHT - timedelta(weeks=1)]
