"""Sources that are experiments: who got nothing is there too, with the chance of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.checks import check
from data.sources import import_source
from data.workspace import Workspace

HILLSTROM = (
    "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit,conversion,spend\n"
    "10,2) $100 - $200,142.44,1,0,Surburban,0,Phone,Womens E-Mail,1,1,29.99\n"
    "6,3) $200 - $350,329.08,1,1,Rural,1,Web,No E-Mail,1,0,0\n"
    "6,3) $200 - $350,329.08,1,1,Rural,1,Web,No E-Mail,1,0,0\n"
    "9,5) $500 - $750,675.83,1,0,Rural,1,Web,Mens E-Mail,0,0,0\n"
    "9,5) $500 - $750,675.83,1,0,Rural,1,Web,Gift,0,0,0\n"
)


def test_hillstrom_keeps_who_got_no_mail_with_the_chance_of_it(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text(HILLSTROM)
    done = import_source("hillstrom", tmp_path / "customers.csv", tmp_path / "shop")
    assert dict(done.refused) == {"segment is no mail of the experiment": 1}
    assert done.rows["users"] == done.rows["decisions"] == 4
    shop = Workspace.open(tmp_path / "shop")
    assert check(shop).fit
    tables = shop.checked
    decisions = tables["decisions"].execute()
    assert sorted(chosen[0] for chosen in decisions["chosen"]) == ["Mens E-Mail", "Womens E-Mail", "none", "none"]
    assert np.concatenate(decisions["probability"].to_list()) == pytest.approx(1 / 3)
    assert tables["messages"].count().execute() == 2
    assert tables["events"].count().execute() == 3
    order = tables["orders"].execute().iloc[0]
    assert (order["unit_price"], order["quantity"]) == (29.99, 1.0)
    outcome = tables["outcomes"].execute().iloc[0]
    assert (outcome["kind"], outcome["chosen_id"], outcome["value"]) == ("conversion", "Womens E-Mail", 29.99)


def test_starbucks_purchases_are_net_of_rewards_and_belong_to_the_last_wave(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text(
        "gender,age,id,became_member_on,income\nF,55,ann,20180101,50000\n,118,bob,20180102,\n"
    )
    (tmp_path / "offers.csv").write_text(
        'reward,channels,difficulty,duration,offer_type,id\n5,"[web, email]",20,10,discount,half\n'
    )
    (tmp_path / "events.csv").write_text(
        "person,event,hour,offer_id,amount,reward\nann,offer received,0,half,,\nann,offer viewed,3,half,,\n"
        "ann,transaction,5,,22.5,\nann,offer completed,5,half,,5\nbob,offer received,48,half,,\n"
        "ann,transaction,50,,4,\nann,transaction,late,,4,\n"
    )
    done = import_source("starbucks-offers", tmp_path, tmp_path / "shop")
    assert dict(done.refused) == {"hour is not a number": 1}
    shop = Workspace.open(tmp_path / "shop")
    assert check(shop).fit
    tables = shop.checked
    decisions = tables["decisions"].order_by("decision_id").execute().set_index("decision_id")
    assert [chosen[0] for chosen in decisions["chosen"]] == ["half", "none", "none", "half"]
    assert np.concatenate(decisions["probability"].to_list()).tolist() == [0.5] * 4
    assert decisions.loc["wave-1-ann", "at"] == pd.Timestamp("2018-01-03", tz="UTC")
    opened = tables["messages"].execute().set_index("message_id")["opened_at"]
    assert opened["wave-1-ann"] == pd.Timestamp("2018-01-03 03:00", tz="UTC")
    outcomes = tables["outcomes"].execute()
    conversions = outcomes[outcomes["kind"] == "conversion"].set_index("decision_id")["value"]
    assert conversions.to_dict() == {"wave-1-ann": 17.5, "wave-2-ann": 4.0}
    assert tables["users"].execute().set_index("user_id")["age"].isna().to_dict() == {"ann": False, "bob": True}


def test_hillstrom_as_published(shared_data: Path, tmp_path: Path) -> None:
    done = import_source("hillstrom", shared_data / "hillstrom", tmp_path)
    frame = pd.read_parquet(shared_data / "hillstrom/customers.parquet")
    assert done.rows["decisions"] == done.rows["users"] == 64_000
    assert done.rows["messages"] == 42_694
    assert done.rows["events"] == frame["visit"].sum()
    assert done.rows["orders"] == frame["conversion"].sum()
    outcomes = Workspace.open(tmp_path).tables["outcomes"].execute()
    spent = outcomes.groupby("chosen_id")["value"].sum()
    assert spent["none"] == pytest.approx(frame.loc[frame["segment"] == "No E-Mail", "spend"].sum())


def test_starbucks_offers_as_published(shared_data: Path, tmp_path: Path) -> None:
    done = import_source("starbucks-offers", shared_data / "starbucks_offers", tmp_path)
    events = pd.read_parquet(shared_data / "starbucks_offers/events.parquet")
    assert done.rows["decisions"] == 6 * 17_000
    assert done.rows["messages"] == 76_277
    tables = Workspace.open(tmp_path).tables
    orders = tables["orders"].execute()
    assert (orders["unit_price"] - orders["discount"]).sum() == pytest.approx(
        events["amount"].sum() - events["reward"].sum()
    )
    assert tables["orders"].count().execute() == 138_953
