"""Segment and RudderStack calls become the contract's tables."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.errors import DataError
from data.sources import import_source
from data.tables import Tables
from data.workspace import Workspace

Import = Callable[..., Tables]


def call(type_: str, at: str, **fields: Any) -> dict[str, Any]:
    """A call at a time of 1 May 2026 such as 10:00."""
    return {"type": type_, "timestamp": f"2026-05-01T{at}:00.000Z", "messageId": f"{type_}-{at}", **fields}


def track(event: str, at: str, *, user: str | None = "ann", **properties: Any) -> dict[str, Any]:
    return call("track", at, event=event, userId=user, properties=properties)


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Import calls (or raw lines) and give the tables."""

    def run(*calls: dict[str, Any] | str) -> Tables:
        lines = [c if isinstance(c, str) else json.dumps(c) for c in calls]
        (tmp_path / "calls.jsonl").write_text("\n".join(lines))
        import_source("segment", tmp_path / "calls.jsonl", tmp_path / "shop", replace=True)
        return Workspace.open(tmp_path / "shop").tables

    return run


def refused(tmp_path: Path) -> list[str]:
    found = pd.read_parquet(tmp_path / "shop/left-out/segment.parquet")
    return sorted(reason.split(":")[0] for reason in found["reason"])


def test_event_names_become_snake_case(imported: Import) -> None:
    tables = imported(
        track("Product Viewed", "10:00", product_id="p1", category="Tea"),
        track("productAdded", "10:01", sku="s1"),
        track("Überraschung geöffnet!", "10:02"),
        call("page", "10:03", userId="ann", context={"page": {"path": "/tea"}}, properties={"category": "Docs"}),
        call("screen", "10:04", anonymousId="x", name="Home", context={"sessionId": 17}),
        call("group", "10:05", userId="ann", groupId="acme"),
    )
    events = tables["events"].order_by("occurred_at").execute()
    assert events["event"].tolist() == [
        "product_viewed", "product_added", "überraschung_geöffnet", "page_viewed", "page_viewed", "group",
    ]  # fmt: skip
    assert events["item_id"].tolist()[:2] == ["p1", "s1"]
    assert events["category"].dropna().tolist() == ["Tea"]
    assert events["page"].dropna().tolist() == ["/tea", "Home"]
    assert events["session_id"].dropna().tolist() == ["17"]
    assert events["event_id"].tolist()[0] == "track-10:00"


def test_a_list_of_products_becomes_one_event_each_and_a_cart_stays_one(imported: Import) -> None:
    products = [{"product_id": "p1", "category": "Tea"}, {"sku": "p2"}]
    tables = imported(
        track("Product List Viewed", "10:00", category="Drinks", products=products),
        track("Checkout Started", "10:01", products=products, value=12.5),
    )
    events = tables["events"].order_by("event_id").execute()
    assert events["event_id"].tolist() == ["track-10:00-1", "track-10:00-2", "track-10:01"]
    assert events["item_id"].tolist()[:2] == ["p1", "p2"]
    assert events["category"].tolist()[:2] == ["Tea", "Drinks"]
    assert pd.isna(events["item_id"][2])
    assert events["value"][2] == 12.5


def test_an_order_becomes_lines_and_keeps_its_event(imported: Import) -> None:
    products = [{"product_id": "p1", "price": "30", "quantity": 1}, {"product_id": "p2", "price": 5, "quantity": 2}]
    tables = imported(
        track("Order Completed", "10:00", order_id="o1", revenue=36, discount=4, coupon="MAY", products=products)
    )
    lines = tables["orders"].order_by("line_id").execute()
    assert lines[["order_id", "line_id", "item_id", "offer_id"]].to_numpy().tolist() == [
        ["o1", "1", "p1", "MAY"], ["o1", "2", "p2", "MAY"],
    ]  # fmt: skip
    assert lines["discount"].tolist() == [3.0, 1.0]
    assert (lines["unit_price"] * lines["quantity"] - lines["discount"]).sum() == 36
    event = tables["events"].execute()
    assert event["event"].tolist() == ["order_completed"]
    assert event["value"].tolist() == [36]


def test_refunds_give_back_what_they_name_or_the_whole_order(imported: Import, tmp_path: Path) -> None:
    products = [{"product_id": "p1", "price": 30}, {"product_id": "p2", "price": 5, "quantity": 2}]
    tables = imported(
        track("Order Completed", "10:00", order_id="o1", discount=4, products=products),
        track("Order Completed", "10:01", order_id="o2", products=products),
        track("Order Refunded", "11:00", order_id="o1"),
        track("Order Refunded", "11:01", order_id="o2", products=[{"product_id": "p2", "price": 5, "quantity": 1}]),
        track("Order Refunded", "11:02", order_id="unknown"),
    )
    lines = tables["orders"].execute()
    lines["money"] = lines["unit_price"] * lines["quantity"] - lines["discount"].fillna(0)
    assert lines.groupby("order_id")["money"].sum().to_dict() == {"o1": 0.0, "o2": 35.0}
    assert not lines.duplicated(["order_id", "line_id"]).any()
    assert (lines.loc[lines["line_id"].str.startswith("refund-"), "quantity"] < 0).all()
    assert refused(tmp_path) == ["refund of an order that is not here"]


def test_visitors_become_known_by_identify_and_alias(imported: Import) -> None:
    tables = imported(
        call("page", "09:00", anonymousId="x"),
        call("identify", "10:00", anonymousId="x", userId="ann"),
        call("alias", "11:00", previousId="y", userId="ann"),
    )
    known = tables["identities"].order_by("at").execute()
    assert known[["anonymous_id", "user_id"]].to_numpy().tolist() == [["x", "ann"], ["y", "ann"]]
    before = tables.as_of(pd.Timestamp("2026-05-01T09:30Z").to_pydatetime())["events"].execute()
    after = tables.as_of(pd.Timestamp("2026-05-01T10:30Z").to_pydatetime())["events"].execute()
    assert before["user_id"].isna().all()
    assert after["user_id"].tolist() == ["ann"]


def test_traits_are_a_history_in_which_nothing_known_is_forgotten(imported: Import) -> None:
    tables = imported(
        call("identify", "10:00", userId="ann", traits={
            "firstName": "Ann", "address": {"country": "NL", "city": "Delft"}, "createdAt": "2026-04-01T00:00:00Z",
        }),
        call("identify", "11:00", userId="ann", context={"traits": {"memberTier": "gold"}, "locale": "nl-NL"}),
        call("identify", "12:00", userId="ann", traits={"memberTier": "gold"}),
    )  # fmt: skip
    users = tables["users"].order_by("updated_at").execute()
    assert users["updated_at"].dt.hour.tolist() == [10, 11], "a call that says nothing new is no new row"
    last = users.iloc[-1]
    assert (last["country"], last["city"], last["first_name"], last["member_tier"], last["locale"]) == (
        "NL", "Delft", "Ann", "gold", "nl-NL",
    )  # fmt: skip
    assert users["created_at"][1] == pd.Timestamp("2026-04-01", tz="UTC")
    assert pd.isna(users["member_tier"][0])


def test_products_named_anywhere_become_the_catalogue_with_its_history(imported: Import) -> None:
    tables = imported(
        track("Product Viewed", "10:00", product_id="p1", name="Tea", category="Drinks", brand="Leaf", price=4),
        track("Product Added", "11:00", product_id="p1", price=4),
        track("Order Completed", "12:00", order_id="o1", products=[{"product_id": "p1", "price": 3}]),
    )
    items = tables["items"].order_by("updated_at").execute()
    assert items[["item_id", "name", "category", "brand", "price"]].to_numpy().tolist() == [
        ["p1", "Tea", "Drinks", "Leaf", 4.0], ["p1", "Tea", "Drinks", "Leaf", 3.0],
    ]  # fmt: skip


def test_form_answers_become_columns_that_never_hide_a_column_of_the_contract(imported: Import) -> None:
    tables = imported(
        track("Form Submitted", "10:00", **{"Skin type": "dry", "category": "skin"}),
        track("Product Viewed", "10:01", product_id="p1"),
    )
    events = tables["events"].order_by("occurred_at").execute()
    assert events["skin_type"].tolist()[0] == "dry"
    assert events["answers_category"].tolist()[0] == "skin"
    assert pd.isna(events["skin_type"][1])


def test_the_number_of_answer_columns_is_bounded_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    answers = {f"question {number:02d}": "yes" for number in range(60)}
    (tmp_path / "calls.json").write_text(json.dumps(track("Form Submitted", "10:00", **answers)))
    done = import_source("segment", tmp_path / "calls.json", tmp_path / "shop")
    assert "question_49" in Workspace.open(tmp_path / "shop").tables["events"].columns
    assert "question_50" not in Workspace.open(tmp_path / "shop").tables["events"].columns
    assert "question 50" in done.notes[0]


def test_email_events_become_messages_and_consents(imported: Import, tmp_path: Path) -> None:
    tables = imported(
        track("Email Delivered", "09:00", email_id="may", campaign_id="spring"),
        track("Email Opened", "09:30", email_id="may"),
        track("Email Delivered", "10:00", email_id="may"),
        track("Email Link Clicked", "10:10", email_id="may"),
        track("Unsubscribed", "10:11", email_id="may"),
        track("Email Opened", "10:12", email_id="other"),
        track("Email Bounced", "10:13", email_id="may", user="bob"),
    )
    sent = tables["messages"].order_by("sent_at").execute()
    assert sent["message_id"].tolist() == ["track-09:00", "track-10:00", "track-10:13"]
    assert sent["opened_at"].dt.hour.tolist()[0] == 9
    assert sent["clicked_at"].notna().tolist() == [False, True, False]
    assert sent["unsubscribed_at"].notna().tolist() == [False, True, False]
    assert sent["bounced_at"].notna().tolist() == [False, False, True]
    consents = tables["consents"].execute()
    assert consents[["user_id", "purpose", "granted"]].to_numpy().tolist() == [["ann", "email", False]]
    assert refused(tmp_path) == ["e-mail event without userId, email_id or an earlier delivery"]
    assert not tables.has("events")


def test_the_same_message_twice_is_one_event_and_the_first_received_counts(imported: Import, tmp_path: Path) -> None:
    first = {**track("Product Viewed", "10:00", product_id="p1"), "receivedAt": "2026-05-01T10:00:01Z"}
    again = {**track("Product Viewed", "10:00", product_id="p1"), "receivedAt": "2026-05-01T10:05:00Z"}
    events = imported(again, first, first)["events"].execute()
    assert events["received_at"].tolist() == [pd.Timestamp("2026-05-01T10:00:01Z")]
    assert refused(tmp_path) == ["the same messageId again"] * 2


def test_a_line_that_is_no_call_is_kept_with_its_reason(tmp_path: Path) -> None:
    good = json.dumps(track("Product Viewed", "10:00", product_id="p1"))
    lines = [
        good, "", '{"type": "track", "eve', "42", '{"type": "delete", "userId": "ann"}',
        '{"type": "page", "userId": "ann", "timestamp": "yesterday"}',
        '{"type": "page", "timestamp": "2026-05-01T10:00:00Z"}',
        '{"type": "track", "userId": "ann", "timestamp": "2026-05-01T10:00:00Z"}',
    ]  # fmt: skip
    (tmp_path / "calls.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"type": "\xff\xfe"}\n')
    done = import_source("segment", tmp_path / "calls.jsonl", tmp_path / "shop")
    assert done.rows["events"] == 1
    assert dict(done.refused) == {
        "no call of a known type": 2, "neither userId nor anonymousId": 1, "no time that can be read": 1,
        "not JSON": 1, "not UTF-8, or too long": 1, "track without an event": 1,
    }  # fmt: skip
    kept = pd.read_parquet(tmp_path / "shop/left-out/segment.parquet")
    assert '{"type": "track", "eve' in kept["line"].tolist()


def test_a_folder_of_files_is_one_import_and_its_ids_do_not_depend_on_the_order(tmp_path: Path) -> None:
    views = [{**track("Product Viewed", f"10:{minute:02d}", product_id="p1")} for minute in range(20)]
    for view in views[::2]:
        del view["messageId"]
    found = []
    for name, order in (("a", views), ("b", views[::-1])):
        (tmp_path / name).mkdir()
        for part in range(2):
            text = "\n".join(json.dumps(view) for view in order[part * 10 : part * 10 + 10])
            (tmp_path / name / f"{part}.json.gz").write_bytes(gzip.compress(text.encode()))
        import_source("segment", tmp_path / name, tmp_path / f"shop-{name}")
        found.append((tmp_path / f"shop-{name}/tables/events.parquet").read_bytes())
    assert found[0] == found[1]


def test_a_file_without_a_single_call_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls.json").write_text('[\n{"type": "page"}\n]')
    with pytest.raises(DataError, match=r"nothing .* could be imported.*not JSON"):
        import_source("segment", tmp_path / "calls.json", tmp_path / "shop")
    assert not list((tmp_path / "shop").glob("tables/*"))
