"""UCI Online Retail (and Online Retail II): invoice lines of a British shop, in pounds."""

from __future__ import annotations

from ibis.expr import types as ir

from data.sources.intake import Brought, Intake, moment

SERVICES = (
    "POST", "DOT", "C2", "M", "D", "S", "B", "BANK CHARGES", "AMAZONFEE", "CRUK",
    "ADJUST", "ADJUST2", "TEST001", "TEST002",
)  # fmt: skip
"""Stock codes that are no products (postage, fees, manual corrections): their money counts, nobody is shown them."""


def online_retail(intake: Intake) -> Brought:
    """Invoice lines become order lines; users and items follow from them.

    - A line without a CustomerID is a guest's. An invoice repeats an item where the till did, so every line gets an
      id of its own. A cancellation (an invoice that starts with C) has negative quantities already.
    - Stock codes differ in case only for the same item, so they are put in capitals.
    - Times are London's and become UTC.
    - Items are history: as first seen, then at every month's start with the commonest name and price of the
      month before.

    Source: Chen, Sain and Guo 2012, https://doi.org/10.1057/dbm.2012.17.
    """
    file = intake.file("lines", "online_retail", "data")
    found = intake.read("raw", file, needs=("StockCode", "Description", "Quantity", "InvoiceDate", "Country")).columns
    second_edition = {"InvoiceNo": "Invoice", "UnitPrice": "Price", "CustomerID": "Customer ID"}
    name = {first: other if other in found else first for first, other in second_edition.items()}
    intake.read("raw", file, needs=tuple(name.values()))
    iso = moment("InvoiceDate", zone="Europe/London")
    american = moment("InvoiceDate", form="%m/%d/%Y %H:%M", zone="Europe/London")
    intake.view(
        "parsed",
        f"""
        SELECT
            trim("{name["InvoiceNo"]}"::VARCHAR) AS order_id,
            coalesce(
                TRY_CAST(TRY_CAST("{name["CustomerID"]}" AS DOUBLE) AS BIGINT)::VARCHAR,
                nullif(trim("{name["CustomerID"]}"::VARCHAR), '')
            ) AS user_id,
            upper(trim(StockCode::VARCHAR)) AS item_id,
            nullif(trim(Description::VARCHAR), '') AS name,
            TRY_CAST(Quantity AS BIGINT) AS quantity,
            TRY_CAST("{name["UnitPrice"]}" AS DOUBLE) AS unit_price,
            coalesce({iso}, {american}) AS occurred_at,
            nullif(trim(Country::VARCHAR), 'Unspecified') AS country,
            coalesce(Quantity::VARCHAR, 'empty') AS quantity_text,
            coalesce(InvoiceDate::VARCHAR, 'empty') AS time_text
        FROM raw
        """,
    )
    intake.view(
        "lines",
        """
        SELECT *, CASE
            WHEN coalesce(order_id, '') = '' THEN 'no InvoiceNo'
            WHEN coalesce(item_id, '') = '' THEN 'no StockCode'
            WHEN quantity IS NULL THEN 'Quantity is not a whole number: ' || quantity_text
            WHEN occurred_at IS NULL THEN 'InvoiceDate is not a time: ' || time_text
        END AS reason
        FROM parsed
        """,
    )
    orders = """
        SELECT order_id,
            row_number() OVER (
                PARTITION BY order_id ORDER BY item_id, quantity, unit_price, occurred_at, name
            )::VARCHAR AS line_id,
            user_id, item_id, quantity, unit_price, occurred_at
        FROM lines WHERE reason IS NULL
    """
    users = """
        SELECT * FROM (
            SELECT user_id, occurred_at AS updated_at, max(country) AS country
            FROM lines WHERE reason IS NULL AND user_id IS NOT NULL GROUP BY ALL
        )
        QUALIFY country IS DISTINCT FROM lag(country, 1, '') OVER (PARTITION BY user_id ORDER BY updated_at)
    """
    return Brought(
        tables={
            "orders": intake.view("orders", orders),
            "users": intake.view("users", users),
            "items": _items(intake),
        },
        refused=intake.view("refused", "SELECT * FROM lines WHERE reason IS NOT NULL"),
        currency="GBP",
    )


def _items(intake: Intake) -> ir.Table:
    intake.view(  # stock takers write "damaged" or "?" in the name of lines without a price
        "told",
        """
        SELECT item_id, occurred_at, CASE WHEN unit_price > 0 AND quantity > 0 THEN name END AS name,
            CASE WHEN unit_price > 0 AND quantity > 0 THEN unit_price END AS price
        FROM lines WHERE reason IS NULL
        """,
    )
    intake.stage("first", "SELECT item_id, min(occurred_at) AS occurred_at FROM told GROUP BY item_id")
    intake.view(
        "seen",
        """
        SELECT * REPLACE (date_trunc('month', occurred_at) + INTERVAL 1 MONTH AS occurred_at) FROM told
        UNION ALL SELECT * FROM told SEMI JOIN first USING (item_id, occurred_at)
        """,
    )
    for column in ("name", "price"):
        intake.stage(
            f"commonest_{column}",
            f"""
            SELECT item_id, occurred_at, {column} FROM seen GROUP BY item_id, occurred_at, {column}
            QUALIFY row_number() OVER (
                PARTITION BY item_id, occurred_at ORDER BY {column} IS NULL, count(*) DESC, {column}
            ) = 1
            """,
        )
    services = ", ".join(f"'{code}'" for code in SERVICES)
    return intake.view(
        "items",
        f"""
        SELECT item_id, occurred_at AS updated_at, name,
            CASE WHEN item_id IN ({services}) THEN 'service' END AS category,
            price,
            item_id NOT IN ({services}) AND price IS NOT NULL AS available
        FROM (
            SELECT item_id, occurred_at, last_value(name IGNORE NULLS) OVER past AS name,
                last_value(price IGNORE NULLS) OVER past AS price
            FROM commonest_name JOIN commonest_price USING (item_id, occurred_at)
            WINDOW past AS (PARTITION BY item_id ORDER BY occurred_at)
        )
        WINDOW history AS (PARTITION BY item_id ORDER BY occurred_at)
        QUALIFY row_number() OVER history = 1
            OR name IS DISTINCT FROM lag(name) OVER history OR price IS DISTINCT FROM lag(price) OVER history
        """,
    )
