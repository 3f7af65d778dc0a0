"""The hours to send at: trained, judged where hours were random, refused where they were not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.errors import DataError
from data.workspace import Workspace
from registry.versions import CHAMPION, Registry
from training import jobs
from training.scoring import score
from training.send_time import NAME, RANDOM_HOURS, SINGLE_HOUR, train_send_time, why_not_random

START = pd.Timestamp("2026-01-01", tz="UTC")
USERS, DAYS = 250, 120
NEW_YORK = "America/New_York"


def a_shop_that_writes(hours: str) -> dict[str, pd.DataFrame]:
    """Half the people open at 9, half at 20, all in New York; hours are `random` or one for each `campaign`."""
    rng = np.random.default_rng(0)
    rows = []
    for campaign, day in enumerate(range(0, DAYS - 4, 3)):
        at = rng.integers(7, 22, USERS) if hours == "random" else np.full(USERS, 7 + campaign % 15)
        own = np.where(np.arange(USERS) % 2, 9, 20)
        opened = rng.random(USERS) < np.where(np.abs(at - own) < 3, 0.7, 0.1)
        local = START.tz_localize(None) + pd.to_timedelta(day, unit="D") + pd.to_timedelta(at, unit="h")
        sent = local.tz_localize(NEW_YORK).tz_convert("UTC")
        rows += [
            (f"{campaign}-{user}", f"person-{user:03}", f"news-{campaign}", sent[user], opened[user])
            for user in range(USERS)
        ]
    messages = pd.DataFrame(rows, columns=["message_id", "user_id", "campaign_id", "sent_at", "opened"])
    messages["opened_at"] = (messages["sent_at"] + pd.Timedelta(hours=1)).where(messages.pop("opened"))
    users = pd.DataFrame({"user_id": [f"person-{user:03}" for user in range(USERS)], "timezone": NEW_YORK})
    return {"messages": messages.assign(channel="email"), "users": users}


@pytest.fixture(scope="module")
def shop(
    a_shop: Callable[..., Workspace],
    some_orders: Callable[..., pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> Workspace:
    orders = some_orders(users=20, days=DAYS)
    return a_shop(tmp_path_factory.mktemp("send_time") / "shop", orders=orders, **a_shop_that_writes("random"))


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> jobs.Trained:
    return jobs.train(shop, "send-time")


def test_own_hours_beat_one_hour_for_everybody_and_random_hours(trained: jobs.Trained) -> None:
    (result,) = trained.results
    assert result.version.name == NAME
    gains = {row.name: row.gain for row in result.test.rows[1:]}
    assert gains[SINGLE_HOUR].low > 0.1  # the truth: about .7 against .4
    assert gains[RANDOM_HOURS].low > 0.2
    assert 0.55 < result.test.rows[0].metrics["open_rate"].estimate < 0.8


def test_it_is_promoted_answers_its_examples_and_mlflow(shop: Workspace, trained: jobs.Trained) -> None:
    verdict = jobs.promote(shop, NAME)
    assert verdict.passed, verdict
    version = Registry.of(shop).version(NAME, CHAMPION)
    assert version is not None
    folder = Registry.of(shop).fetch(version, shop.models_dir)
    assert "person-" not in (folder / "model.json").read_text()
    assert json.loads((folder / "card.json").read_text())["fitted_until"] > "2026-04"
    with Registry.of(shop).tracking():
        model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    asked = pd.DataFrame(
        {"channel": [["email"] * 8] * 2, "hour": [[9, 9, 9, 9, 20, 20, 20, 20]] * 2,
         "answered": [[True] * 4 + [False] * 4, [False] * 4 + [True] * 4]}
    )  # fmt: skip
    answer = model.predict(asked)
    assert (answer["best_hour"] - pd.Series([9, 20])).abs().max() <= 2
    assert set(answer["best_channel"]) == {"email"}


def test_everybody_is_told_an_hour_by_their_own_clock_in_bulk(
    shop: Workspace, trained: jobs.Trained, tmp_path: Path
) -> None:
    jobs.promote(shop, NAME) if Registry.of(shop).version(NAME, CHAMPION) is None else None
    found = score(shop, tmp_path / "hours.parquet", labels=[NAME])
    frame = pd.read_parquet(found.path).set_index("user_id")
    assert found.versions[-1].startswith(NAME)
    assert set(frame["time_zone"]) == {NEW_YORK}
    assert set(frame["best_channel"]) == {"email"}
    own = np.where(np.arange(USERS) % 2, 9, 20)
    assert (np.abs(frame.sort_index()["best_send_hour"] - own) <= 2).mean() > 0.95
    assert not frame["hour_of_everybody"].any()
    explored = frame["send_hour"] != frame["best_send_hour"]
    assert 0.02 < explored.mean() < 0.2
    assert (frame["send_hour_probability"] > 0.9).eq(~explored).all()
    evening = score(shop, tmp_path / "evening.csv", where="best_send_hour > 15", labels=[])
    assert 0.4 * USERS < evening.rows < 0.6 * USERS


def test_the_same_recipe_on_the_same_data_is_compared_with_the_champion(shop: Workspace, trained: jobs.Trained) -> None:
    jobs.promote(shop, NAME) if Registry.of(shop).version(NAME, CHAMPION) is None else None
    train_send_time(shop)
    verdict = jobs.promote(shop, NAME)
    assert verdict.passed
    assert "no worse" in verdict.reasons[0]


def test_where_hours_were_not_random_it_says_that_it_cannot_tell(
    a_shop: Callable[..., Workspace], tmp_path: Path
) -> None:
    shop = a_shop(tmp_path / "shop", **a_shop_that_writes("campaign"))
    result = train_send_time(shop)
    assert np.isnan(result.test.rows[0].metrics["open_rate"].estimate)
    assert "hangs on the campaign" in " ".join(result.test.notes)
    verdict = jobs.promote(shop, NAME)
    assert not verdict.passed
    assert "cannot be told" in verdict.reasons[0]


def test_hours_that_hang_on_the_person_are_seen() -> None:
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(200), 10)
    sent = pd.DataFrame(
        {"user_id": user.astype(str), "campaign_id": rng.integers(0, 20, 2000).astype(str), "channel": "email",
         "at": START, "hour": rng.integers(7, 22, 2000)}
    )  # fmt: skip
    allowed = np.arange(24) >= 7
    assert why_not_random(sent, allowed) == ""
    assert "person" in why_not_random(sent.assign(hour=8 + user % 12), allowed)
    assert "1 hours of the day" in why_not_random(sent, np.arange(24) == 9)


def test_a_shop_that_never_wrote_is_told_what_to_bring(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    shop = a_shop(tmp_path / "shop", orders=some_orders(users=20))
    with pytest.raises(DataError, match="opened_at"):
        jobs.train(shop, "send-time")


def test_opens_that_a_program_hides_are_said_to_judge_nothing(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    told = a_shop_that_writes("random")
    messages = told["messages"].query("user_id < 'person-030'")
    messages = messages.assign(machine_opened=messages["opened_at"].notna())
    shop = a_shop(tmp_path / "shop", orders=some_orders(users=20, days=DAYS), users=told["users"], messages=messages)
    with pytest.raises(DataError, match="of 0 sent since the opens can be seen"):
        jobs.train(shop, "send-time")
