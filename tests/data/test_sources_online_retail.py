"""Online Retail: invoice lines become orders, users and items."""

from pathlib import Path

import pandas as pd
import pytest

from data.sources import import_source
from data.workspace import Workspace

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
LINES = """\
536365,85123A,HEART,6,12/1/2010 8:26,2.55,17850.0,United Kingdom
536365,85123A,HEART,6,12/1/2010 8:26,2.55,17850.0,United Kingdom
536366,85123a,HEART,1,12/1/2010 9:00,5.91,,United Kingdom
C536367,85123A,HEART,-2,7/1/2011 9:00,2.55,17850.0,United Kingdom
536368,POST,POSTAGE,1,7/1/2011 9:00,18,12583.0,France
536369,22139,damaged,-5,7/2/2011 9:00,0,,United Kingdom
536370,22139,CUP,two,7/2/2011 9:00,1,,United Kingdom
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    (tmp_path / "lines.csv").write_text(HEADER + LINES)
    import_source("online-retail", tmp_path / "lines.csv", tmp_path / "shop")
    return Workspace.open(tmp_path / "shop")


def test_a_repeated_line_a_guest_and_a_return_are_kept(shop: Workspace) -> None:
    orders = shop.tables["orders"].order_by("order_id", "line_id").execute()
    assert orders[["order_id", "line_id"]].to_numpy().tolist() == [
        ["536365", "1"], ["536365", "2"], ["536366", "1"], ["536368", "1"], ["536369", "1"], ["C536367", "1"],
    ]  # fmt: skip
    assert orders["user_id"].isna().tolist() == [False, False, True, False, True, False]
    assert orders["user_id"].dropna().unique().tolist() == ["17850", "12583"]
    assert orders["quantity"].tolist() == [6, 6, 1, 1, -5, -2]
    assert orders["item_id"].tolist()[2] == "85123A"


def test_london_times_become_utc(shop: Workspace) -> None:
    times = shop.tables["orders"].execute().set_index("order_id")["occurred_at"]
    assert times["536366"] == pd.Timestamp("2010-12-01 09:00", tz="UTC")
    assert times["536368"] == pd.Timestamp("2011-07-01 08:00", tz="UTC")


def test_an_item_is_known_as_first_seen_then_by_the_month_before(shop: Workspace) -> None:
    items = shop.tables["items"].execute()
    heart = items[items["item_id"] == "85123A"].sort_values("updated_at")
    assert heart["name"].tolist() == ["HEART"]
    assert heart["updated_at"].tolist() == [pd.Timestamp("2010-12-01 08:26", tz="UTC")]
    assert heart["price"].tolist() == [2.55]


def test_postage_and_what_was_never_sold_are_not_available(shop: Workspace) -> None:
    items = shop.tables["items"].execute().set_index("item_id")
    assert items.loc["POST", "category"] == "service"
    assert items["available"].to_dict() == {"85123A": True, "POST": False, "22139": False}
    assert pd.isna(items.loc["22139", "name"])


def test_a_line_that_cannot_be_read_is_kept_with_its_reason(shop: Workspace) -> None:
    refused = pd.read_parquet(shop.path / "left-out/online-retail.parquet")
    assert refused["reason"].tolist() == ["Quantity is not a whole number: two"]


def test_the_shop_is_in_pounds(shop: Workspace) -> None:
    assert shop.settings.shop.currency == "GBP"


def test_the_published_counts(shared_data: Path, tmp_path: Path) -> None:
    done = import_source("online-retail", shared_data / "online_retail/lines.parquet", tmp_path)
    assert done.rows["orders"] == 541_909
    assert not done.refused
    tables = Workspace.open(tmp_path).tables
    orders = tables["orders"]
    assert orders["user_id"].isnull().sum().execute() == 135_080
    assert orders["user_id"].nunique().execute() == tables["users"]["user_id"].nunique().execute() == 4_372
    assert orders.select("order_id", "line_id").distinct().count().execute() == 541_909
    assert tables.has("orders", "unit_price")
    assert not tables.has("orders", "offer_id")
