"""When and where to write: the hour by the person's own clock, drawn once a day, and kept as a decision."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from data.checks import check
from data.settings import Rules
from data.state.schema import tables as state_tables
from data.tables import Tables
from features.hours import Habits, habits
from features.snapshots import build
from models.saving import EXAMPLES
from models.timing import Engagement, Timing
from registry.folder import seal
from serving.decisions.rules import Person
from serving.sending import Moment, next_moment, no_time, send_times

START, DAYS, WRITTEN_TO = pd.Timestamp("2026-01-01", tz="UTC"), 40, 30
NOW = datetime(2026, 2, 20, 15, tzinfo=UTC)
NEW_YORK, TOKYO = "America/New_York", "Asia/Tokyo"


def messages() -> pd.DataFrame:
    """Even people open at 9 in Tokyo, odd ones at 20 in New York; a message a day at a random hour of 7 to 21."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(WRITTEN_TO):
        zone, own = (NEW_YORK, 20) if user % 2 else (TOKYO, 9)
        for day in range(DAYS - 4):
            hour = int(rng.integers(7, 22))
            sent = (START.tz_localize(None) + pd.Timedelta(days=day, hours=hour)).tz_localize(zone).tz_convert("UTC")
            opened = sent + pd.Timedelta(minutes=9) if rng.random() < (0.8 if abs(hour - own) < 3 else 0.1) else None
            rows.append((f"{user}-{day}", f"u{user}", "email" if day % 2 else "push", sent, opened))
    return pd.DataFrame(rows, columns=["message_id", "user_id", "channel", "sent_at", "opened_at"])


def users() -> pd.DataFrame:
    zones = [NEW_YORK if user % 2 else TOKYO for user in range(WRITTEN_TO)]
    return pd.DataFrame(
        {"user_id": [f"u{user}" for user in range(WRITTEN_TO)], "timezone": zones, "channels": [["email"]] * WRITTEN_TO}
    )


def tables() -> dict[str, pd.DataFrame]:
    wanted = pd.DataFrame({"user_id": ["u4"], "name": ["hours"], "value": ["12-14"], "at": [START]})
    return {"messages": messages(), "users": users(), "preferences": wanted}


@pytest.fixture(scope="module")
def found() -> Habits:
    return habits(Tables.from_frames(**tables()).as_of(NOW), NOW)


@pytest.fixture(scope="module")
def model(found: Habits) -> Timing:
    told = Engagement.from_frames(found.people.index, found.answers, found.active, channels=["email", "push"])
    return Timing().fit(told)


def test_the_hour_is_by_their_own_clock_and_the_channel_one_that_reaches_them(model: Timing, found: Habits) -> None:
    times, _ = send_times(model, "send-time 1", found, ["u0", "u1"], explore=0.0, now=NOW)
    assert [time.time_zone for time in times] == [TOKYO, NEW_YORK]
    assert max(abs(time.best_hour - own) for time, own in zip(times, (9, 20), strict=True)) <= 2
    assert [(time.hour, time.probability, time.channel) for time in times] == [
        (t.best_hour, 1.0, "email") for t in times
    ]
    assert all(t.open_rate_low <= t.open_rate <= t.open_rate_high for t in times)
    assert not any(time.fallback or time.note for time in times)


def test_a_stranger_gets_what_is_best_for_everybody_and_is_told_so(model: Timing, found: Habits) -> None:
    [time], [decision] = send_times(model, "send-time 1", found, ["nobody"], explore=0.0, now=NOW)
    assert time.fallback
    assert "best for everybody" in time.note
    assert "the shop's commonest" in time.note
    assert decision["user_id"] == "nobody"


def test_who_chose_hours_is_written_to_in_those(model: Timing, found: Habits) -> None:
    days = [NOW + timedelta(days=day) for day in range(20)]
    asked = [send_times(model, "send-time 1", found, ["u4"], explore=1.0, now=day) for day in days]
    assert {times[0].hour for times, _ in asked} == {12, 13}
    assert {decisions[0]["probability"][0] for _, decisions in asked} == {0.5}


def test_the_draw_stays_all_day_changes_by_day_and_is_as_often_as_its_probability(model: Timing, found: Habits) -> None:
    people = [f"stranger-{number}" for number in range(4000)]

    def drawn(now: datetime) -> tuple[list[int], list[str], list[float]]:
        times, decisions = send_times(model, "send-time 1", found, people, explore=0.3, now=now)
        return [t.hour for t in times], [d["decision_id"] for d in decisions], [t.probability for t in times]

    morning, evening, tomorrow = (drawn(now) for now in (NOW, NOW + timedelta(hours=8), NOW + timedelta(days=1)))
    assert morning == evening
    assert 0.3 < np.mean(np.array(morning[0]) != tomorrow[0]) < 0.6
    assert not set(morning[1]) & set(tomorrow[1])
    chance = dict(zip(morning[0], morning[2], strict=True))
    assert sum(chance.values()) == pytest.approx(1)
    for hour, times in Counter(morning[0]).items():
        assert times / len(people) == pytest.approx(chance[hour], abs=0.02)


@pytest.fixture
def shop_that_writes(workspace, registry):
    """The shop with messages, and a champion of the hour."""
    for name, frame in tables().items():
        frame.to_parquet(workspace.tables_dir / f"{name}.parquet", index=False)
    check(workspace)
    build(workspace, [(START + pd.Timedelta(days=DAYS)).to_pydatetime()])
    said = habits(workspace.checked.as_of(NOW), NOW)
    model = Timing().fit(
        Engagement.from_frames(said.people.index, said.answers, said.active, channels=["email", "push"])
    )
    folder = workspace.path / "versions" / "send-time" / "1"
    model.save(folder)
    expected = model.score(Engagement.from_lists(model.channels, [{}])).rate.tolist()
    (folder / EXAMPLES).write_text(json.dumps({"people": [{}], "expected": expected}))
    until = (datetime.now(UTC) - timedelta(days=100)).isoformat()
    (folder / "card.json").write_text(json.dumps({"seed": 0, "fitted_until": until, "horizon_days": 42}))
    seal(folder)
    registry.champions["send-time"] = 1
    return workspace


def scored(client, body) -> dict:
    """What the route says."""
    answer = client.post("/v1/score", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_route_answers_warns_and_keeps_each_decision_once(shop_that_writes, client) -> None:
    body = {"user_ids": ["u0", "u1", "nobody"], "models": ["send-time"]}
    answer = scored(client, body)
    assert answer["model_version"] == "send-time 1"
    assert answer["warnings"][0].startswith("send-time 1 is stale: what it learnt from ended 2.4 horizons of 42 days")
    times = [user["send_time"] for user in answer["users"]]
    assert [time["time_zone"] for time in times[:2]] == [TOKYO, NEW_YORK]
    assert max(abs(time["best_hour"] - own) for time, own in zip(times, (9, 20), strict=False)) <= 2
    assert answer["users"][0]["scores"] == {}
    assert [time["fallback"] for time in times] == [False, False, True]

    again = scored(client, body)
    assert [user["send_time"]["decision_id"] for user in again["users"]] == [time["decision_id"] for time in times]
    decisions = state_tables["decisions"]
    with client.engine.state.reading() as connection:
        rows = connection.execute(sa.select(decisions).where(decisions.c.slot == "send-time")).mappings().all()
    assert {row["decision_id"]: (row["chosen"], row["probability"]) for row in rows} == {
        time["decision_id"]: ([str(time["hour"])], [time["probability"]]) for time in times
    }


def test_who_is_asked_about_twice_is_answered_twice_alike(shop_that_writes, client) -> None:
    one, stranger, again = scored(client, {"user_ids": ["u0", "nobody", "u0"], "models": ["send-time"]})["users"]
    assert one == again != stranger


def test_answers_that_just_came_count(shop_that_writes, client) -> None:
    at = datetime.now(UTC) - timedelta(days=30)
    sent = [at + timedelta(days=day) for day in range(25)]
    sent = [day.replace(hour=17, minute=5) for day in sent]  # everybody's evening in Berlin
    rows = [
        {"message_id": f"new-{number}", "user_id": "new", "channel": "email", "sent_at": day.isoformat(),
         "opened_at": (day + timedelta(minutes=5)).isoformat()}
        for number, day in enumerate(sent)
    ]  # fmt: skip
    told = scored(client, {"user_ids": ["new"]})["users"][0]["send_time"]
    assert told["fallback"]
    people = [{"user_id": "new", "timezone": "Europe/Berlin"}]
    stored = client.post("/v1/tables", {"messages": rows, "users": people}, key=client.admin)
    assert stored.json()["refused"] == []
    told = scored(client, {"user_ids": ["new"]})["users"][0]["send_time"]
    assert (told["fallback"], told["time_zone"]) == (False, "Europe/Berlin")
    assert abs(told["best_hour"] - 18.5) <= 2


def test_without_a_champion_the_hour_is_null_with_the_reason(client) -> None:
    time = scored(client, {"user_ids": ["u1"]})["users"][0]["send_time"]
    assert time["hour"] is None
    assert "send-time has no champion" in time["note"]


def decided(client, **ask) -> dict:
    """What `/v1/decide` says of a message with one list of items."""
    answer = client.post("/v1/decide", {"user_id": "u0", "items": [{"k": 1}], "send_time": True, **ask})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_message_is_told_its_hour_which_is_the_one_of_the_day(shop_that_writes, client) -> None:
    assert (decided(client, channel="email")["held_back"][0]["rule"], decided(client)["send_time"]["hour"]) == (
        "consent", None
    )  # fmt: skip
    assert client.post("/v1/consents", {"user_id": "u0", "consents": {"email": True}}).status_code == 200
    told = decided(client, channel="email")["send_time"]
    own = scored(client, {"user_ids": ["u0"], "models": ["send-time"]})["users"][0]["send_time"]
    same = ("hour", "probability", "time_zone", "decision_id")
    assert [told[name] for name in same] == [own[name] for name in same]
    assert decided(client, channel="email")["model_version"].endswith(", send-time 1")
    at = pd.Timestamp(told["send_at"])
    assert at.tz_convert(TOKYO).hour == told["hour"]
    assert timedelta(0) <= at - pd.Timestamp.now("UTC") + timedelta(minutes=1) <= timedelta(days=1, minutes=1)
    assert decided(client, channel="email", send_time=False)["send_time"] is None
    decisions = state_tables["decisions"].c
    with client.engine.state.reading() as connection:
        rows = connection.execute(sa.select(decisions.chosen).where(decisions.decision_id == told["decision_id"])).all()
    assert rows == [([str(told["hour"])],)]


@pytest.mark.parametrize(
    ("hour", "channel", "quiet", "at", "chance"),
    [
        (20, "email", "", "2026-02-20T20:00", 0.5),
        (15, "email", "", "2026-02-20T15:00", 0.5),
        (9, "email", "", "2026-02-21T09:00", 0.5),
        (20, "email", "18-8", "2026-02-21T08:00", None),
        (20, "email", "21-8", "2026-02-20T20:00", 0.5),
        (20, "web", "", "2026-02-20T15:00", None),
        (None, "email", "", "2026-02-20T15:00", None),
    ],
)
def test_the_next_moment_is_the_next_such_hour_that_is_not_quiet(hour, channel, quiet, at, chance) -> None:
    time = no_time("").model_copy(update={"hour": hour, "probability": 0.5, "time_zone": "UTC"})
    rules = Rules(quiet_hours={"email": quiet} if quiet else {})
    found = next_moment(time, Person("ann"), channel, rules, now=NOW)
    assert found == Moment(datetime.fromisoformat(f"{at}+00:00"), found.hour, chance)
    assert (found.hour is None) == (channel == "web" or hour is None)
