"""Any files with a mapping become tables."""

import json
from pathlib import Path

import pandas as pd
import pytest

from data.checks import check
from data.errors import DataError
from data.sources import ImportSummary, import_source
from data.sources.tables import read_mapping
from data.workspace import Workspace

ORDERS = """
[orders]
file = "sales.csv"
time_format = "%d.%m.%Y %H:%M"
time_zone = "Europe/Amsterdam"
[orders.columns]
order_id = "Bon"
user_id = "Klant"
item_id = "Artikel"
quantity = "Aantal"
unit_price = "Prijs"
occurred_at = "Tijd"
till = { constant = "main street" }
"""
EVENTS = "[[events]]\ncolumns = {{{}user_id = 'b', event = 'c', occurred_at = 'd'}}\n"
SALES = """\
Bon,Klant,Artikel,Aantal,Prijs,Tijd
b1,007,tea,1,4.50,01.07.2026 10:00
b1,007,tea,1,4.50,01.07.2026 10:00
b2,,cup,two,3,01.07.2026 11:00
b3,008,cup,1,3,noon
"""


def run(tmp_path: Path, mapping: str, **files: str) -> ImportSummary:
    brought = tmp_path / "brought"
    brought.mkdir(exist_ok=True)
    for name, text in files.items():
        (brought / f"{name}.csv").write_text(text)
    (tmp_path / "mapping.toml").write_text(mapping)
    return import_source("tables", brought, tmp_path / "shop", mapping=tmp_path / "mapping.toml")


def test_columns_times_and_constants_are_mapped(tmp_path: Path) -> None:
    done = run(tmp_path, ORDERS, sales=SALES)
    orders = Workspace.open(tmp_path / "shop").tables["orders"].order_by("order_id", "line_id").execute()
    assert orders["line_id"].tolist() == ["1", "2", "1"]
    assert orders["user_id"].tolist()[:2] == ["007", "007"]
    assert pd.isna(orders["user_id"][2]), "a guest"
    assert orders["occurred_at"][0] == pd.Timestamp("2026-07-01 08:00", tz="UTC")
    assert set(orders["till"]) == {"main street"}
    twice, kept, money = done.notes
    assert twice.startswith("orders: 1 line says just what another line of the order says, and counts")
    assert kept == "orders: till: not in the contract, kept as attributes"
    assert "taken to be USD" in money
    assert "attune.toml" in money


def test_a_time_that_cannot_be_read_is_refused_and_a_wrong_number_is_left_to_the_check(tmp_path: Path) -> None:
    done = run(tmp_path, ORDERS, sales=SALES)
    assert dict(done.refused) == {"occurred_at is not a time": 1}
    kept = pd.read_parquet(tmp_path / "shop/left-out/tables.parquet")
    assert '"Bon":"b3"' in kept["line"][0]
    stored = pd.read_parquet(tmp_path / "shop/tables/orders.parquet")
    assert "two" in stored["quantity"].tolist()


def test_several_files_become_one_table_and_values_are_translated(tmp_path: Path) -> None:
    mapping = """
    [[events]]
    file = "views.csv"
    time_format = "epoch_milliseconds"
    columns = { user_id = "who", event = { constant = "product_viewed" }, item_id = "what", occurred_at = "ms" }
    [[events]]
    file = "actions.csv"
    columns = { user_id = "who", event = "did", occurred_at = "at" }
    values = { event = { cart = "product_added" } }
    """
    done = run(
        tmp_path,
        mapping,
        views="who,what,ms\n1,tea,1767225600000\n",
        actions="who,did,at\n1,cart,2026-01-02T00:00:00+01:00\n1,wave,2026-01-03\n",
    )
    assert dict(done.rows) == {"events": 3}
    events = Workspace.open(tmp_path / "shop").tables["events"].order_by("occurred_at").execute()
    assert events["event"].tolist() == ["product_viewed", "product_added", "wave"]
    assert events["occurred_at"].dt.strftime("%m-%d %H").tolist() == ["01-01 00", "01-01 23", "01-03 00"]
    assert events["event_id"].is_unique


def test_numbers_are_read_as_their_country_writes_them(tmp_path: Path) -> None:
    mapping = ORDERS.replace("[orders.columns]", 'decimal_mark = ","\n[orders.columns]')
    prices = ["1.299,50 €", "EUR 0,99", "1 234,5", "-4", "vier", "1e3"]
    lines = "\n".join(f'b{i},7,tea,1,"{price}",01.07.2026 10:00' for i, price in enumerate(prices))
    run(tmp_path, mapping, sales=f"Bon,Klant,Artikel,Aantal,Prijs,Tijd\n{lines}\n")
    stored = pd.read_parquet(tmp_path / "shop/tables/orders.parquet").sort_values("order_id")
    assert stored["unit_price"].tolist() == ["1299.5", "0.99", "1234.5", "-4.0", "vier", "1000.0"]
    assert stored["item_id"].tolist() == ["tea"] * 6, "what is no number is left alone"


def test_items_of_order_lines_and_visitors_of_events_are_told_once(tmp_path: Path) -> None:
    mapping = """
    [items]
    file = "lines.csv"
    columns = { item_id = "sku", name = "title", price = "paid", updated_at = "at" }
    [users]
    file = "lines.csv"
    columns = { user_id = "who" }
    [identities]
    file = "lines.csv"
    columns = { anonymous_id = "cookie", user_id = "who", at = "at" }
    """
    lines = [
        "tea,Tea,4,2026-01-01,ann,c1", "tea,Tea,4,2026-01-02,ann,c1", "tea,Tea,5,2026-01-03,,c1",
        "tea,Tea,4,2026-01-04,bob,c2", ",,,2026-01-05,ann,c3",
    ]  # fmt: skip
    done = run(tmp_path, mapping, lines="\n".join(["sku,title,paid,at,who,cookie", *lines]))
    tables = Workspace.open(tmp_path / "shop").tables
    items = tables["items"].order_by("updated_at").execute()
    assert items["price"].tolist() == [4, 5, 4], "a row for each change"
    assert sorted(tables["users"].user_id.execute()) == ["ann", "bob"]
    identities = tables["identities"].order_by("anonymous_id").execute()
    assert identities["anonymous_id"].tolist() == ["c1", "c2", "c3"]
    assert identities["at"][0] == pd.Timestamp("2026-01-01", tz="UTC"), "from the first time on"
    assert "items: not brought are rows that only say again what another says: 1" in done.notes
    assert "users: not brought are rows without user_id: 1" in done.notes


def test_what_lies_within_an_object_is_reached_and_each_time_has_its_format(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    what = {"id": 7, "of": {"kind": "tea"}}
    line = {"who": "1", "what": what, "ms": 1767225600000, "got": "2026-01-01T01:00:00+01:00"}
    (tmp_path / "brought/clicks.jsonl").write_text(json.dumps(line) + "\n")
    mapping = """
    [events]
    file = "clicks.jsonl"
    time_format = { occurred_at = "epoch_milliseconds" }
    columns = { user_id = "who", event = {constant = "product_viewed"}, item_id = "what.id", category = "what.of.kind",
        occurred_at = "ms", received_at = "got" }
    """.replace(",\n       ", ",")
    run(tmp_path, mapping)
    event = Workspace.open(tmp_path / "shop").tables["events"].execute().iloc[0]
    assert (event["item_id"], event["category"]) == ("7", "tea")
    assert event["occurred_at"] == event["received_at"] == pd.Timestamp("2026-01-01", tz="UTC")
    with pytest.raises(DataError, match=r"\['what.name'\] are missing; it has .*'what.id'"):
        run(tmp_path, mapping.replace("what.id", "what.name"))


def test_text_of_json_lines_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    line = {"who": "0B3C2A10-AAAA-4BBB-8CCC-1234567890AB", "of": {"date": "2026-01-02T10:00:00"}}
    (tmp_path / "brought/views.jsonl").write_text(json.dumps(line) + "\n")
    run(
        tmp_path,
        "[events]\nfile = 'views.jsonl'\ntime_format = '%Y-%m-%dT%H:%M:%S'\n[events.columns]\n"
        "user_id = 'who'\noccurred_at = 'of.date'\nevent = { constant = 'product_viewed' }",
    )
    event = Workspace.open(tmp_path / "shop").tables["events"].execute().iloc[0]
    assert event["user_id"] == line["who"]
    assert event["occurred_at"] == pd.Timestamp("2026-01-02T10:00Z")


def test_values_of_several_types_are_one_id_however_late_the_odd_one_comes(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    lines = [json.dumps({"who": number % 7, "at": "2026-01-01"}) for number in range(21_000)]
    lines.append(json.dumps({"who": "ann", "at": "2026-01-02"}))
    (tmp_path / "brought/views.jsonl").write_text("\n".join(lines))
    run(
        tmp_path,
        "[events]\nfile = 'views.jsonl'\n[events.columns]\nuser_id = 'who'\noccurred_at = 'at'\n"
        "event = { constant = 'product_viewed' }",
    )
    found = Workspace.open(tmp_path / "shop").tables["events"].user_id.execute()
    assert set(found) == {*map(str, range(7)), "ann"}


def test_an_attribute_may_be_called_source_or_reason(tmp_path: Path) -> None:
    run(tmp_path, ORDERS + 'source = "Bon"\nreason = "Klant"', sales=SALES.replace(",", "|"))
    orders = Workspace.open(tmp_path / "shop").tables["orders"].order_by("order_id", "line_id").execute()
    assert orders["source"].tolist() == ["b1", "b1", "b2"]
    assert orders["reason"].tolist()[:2] == ["007", "007"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", r"sales.csv is empty"),
        (b"\r\n", r"its first line is empty"),
        (SALES.encode("utf-16"), r"sales.csv is not UTF-8. Save it as CSV UTF-8"),
        (SALES.replace("tea", "th\u00e9").encode("cp1252"), r"sales.csv is not UTF-8. Save it as CSV UTF-8"),
        (
            SALES.replace("b3,", "b4,7,cup,1,3,\n" * 40 + "b3,").encode() + b"b5,00",
            r"sales.csv could not be .*Columns: 6 Found: 2\. Mend",
        ),
    ],
)
def test_a_file_that_is_empty_or_broken_off_or_of_another_encoding_is_named(
    tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought/sales.csv").write_bytes(text)
    with pytest.raises(DataError, match=said) as told:
        run(tmp_path, ORDERS)
    assert "\n" not in str(told.value)


def test_where_no_time_can_be_read_it_says_where_the_rows_are_and_what_tells_how_times_are_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        DataError, match=r"is not a time \(rows: 4\); they are in .*tables.parquet.* say by time_format"
    ):
        run(tmp_path, ORDERS.replace("%d.%m.%Y %H:%M", "iso"), sales=SALES)


def test_a_folder_of_files_is_one_table_if_they_have_the_same_columns(tmp_path: Path) -> None:
    months = tmp_path / "brought/sales"
    months.mkdir(parents=True)
    (months / "01.csv").write_text(SALES)
    (months / "02.csv").write_text(SALES.replace("b", "c"))
    (months / "03.csv").write_text("")
    done = run(tmp_path, ORDERS.replace("sales.csv", "sales"))
    assert done.rows["orders"] == 6
    (months / "02.csv").write_text(SALES.replace("Bon,Klant", "Klant,Bon"))
    with pytest.raises(DataError, match=r"02.csv: its columns are \['Klant', 'Bon'.*those of .*01.csv are"):
        run(tmp_path, ORDERS.replace("sales.csv", "sales"))


def test_ids_that_pandas_made_numbers_become_whole_again(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    frame = pd.DataFrame(
        {"who": [17850.0, None], "at": pd.to_datetime(["2026-01-01", "2026-01-02"]), "what": ["a", "b"]}
    )
    frame.to_parquet(tmp_path / "brought/calls.parquet")
    run(tmp_path, '[events]\nfile = "calls.parquet"\ncolumns = { user_id = "who", event = "what", occurred_at = "at" }')
    events = Workspace.open(tmp_path / "shop").tables["events"].order_by("occurred_at").execute()
    assert events["user_id"][0] == "17850"
    assert pd.isna(events["user_id"][1])


def test_numbers_that_stand_for_words_or_shares_are_translated(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    at = pd.to_datetime(["2026-01-02"] * 3)
    frame = pd.DataFrame({"who": list("abc"), "at": at, "variation": [0, 1, 2], "yes": [1, 0, 1]})
    frame.to_parquet(tmp_path / "brought/assigned.parquet")
    mapping = """
    [decisions]
    file = "assigned.parquet"
    columns = { user_id = "who", at = "at", kind = {constant = "action"}, slot = {constant = "mail"}, arm = "variation",
        arm_share = "variation", chosen = {constant = "spring"}, probability = {constant = 1},
        model_version = {constant = "hand"}, wave = "variation" }
    [decisions.values]
    arm = { 0 = "holdout", 1 = "usual", 2 = "usual" }
    arm_share = { 0 = "0.2", 1 = "0.8", 2 = "0.8" }
    wave = { 0 = "none" }
    [consents]
    file = "assigned.parquet"
    columns = { user_id = "who", purpose = {constant = "email"}, granted = "yes", at = "at" }
    values = { granted = { 1 = "true", 0 = "false" } }
    """.replace(",\n       ", ",")
    run(tmp_path, mapping)
    shop = Workspace.open(tmp_path / "shop")
    decisions = shop.tables["decisions"].order_by("user_id").execute()
    assert decisions["arm"].tolist() == ["holdout", "usual", "usual"]
    assert decisions["arm_share"].tolist() == [0.2, 0.8, 0.8]
    assert decisions["wave"].tolist() == ["none", "1", "2"]
    assert shop.tables["consents"].order_by("user_id").granted.execute().tolist() == [True, False, True]


def test_a_number_that_is_a_text_keeps_its_fraction(tmp_path: Path) -> None:
    (tmp_path / "brought").mkdir()
    frame = pd.DataFrame({"who": ["ann", "bob", "cid"], "most": [2.5, 3.0, None]})
    frame.to_parquet(tmp_path / "brought/chosen.parquet")
    run(
        tmp_path,
        '[preferences]\nfile = "chosen.parquet"\n'
        'columns = { user_id = "who", name = {constant = "most"}, value = "most", at = {constant = "2026-01-01"} }',
    )
    chosen = Workspace.open(tmp_path / "shop").tables["preferences"].order_by("user_id").execute()
    assert chosen["value"].tolist()[:2] == ["2.5", "3"]
    assert pd.isna(chosen["value"][2])


def test_what_was_always_known_is_not_taken_for_known_from_when_it_was_said_again(tmp_path: Path) -> None:
    mapping = '[items]\nfile = "items.csv"\ncolumns = { item_id = "sku", name = "title", updated_at = "at" }'
    run(tmp_path, mapping, items="sku,title,at\ntea,Tea,\ntea,Tea,2026-02-01\ntea,Chai,2026-03-01\n")
    items = Workspace.open(tmp_path / "shop").tables["items"].order_by("updated_at").execute()
    assert items["name"].tolist() == ["Chai", "Tea"]
    assert pd.isna(items["updated_at"][1]), "no time = always known"


def test_a_time_that_tells_its_zone_in_a_pattern_is_not_shifted_again(tmp_path: Path) -> None:
    mapping = ORDERS.replace("%H:%M", "%H:%M %z")
    run(tmp_path, mapping, sales="Bon,Klant,Artikel,Aantal,Prijs,Tijd\nb1,1,tea,1,4,01.07.2026 10:00 +0500\n")
    orders = Workspace.open(tmp_path / "shop").tables["orders"].execute()
    assert orders["occurred_at"][0] == pd.Timestamp("2026-07-01 05:00", tz="UTC")


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("[orders", "not valid TOML"),
        ("", "names no table"),
        ("[order]\ncolumns = {a = 'b'}", "'order' is no table"),
        ("[orders]\ncolumn = {a = 'b'}", "orders.*column.*Extra inputs"),
        ("[orders]\ncolumns = {order_id = 'Bon'}", r"must say what \['item_id', 'quantity', 'occurred_at'\] are"),
        (ORDERS.replace("Amsterdam", "Atlantis"), "no such time zone"),
        (ORDERS.replace('"Klant"', '"Kunde"'), r"\['Kunde'\] are missing; it has \['Bon', 'Klant'"),
        (ORDERS.replace("sales.csv", "sold.csv"), "sold.csv does not exist"),
        (ORDERS.replace("%d.%m.%Y %H:%M", "dd.mm.yyyy"), r"orders.0.time_format: .*a pattern such as %d.%m.%Y %H:%M"),
        (ORDERS.replace('"%d.%m.%Y %H:%M"', "{ at = 'iso' }"), r"orders.time_format. has \['at'\], which"),
        (
            EVENTS.format("event_id = 'e', ") + EVENTS.format(""),
            r"some of ..events.. say what event_id is and some do not",
        ),
        (ORDERS + "[orders.values.colour]\na = 'b'", "'colour'.*which .orders.columns. has not"),
    ],
)
def test_a_mapping_that_does_not_fit_says_where(tmp_path: Path, mapping: str, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s){said}"):
        run(tmp_path, mapping, sales=SALES)


def test_the_mapping_in_the_documentation_is_a_mapping(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/importing.md").read_text(encoding="utf-8")
    (tmp_path / "mapping.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert set(read_mapping(tmp_path / "mapping.toml")) == {"orders", "events", "items"}


def test_a_campaign_with_a_holdout_is_read_as_the_documentation_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/importing.md").read_text(encoding="utf-8")
    people = "".join(f"{who},2026-01-02,{'Control' if who % 5 == 0 else 'Mail'}\n" for who in range(10))
    orders = "[orders]\nfile = 'sales.csv'\n[orders.columns]\n" + "\n".join(
        f"{name} = '{name}'" for name in ("order_id", "user_id", "item_id", "quantity", "occurred_at")
    )
    done = run(
        tmp_path,
        page.split("```toml\n")[2].split("```")[0] + orders,
        assignments="who,assigned,variation\n" + people,
        sales="order_id,user_id,item_id,quantity,occurred_at\n1,1,tea,1,2026-01-03\n",
    )
    assert done.rows["decisions"] == 10
    shop = Workspace.open(tmp_path / "shop")
    assert check(shop).findings == ()
    decisions = shop.checked["decisions"].execute()
    assert decisions.groupby("arm")["arm_share"].agg(["size", "first"]).T.to_dict() == {
        "holdout": {"size": 2, "first": 0.2},
        "usual": {"size": 8, "first": 0.8},
    }
    assert [list(chance) for chance in decisions["probability"]] == [[1.0]] * 10


def test_the_mapping_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs --mapping"):
        import_source("tables", tmp_path, tmp_path / "shop")
    with pytest.raises(DataError, match="takes no mapping"):
        import_source("segment", tmp_path, tmp_path / "shop", mapping=tmp_path / "mapping.toml")
