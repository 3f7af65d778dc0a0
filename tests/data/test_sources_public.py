"""The public data sets besides Online Retail: Retailrocket, MovieLens, Complete Journey."""

from pathlib import Path

import pandas as pd
import pytest

from data.sources import import_source
from data.workspace import Workspace


def test_retailrocket_events_carry_the_names_of_the_contract(tmp_path: Path) -> None:
    rows = (
        "user,item,event,timestamp\n1,7,view,1430623510\n1,7,cart,1430623535\n1,7,buy,1430627474\n1,7,wish,1430627475\n"
    )
    (tmp_path / "events.csv").write_text(rows)
    import_source("retailrocket", tmp_path / "events.csv", tmp_path / "shop")
    events = Workspace.open(tmp_path / "shop").tables["events"].order_by("occurred_at").execute()
    assert events["event"].tolist() == ["product_viewed", "product_added", "order_completed", "wish"]
    assert events["occurred_at"][0] == pd.Timestamp(1430623510, unit="s", tz="UTC")
    assert events["user_id"].tolist() == ["1"] * 4


@pytest.mark.parametrize(
    ("source", "file", "more"), [("retailrocket", "events", {"event": "view"}), ("movielens", "ratings", {"rating": 3})]
)
def test_ids_that_a_gap_made_fractions_are_whole_again(
    tmp_path: Path, source: str, file: str, more: dict[str, object]
) -> None:
    frame = pd.DataFrame({"user": [7.0, None], "item": [10.0, 2.0], "timestamp": 1_600_000_000}).assign(**more)
    (tmp_path / "brought").mkdir()
    frame.to_parquet(tmp_path / "brought" / f"{file}.parquet")
    import_source(source, tmp_path / "brought", tmp_path / "shop")
    events = Workspace.open(tmp_path / "shop").tables["events"].execute()
    assert events[["user_id", "item_id"]].values.tolist() == [["7", "10"]]


def test_the_original_retailrocket_layout_counts_milliseconds(tmp_path: Path) -> None:
    rows = (
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
        "1433222276276,599528,transaction,356475,4000\nlater,599528,view,356475,\n"
    )
    (tmp_path / "events.csv").write_text(rows)
    done = import_source("retailrocket", tmp_path, tmp_path / "shop")
    assert dict(done.refused) == {"timestamp is not a time": 1}
    events = Workspace.open(tmp_path / "shop").tables["events"].order_by("occurred_at").execute()
    assert events["occurred_at"][0] == pd.Timestamp("2015-06-02 05:02:12.117", tz="UTC")
    assert events["order_id"].tolist()[1] == "4000"


def test_rows_that_say_the_same_get_ids_that_depend_on_nothing_else(tmp_path: Path) -> None:
    rows = ["1,7,view,100", "1,7,view,100", "2,7,view,100"]
    ids = []
    for number, order in enumerate((rows, rows[::-1])):
        (tmp_path / "events.csv").write_text("\n".join(["user,item,event,timestamp", *order]))
        import_source("retailrocket", tmp_path / "events.csv", tmp_path / str(number))
        ids.append(sorted(Workspace.open(tmp_path / str(number)).tables["events"]["event_id"].execute()))
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


def test_retailrocket_as_published(shared_data: Path, tmp_path: Path) -> None:
    done = import_source("retailrocket", shared_data / "retailrocket/events.parquet", tmp_path)
    assert dict(done.rows) == {"events": 97_381}
    counts = Workspace.open(tmp_path).tables["events"]["event"].value_counts().execute().set_index("event").iloc[:, 0]
    assert counts.to_dict() == {"product_viewed": 75_374, "product_added": 12_456, "order_completed": 9_551}


@pytest.mark.parametrize("layout", ["csv", "dat"])
def test_movielens_ratings_are_reviews(tmp_path: Path, layout: str) -> None:
    if layout == "csv":
        (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,4.5,978300760\n")
        (tmp_path / "movies.csv").write_text('movieId,title,genres\n2,"Misérables, Les (1995)",Drama|Musical\n')
    else:
        (tmp_path / "ratings.dat").write_text("1::2::4.5::978300760\n")
        (tmp_path / "movies.dat").write_text("2::Misérables, Les (1995)::Drama|Musical\n", encoding="latin-1")
        (tmp_path / "users.dat").write_text("1::F::25::10::48067\n")
    import_source("movielens", tmp_path, tmp_path / "shop")
    tables = Workspace.open(tmp_path / "shop").tables
    event = tables["events"].execute().iloc[0]
    assert (event["event"], event["user_id"], event["item_id"], event["value"]) == ("product_reviewed", "1", "2", 4.5)
    assert event["occurred_at"] == pd.Timestamp("2000-12-31 22:12:40", tz="UTC")
    film = tables["items"].execute().iloc[0]
    assert (film["name"], film["category"], film["genres"]) == ("Misérables, Les (1995)", "Drama", "Drama|Musical")
    if layout == "dat":
        person = tables["users"].execute().iloc[0]
        assert (person["gender"], person["age"], person["zip_code"]) == ("F", "25", "48067")


def test_movielens_100k_as_published(shared_data: Path, tmp_path: Path) -> None:
    done = import_source("movielens", shared_data / "ml100k", tmp_path)
    assert dict(done.rows) == {"events": 100_000, "items": 1_682, "users": 943}


@pytest.fixture(scope="module")
def journey(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("journey")
    import_source("complete-journey", shared_data / "completejourney", home)
    return Workspace.open(home)


def test_complete_journey_orders_add_up_to_what_the_shop_earned(journey: Workspace, shared_data: Path) -> None:
    lines = pd.read_parquet(shared_data / "completejourney/transactions_sample.parquet")
    orders = journey.tables["orders"].execute()
    refused = pd.read_parquet(journey.path / "left-out/complete-journey.parquet")
    assert len(orders) + len(refused) == len(lines) == 100_000
    earned = (orders["unit_price"] * orders["quantity"] - orders["discount"]).sum()
    assert earned == pytest.approx(lines.loc[lines["quantity"] > 0, "sales_value"].sum())


def test_complete_journey_mail_has_no_opens_and_redemptions_are_known_the_day_after(journey: Workspace) -> None:
    tables = journey.tables
    assert tables["messages"].count().execute() == 6_589
    assert not tables.has("messages", "opened_at")
    assert tables["offers"].count().execute() == 1_197
    used = tables["events"].execute()
    assert len(used) == 2_102
    assert (used["received_at"] - used["occurred_at"] == pd.Timedelta(days=1)).all()
    assert set(used["offer_id"]) <= set(tables["offers"]["offer_id"].execute())


def test_complete_journey_knows_every_household_and_hides_fuel(journey: Workspace) -> None:
    tables = journey.tables
    assert set(tables["orders"]["user_id"].execute()) <= set(tables["users"]["user_id"].execute())
    items = tables["items"].execute()
    assert not items.loc[items["category"] == "FUEL", "available"].any()
    assert items["available"].mean() > 0.99
