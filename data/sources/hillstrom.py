"""Hillstrom's e-mail experiment: 64,000 customers, one of two mails or none drawn for each, and two weeks after."""

from __future__ import annotations

from data.sources.intake import Brought, Intake, with_id

SENT = "TIMESTAMPTZ '2008-03-01 00:00:00+00'"
"""The file tells no dates; it was published in March 2008."""
KNOWN = ("recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel")
CAME = ("visit", "conversion", "spend")
CONTROL = "No E-Mail"
MAILS = ("Mens E-Mail", "Womens E-Mail")


def hillstrom(intake: Intake) -> Brought:
    """Customers become users, the draw decisions, a mail a message; visits are events and spend is orders.

    Reads `customers`: the columns of the published CSV, `segment` being the mail.

    - Each of the two mails and none was drawn with the same chance, so every decision has the probability 1/3. Who got
      no mail has the decision `none`: without it there would be nobody to compare with.
    - The file has no ids and no times. Ids are made from what a row says. The mails count as sent at one moment, and
      a visit or a purchase as a week later, known when the two weeks were over: only that it was within them is told.
    - What was bought is not told: order lines name the item `not-told`, which nobody is shown.

    Source: https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html.
    """
    intake.read("raw", intake.file("customers", "hillstrom"), needs=(*KNOWN, "segment", *CAME))
    numbers = ", ".join(f"TRY_CAST({name} AS DOUBLE) AS {name}" for name in ("recency", "history", *CAME))
    yes_or_no = ", ".join(f"TRY_CAST({name} AS INTEGER) AS {name}" for name in ("mens", "womens", "newbie"))
    kept = ", ".join(name for name in KNOWN if name in ("history_segment", "zip_code", "channel"))
    read = f"SELECT {kept}, {numbers}, {yes_or_no}, trim(segment) AS segment FROM raw"
    arms = ", ".join(f"'{arm}'" for arm in (CONTROL, *MAILS))
    intake.stage(
        "customers",
        f"""
        SELECT *, CASE WHEN segment = '{CONTROL}' THEN 'none' ELSE segment END AS chosen_offer, CASE
            WHEN segment IS NULL OR segment NOT IN ({arms}) THEN 'segment is no mail of the experiment'
            WHEN visit IS NULL OR conversion IS NULL OR spend IS NULL THEN 'visit, conversion or spend is no number'
        END AS reason
        FROM ({with_id("user_id", read)})
        """,
    )
    came = f"{SENT} + INTERVAL 7 DAY AS occurred_at, {SENT} + INTERVAL 14 DAY AS received_at"
    queries = {
        "users": f"SELECT user_id, {', '.join(KNOWN)} FROM customers WHERE reason IS NULL",
        "offers": " UNION ALL ".join(
            f"SELECT '{mail}' AS offer_id, '{mail}' AS name, 'none' AS kind, ['email'] AS channels" for mail in MAILS
        ),
        "items": "SELECT 'not-told' AS item_id, 'not told' AS name, false AS available",
        "decisions": f"""
            SELECT 'd-' || user_id AS decision_id, user_id, {SENT} AS at, 'offer' AS kind, 'email' AS placement,
                'random' AS arm, 1.0 AS arm_share, [chosen_offer] AS chosen, [1 / 3] AS probability,
                ['none', '{MAILS[0]}', '{MAILS[1]}'] AS candidates, 'even' AS model_version, 'hillstrom' AS campaign_id
            FROM customers WHERE reason IS NULL
        """,
        "messages": f"""
            SELECT 'm-' || user_id AS message_id, user_id, 'email' AS channel, 'hillstrom' AS campaign_id,
                chosen_offer AS offer_id, 'd-' || user_id AS decision_id, {SENT} AS sent_at
            FROM customers WHERE reason IS NULL AND chosen_offer <> 'none'
        """,
        "events": f"""
            SELECT 'v-' || user_id AS event_id, user_id, 'page_viewed' AS event, {came}
            FROM customers WHERE reason IS NULL AND visit > 0
        """,
        "orders": f"""
            SELECT 'o-' || user_id AS order_id, '1' AS line_id, user_id, 'not-told' AS item_id, 1.0 AS quantity,
                spend AS unit_price, {came}
            FROM customers WHERE reason IS NULL AND conversion > 0
        """,
        "outcomes": f"""
            SELECT 'c-' || user_id AS outcome_id, 'd-' || user_id AS decision_id, chosen_offer AS chosen_id,
                'conversion' AS kind, {SENT} + INTERVAL 7 DAY AS at, spend AS value
            FROM customers WHERE reason IS NULL AND conversion > 0
        """,
    }
    return Brought(
        {name: intake.view(name, query) for name, query in queries.items()},
        refused=intake.view("refused", "SELECT * FROM customers WHERE reason IS NOT NULL"),
        currency="USD",
        notes=(
            "the file tells no times: mails count as sent on 2008-03-01, visits and purchases as a week later",
            "opens, clicks and what was bought are not told",
        ),
    )
