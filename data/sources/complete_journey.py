"""Dunnhumby's Complete Journey: two thousand households of a grocer, with the campaigns that targeted them."""

from __future__ import annotations

from data.sources.intake import Brought, Intake, moment, with_id

SERVICES = "('COUPON/MISC ITEMS', 'COUPONS/STORE & MFG', 'FUEL')"
"""Product categories that nobody should be shown: their money counts."""


def complete_journey(intake: Intake) -> Brought:
    """Baskets become orders, households users, coupons offers, campaign mailings messages, redemptions events.

    Reads a folder in the layout of the R package completejourney: `transactions` (or `transactions_sample`),
    `products`, `demographics`, `campaigns`, `campaign_descriptions`, `coupons`, `coupon_redemptions`.

    - `unit_price` is the shelf price and `discount` what the shop gave (its own and matched coupons), so that price
      times quantity less discount is what the shop earned. A manufacturer's coupon is not the shop's money.
    - A household that a campaign targeted was sent one message by post on the campaign's first day. Post tells
      nothing of opens or clicks, so there are none.
    - A redemption is the event `coupon_applied`. Its day is known and its hour is not: it counts as received when
      the day was over. No till line says which coupon was used on it, so order lines carry no offer.
    - A campaign's coupon is an offer; its category is the commonest of the products that it is good for.

    Source: https://bradleyboehmke.github.io/completejourney.
    """
    _read(intake)
    intake.view(
        "baskets",
        f"""
        SELECT
            basket_id::VARCHAR AS order_id,
            household_id::VARCHAR AS user_id,
            product_id::VARCHAR AS item_id,
            TRY_CAST(quantity AS DOUBLE) AS quantity_bought,
            TRY_CAST(retail_disc AS DOUBLE) + TRY_CAST(coupon_match_disc AS DOUBLE) AS discount,
            (TRY_CAST(sales_value AS DOUBLE) + discount) / nullif(quantity_bought, 0) AS unit_price,
            TRY_CAST(coupon_disc AS DOUBLE) AS manufacturer_coupon,
            store_id::VARCHAR AS store_id,
            {moment("transaction_timestamp")} AS occurred_at,
            quantity::VARCHAR AS quantity_text,
            transaction_timestamp::VARCHAR AS time_text
        FROM transactions
        """,
    )
    intake.view(
        "lines",
        """
        SELECT *, CASE
            WHEN order_id IS NULL OR user_id IS NULL OR item_id IS NULL THEN 'no basket, household or product'
            WHEN quantity_bought IS NULL THEN 'quantity is not a number: ' || coalesce(quantity_text, 'empty')
            WHEN quantity_bought = 0 THEN 'quantity is 0, so nothing was sold'
            WHEN occurred_at IS NULL THEN 'transaction_timestamp is not a time: ' || coalesce(time_text, 'empty')
        END AS reason
        FROM baskets
        """,
    )
    return Brought(
        tables={
            "orders": intake.view("orders", ORDERS),
            "users": intake.view("users", USERS),
            "items": intake.view("items", ITEMS),
            "messages": intake.view("messages", MESSAGES),
            "offers": intake.view("offers", OFFERS),
            "events": intake.view("events", EVENTS),
        },
        refused=intake.view("refused", "SELECT * FROM lines WHERE reason IS NOT NULL"),
        currency="USD",
    )


def _read(intake: Intake) -> None:
    layout = {
        "transactions": (
            "household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc",
            "coupon_disc", "coupon_match_disc", "transaction_timestamp",
        ),
        "products": ("product_id", "department", "brand", "product_category", "product_type", "package_size"),
        "demographics": ("household_id",),
        "campaigns": ("campaign_id", "household_id"),
        "campaign_descriptions": ("campaign_id", "campaign_type", "start_date", "end_date"),
        "coupons": ("coupon_upc", "product_id", "campaign_id"),
        "coupon_redemptions": ("household_id", "coupon_upc", "campaign_id", "redemption_date"),
    }  # fmt: skip
    for name, columns in layout.items():
        intake.read(name, intake.file(name, f"{name}_sample"), needs=columns)


ORDERS = """
    SELECT order_id,
        row_number() OVER (
            PARTITION BY order_id ORDER BY item_id, quantity_bought, unit_price, discount, occurred_at
        )::VARCHAR AS line_id,
        user_id, item_id, quantity_bought AS quantity, unit_price, discount, manufacturer_coupon, store_id, occurred_at
    FROM lines WHERE reason IS NULL
"""

USERS = """
    SELECT user_id, demographics.* EXCLUDE (household_id)
    FROM (
        SELECT household_id::VARCHAR AS user_id FROM demographics
        UNION SELECT user_id FROM lines WHERE user_id IS NOT NULL
        UNION SELECT household_id::VARCHAR FROM campaigns
        UNION SELECT household_id::VARCHAR FROM coupon_redemptions
    )
    LEFT JOIN demographics ON household_id::VARCHAR = user_id
"""

ITEMS = f"""
    SELECT product_id::VARCHAR AS item_id,
        concat_ws(', ', product_type, package_size) AS name,
        coalesce(product_category, department) AS category,
        brand, department,
        coalesce(product_category NOT IN {SERVICES}, true) AS available
    FROM products
"""

MESSAGES = f"""
    SELECT concat_ws('-', campaign_id, household_id) AS message_id,
        household_id::VARCHAR AS user_id, 'post' AS channel, campaign_id::VARCHAR AS campaign_id,
        {moment("start_date")} AS sent_at
    FROM campaigns LEFT JOIN campaign_descriptions USING (campaign_id)
"""

OFFERS = f"""
    WITH categories AS (
        SELECT campaign_id, coupon_upc, coalesce(product_category, department) AS category
        FROM coupons LEFT JOIN products USING (product_id)
        GROUP BY campaign_id, coupon_upc, category
        QUALIFY row_number() OVER (PARTITION BY campaign_id, coupon_upc ORDER BY count(*) DESC, category) = 1
    )
    SELECT concat_ws('-', campaign_id, coupon_upc) AS offer_id,
        campaign_type || ' coupon for ' || lower(category) AS name,
        category,
        campaign_id::VARCHAR AS campaign_id,
        {moment("start_date")} AS starts_at,
        {moment("end_date")} + INTERVAL 1 DAY AS ends_at
    FROM categories LEFT JOIN campaign_descriptions USING (campaign_id)
"""

EVENTS = with_id(
    "event_id",
    f"""
    SELECT household_id::VARCHAR AS user_id,
        'coupon_applied' AS event,
        {moment("redemption_date")} AS occurred_at,
        {moment("redemption_date")} + INTERVAL 1 DAY AS received_at,
        concat_ws('-', campaign_id, coupon_upc) AS offer_id,
        campaign_id::VARCHAR AS campaign_id
    FROM coupon_redemptions
    """,
)
