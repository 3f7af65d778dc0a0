"""Retailrocket: what visitors of a shop viewed, put in the cart and bought; no prices."""

from __future__ import annotations

from data.sources.intake import Brought, Intake, moment, number_as_id, with_id

EVENTS = {
    "view": "product_viewed",
    "cart": "product_added",
    "addtocart": "product_added",
    "buy": "order_completed",
    "transaction": "order_completed",
}


def retailrocket(intake: Intake) -> Brought:
    """Events become events: nothing says what was paid, so there are no orders.

    Reads `user, item, event, timestamp` (seconds), or the original
    `timestamp (milliseconds), visitorid, event, itemid, transactionid`. A visitor is taken for a user.

    Source: https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset.
    """
    file = intake.file("events")
    columns = intake.read("raw", file, needs=("event", "timestamp")).columns
    original = "visitorid" in columns
    user, item = ("visitorid", "itemid") if original else ("user", "item")
    intake.read("raw", file, needs=(user, item, "event", "timestamp"), optional=("transactionid",))
    names = " ".join(f"WHEN '{theirs}' THEN '{ours}'" for theirs, ours in EVENTS.items())
    intake.view(
        "parsed",
        f"""
        SELECT
            {number_as_id(f'"{user}"')} AS user_id,
            {number_as_id(f'"{item}"')} AS item_id,
            CASE lower("event"::VARCHAR) {names} ELSE lower("event"::VARCHAR) END AS event,
            {moment("timestamp", form="epoch_milliseconds" if original else "epoch_seconds")} AS occurred_at,
            transactionid::VARCHAR AS order_id,
            "timestamp"::VARCHAR AS time_text
        FROM raw
        """,
    )
    intake.view(
        "named",
        """
        SELECT *, CASE
            WHEN user_id IS NULL THEN 'no user'
            WHEN item_id IS NULL THEN 'no item'
            WHEN event IS NULL THEN 'no event'
            WHEN occurred_at IS NULL THEN 'timestamp is not a time: ' || coalesce(time_text, 'empty')
        END AS reason
        FROM parsed
        """,
    )
    events = "SELECT user_id, event, occurred_at, item_id, order_id FROM named WHERE reason IS NULL"
    return Brought(
        tables={"events": intake.view("events", with_id("event_id", events))},
        refused=intake.view("refused", "SELECT * FROM named WHERE reason IS NOT NULL"),
    )
