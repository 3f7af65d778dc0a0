"""Segment and RudderStack: one JSON call per line, as their warehouses and buckets keep them."""

from __future__ import annotations

import json
import re

from data.contract import EVENTS
from data.sources.intake import Brought, Intake, files_of, moment
from data.sql import literal, pointer, quoted

MAX_ATTRIBUTES = 50
"""So many different form answers, and as many traits, become columns: the commonest ones."""

PRODUCT = ("product_id", "sku", "name", "category", "brand", "price", "quantity")
CALL = {
    **dict.fromkeys(
        (
            "type", "event", "name", "messageId", "userId", "anonymousId", "previousId", "channel",
            "timestamp", "originalTimestamp", "sentAt", "receivedAt",
        ),
        "VARCHAR",
    ),
    "traits": "JSON",
    "context": {
        "traits": "JSON",
        **dict.fromkeys(("sessionId", "session_id", "locale", "timezone"), "VARCHAR"),
        "page": {"path": "VARCHAR", "url": "VARCHAR"},
        "campaign": {"name": "VARCHAR"},
    },
    "properties": {
        **dict.fromkeys(
            (
                *PRODUCT, "path", "url", "query", "session_id", "dwell_seconds", "value", "revenue", "total",
                "order_id", "discount", "coupon", "email_id", "campaign_id",
            ),
            "VARCHAR",
        ),
        "products": [dict.fromkeys(PRODUCT, "VARCHAR")],
    },
}  # fmt: skip
"""What is read of a call, as the structure of DuckDB's json_transform: each line is parsed once."""


def segment(intake: Intake) -> Brought:
    """Calls become events, orders, messages, users, identities, items and consents.

    - `track`, `page`, `screen` and `group` become events, named in snake case ("Product Viewed" = `product_viewed`);
      `product_*` events with a list of products become one event per product.
    - `Order Completed` becomes order lines beside its event, an order's discount spread over them by amount.
      `Order Refunded` becomes lines of negative quantity: the products it names, or else the whole order.
    - A call with both ids, and `alias`, become identities. `identify` becomes a row of the user's history with all
      traits known until then. Answers of `Form Submitted` and traits keep their own names, in snake case.
    - Products named anywhere become the items' history.
    - The e-mail events become messages: a delivery with the opens and clicks until the next one of the same e-mail
      to the same person. `Unsubscribed` and spam reports also become consents.
    - The same messageId twice is one call: the first received counts.

    Source: https://segment.com/docs/connections/spec.
    """
    _stage(intake)
    answers, more_answers = _attributes(intake, "answers", taken={*EVENTS.by_name, "order_id", "offer_id"})
    traits, more_traits = _attributes(intake, "traits", taken={"user_id", "updated_at", "city"})
    intake.view("bought", BOUGHT)
    intake.view("mailed", MAILED)
    tables = {
        "events": intake.view("events", _events(answers)),
        "orders": intake.view("orders", ORDERS),
        "users": intake.view("users", _users(traits)),
        "identities": intake.view("identities", IDENTITIES),
        "items": intake.view("items", ITEMS),
        "messages": intake.view("messages", MESSAGES),
        "consents": intake.view("consents", CONSENTS),
    }
    left = {"form answers": more_answers, "traits": more_traits}
    return Brought(
        tables,
        refused=intake.view("refused", REFUSED),
        notes=tuple(
            f"{what} beyond the {MAX_ATTRIBUTES} commonest are not imported: {', '.join(names)}"
            for what, names in left.items()
            if names
        ),
    )


def _stage(intake: Intake) -> None:
    """Parse every line once into `parsed`, good or not; `calls` are the good ones, each once."""
    lines = (
        f"read_csv([{', '.join(map(literal, files_of(intake.path)))}], columns={{'line': 'VARCHAR'}}, "
        "delim='\x01\x02\x03\x04', quote='', escape='', header=false, auto_detect=false, "
        "ignore_errors=true, store_rejects=true)"
    )
    intake.stage("parsed", PARSED.format(lines=lines, structure=literal(json.dumps(CALL))))
    intake.stage("unreadable", "SELECT DISTINCT csv_line AS line, error_message FROM reject_errors")
    intake.stage(
        "repeated",
        """
        SELECT message_id FROM parsed WHERE reason IS NULL GROUP BY message_id HAVING count(*) > 1
        """,
    )
    intake.view(
        "numbered",
        """
        SELECT *, row_number() OVER (PARTITION BY message_id ORDER BY received_at, occurred_at, line_hash) AS number
        FROM parsed SEMI JOIN repeated USING (message_id) WHERE reason IS NULL
        """,
    )
    intake.view(
        "calls",
        """
        SELECT * FROM parsed ANTI JOIN repeated USING (message_id) WHERE reason IS NULL
        UNION ALL SELECT * EXCLUDE (number) FROM numbered WHERE number = 1
        """,
    )


def _attributes(intake: Intake, column: str, *, taken: set[str]) -> tuple[dict[str, str], list[str]]:
    """The commonest keys of a JSON column of `calls` as {name: SQL}, and the keys that are beyond the limit.

    A key's name is put in snake case; one that is `taken` gets the column's name before it.
    """
    keys = f"""
        SELECT key FROM (SELECT unnest(json_keys({column})) AS key FROM calls WHERE {column} IS NOT NULL)
        WHERE key <> 'address' GROUP BY key ORDER BY count(*) DESC, key
    """
    found = [key for (key,) in intake.backend.raw_sql(keys).fetchall()]
    named: dict[str, list[str]] = {}
    for key in found[:MAX_ATTRIBUTES]:
        name = snake_case(key)
        if name in taken:
            name = f"{column}_{name}"
        named.setdefault(name, []).append(f"json_extract_string({column}, {literal(pointer(key))})")
    return {name: f"coalesce({', '.join(ways)})" for name, ways in named.items()}, found[MAX_ATTRIBUTES:]


def snake_case(name: str) -> str:
    """A name as the contract writes it.

    Example:
        >>> snake_case("Product Viewed"), snake_case("firstName")
        ('product_viewed', 'first_name')
    """
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"\W+", "_", words).strip("_").lower() or name


def _events(answers: dict[str, str]) -> str:
    columns = "".join(f", {sql} AS {quoted(name)}" for name, sql in answers.items())
    return f"""
        SELECT
            message_id || CASE WHEN len(shown) > 1 THEN '-' || position ELSE '' END AS event_id,
            user_id, anonymous_id, event, occurred_at, received_at, session_id,
            coalesce(product.product_id, product.sku) AS item_id,
            coalesce(product.category, list_category) AS category,
            page, query, channel, dwell_seconds, value, order_id, offer_id{columns}
        FROM (
            SELECT *, unnest(shown) AS product, unnest(range(1, len(shown) + 1)) AS position
            FROM (
                SELECT *, CASE WHEN lists_products AND event NOT LIKE 'product\\_%' ESCAPE '\\' THEN [NULL]
                    ELSE coalesce(products, [NULL]) END AS shown
                FROM calls WHERE type IN ('track', 'page', 'screen', 'group') AND NOT is_email
            )
        )
    """


def _users(traits: dict[str, str]) -> str:
    known = {
        "country": "json_extract_string(traits, '/address/country')",
        "locale": "locale",
        "timezone": "timezone",
        "city": "json_extract_string(traits, '/address/city')",
    }
    columns = {name: f"coalesce({traits[name]}, {sql})" if name in traits else sql for name, sql in known.items()}
    columns = traits | columns
    if "created_at" in columns:
        text = columns["created_at"]
        columns["created_at"] = f"coalesce({moment(text)}, {moment(text, form='epoch_seconds')})"
    carried = ", ".join(
        f"last_value({sql} IGNORE NULLS) OVER history AS {quoted(name)}" for name, sql in columns.items()
    )
    state = ", ".join(map(quoted, columns))
    return f"""
        SELECT user_id, updated_at, {state}
        FROM (
            SELECT user_id, occurred_at AS updated_at, message_id, {carried}
            FROM calls WHERE type = 'identify' AND user_id IS NOT NULL
            WINDOW history AS (PARTITION BY user_id ORDER BY occurred_at, message_id)
            QUALIFY lead(occurred_at) OVER history IS DISTINCT FROM occurred_at
        )
        QUALIFY row({state}) IS DISTINCT FROM lag(row({state})) OVER (PARTITION BY user_id ORDER BY updated_at)
            OR row_number() OVER (PARTITION BY user_id ORDER BY updated_at) = 1
    """


TIME_TEXT = "coalesce(call.timestamp, call.originalTimestamp, call.sentAt, call.receivedAt)"
EMAIL = (
    "('email_delivered', 'email_opened', 'email_link_clicked', 'email_bounced', 'email_marked_as_spam', 'unsubscribed')"
)

SNAKE_CASE_EVENT = r"""
    lower(trim(regexp_replace(
        regexp_replace(call.event, '([a-z0-9])([A-Z])', '\1_\2', 'g'), '[^\pL\pN]+', '_', 'g'
    ), '_'))
"""
OWN_PRODUCT = ", ".join(f"{field} := call.properties.{field}" for field in PRODUCT)

PARSED = f"""
    SELECT * EXCLUDE (call, line, own, time_text),
        CASE WHEN reason IS NOT NULL THEN line END AS line
    FROM (
        SELECT *,
            CASE
                WHEN NOT json_valid(line) THEN 'not JSON'
                WHEN coalesce(type, '') NOT IN ('track', 'page', 'screen', 'identify', 'alias', 'group')
                    THEN 'no call of a known type: ' || coalesce(type, 'no type')
                WHEN occurred_at IS NULL THEN 'no time that can be read: ' || coalesce(time_text, 'no timestamp')
                WHEN coalesce(user_id, anonymous_id) IS NULL THEN 'neither userId nor anonymousId'
                WHEN coalesce(event, '') = '' AND type = 'track' THEN 'track without an event'
                WHEN type = 'alias' AND coalesce(previous_id, anonymous_id) IS NULL THEN 'alias without a previousId'
            END AS reason
        FROM (
            SELECT line, call, md5(line) AS line_hash,
                coalesce(nullif(call.messageId, ''), left(line_hash, 20)) AS message_id,
                lower(call.type) AS type,
                CASE lower(call.type)
                    WHEN 'track' THEN nullif({SNAKE_CASE_EVENT}, '') WHEN 'group' THEN 'group' ELSE 'page_viewed'
                END AS event,
                nullif(call.userId, '') AS user_id,
                nullif(call.anonymousId, '') AS anonymous_id,
                nullif(call.previousId, '') AS previous_id,
                {TIME_TEXT} AS time_text,
                {moment("time_text")} AS occurred_at,
                {moment("call.receivedAt")} AS received_at,
                coalesce(
                    call.context.sessionId, call.context.session_id, call.properties.session_id
                ) AS session_id,
                coalesce(
                    CASE lower(call.type) WHEN 'screen' THEN call.name END,
                    call.properties.path, call.context.page.path, call.properties.url, call.context.page.url
                ) AS page,
                call.properties.query AS query,
                call.channel AS channel,
                TRY_CAST(call.properties.dwell_seconds AS DOUBLE) AS dwell_seconds,
                TRY_CAST(coalesce(
                    call.properties.value, call.properties.revenue, call.properties.total
                ) AS DOUBLE) AS value,
                CASE lower(call.type) WHEN 'track' THEN call.properties.category END AS list_category,
                call.properties.order_id AS order_id,
                TRY_CAST(call.properties.discount AS DOUBLE) AS discount,
                call.properties.coupon AS offer_id,
                coalesce(call.type = 'track' AND event IN {EMAIL}, false) AS is_email,
                call.properties.email_id AS email_id,
                coalesce(call.properties.campaign_id, call.context.campaign.name) AS campaign_id,
                CASE WHEN coalesce(call.properties.product_id, call.properties.sku) IS NOT NULL
                    THEN [struct_pack({OWN_PRODUCT})] END AS own,
                coalesce(len(call.properties.products) > 0, false) AS lists_products,
                CASE WHEN lists_products THEN call.properties.products ELSE own END AS products,
                CASE WHEN lower(call.type) = 'identify' THEN json_merge_patch(
                    coalesce(call.context.traits, '{{{{}}}}'), coalesce(call.traits, '{{{{}}}}')
                ) END AS traits,
                call.context.locale AS locale,
                call.context.timezone AS timezone,
                CASE WHEN event = 'form_submitted' THEN json_extract(line, '$.properties') END AS answers
            FROM (
                SELECT line, TRY(json_transform(line, {{structure}})) AS call
                FROM {{lines}} WHERE trim(line) <> ''
            )
        )
    )
"""

BOUGHT = """
    SELECT *, CASE WHEN product.quantity IS NULL THEN 1 ELSE TRY_CAST(product.quantity AS DOUBLE) END AS quantity,
        TRY_CAST(product.price AS DOUBLE) AS unit_price,
        sum(quantity * unit_price) OVER (PARTITION BY message_id) AS amount
    FROM (
        SELECT message_id, event, order_id, user_id, offer_id, discount, occurred_at, received_at,
            unnest(products) AS product, unnest(range(1, len(products) + 1)) AS position
        FROM calls WHERE event IN ('order_completed', 'order_refunded') AND products IS NOT NULL
    )
"""

ORDERS = """
    WITH sold AS (
        SELECT message_id, coalesce(order_id, message_id) AS order_id, position::VARCHAR AS line_id,
            user_id, coalesce(product.product_id, product.sku) AS item_id, quantity,
            unit_price, discount * quantity * unit_price / nullif(amount, 0) AS discount, offer_id,
            occurred_at, received_at
        FROM bought WHERE event = 'order_completed'
    ),
    whole AS (
        SELECT refund.message_id, sold.order_id, sold.line_id, sold.user_id, sold.item_id, -sold.quantity AS quantity,
            sold.unit_price, -sold.discount AS discount, sold.offer_id, refund.occurred_at, refund.received_at
        FROM calls AS refund JOIN sold ON sold.order_id = refund.order_id
        WHERE refund.event = 'order_refunded' AND refund.products IS NULL
    ),
    part AS (
        SELECT message_id, coalesce(order_id, message_id) AS order_id, position::VARCHAR AS line_id,
            user_id, coalesce(product.product_id, product.sku) AS item_id, -abs(quantity) AS quantity,
            unit_price, NULL::DOUBLE AS discount, offer_id, occurred_at, received_at
        FROM bought WHERE event = 'order_refunded'
    )
    SELECT * EXCLUDE (message_id) FROM sold
    UNION ALL
    SELECT * EXCLUDE (message_id) REPLACE ('refund-' || message_id || '-' || line_id AS line_id)
    FROM (SELECT * FROM whole UNION ALL SELECT * FROM part)
"""

IDENTITIES = """
    SELECT anonymous_id, user_id, min(occurred_at) AS at
    FROM (
        SELECT anonymous_id, user_id, occurred_at FROM calls
        UNION ALL SELECT previous_id, user_id, occurred_at FROM calls WHERE type = 'alias'
    )
    WHERE anonymous_id <> user_id
    GROUP BY anonymous_id, user_id
"""

ITEMS = """
    WITH named AS (  -- once a day is enough: what a product is called and costs does not change by the minute
        SELECT coalesce(product.product_id, product.sku) AS item_id,
            product.name AS name, product.category AS category, product.brand AS brand,
            TRY_CAST(product.price AS DOUBLE) AS price, min(occurred_at) AS updated_at
        FROM (SELECT unnest(products) AS product, occurred_at FROM calls WHERE products IS NOT NULL)
        GROUP BY item_id, name, category, brand, price, occurred_at::DATE
    ),
    carried AS (
        SELECT item_id, updated_at,
            last_value(name IGNORE NULLS) OVER history AS name,
            last_value(category IGNORE NULLS) OVER history AS category,
            last_value(brand IGNORE NULLS) OVER history AS brand,
            last_value(price IGNORE NULLS) OVER history AS price
        FROM named WHERE item_id IS NOT NULL
        WINDOW history AS (PARTITION BY item_id ORDER BY updated_at, name, category, brand, price)
        QUALIFY lead(updated_at) OVER history IS DISTINCT FROM updated_at
    )
    SELECT item_id, updated_at, name, category, brand, price FROM carried
    WINDOW history AS (PARTITION BY item_id ORDER BY updated_at)
    QUALIFY row(name, category, brand, price) IS DISTINCT FROM lag(row(name, category, brand, price)) OVER history
        OR row_number() OVER history = 1
"""

MAILED = """
    SELECT *, sum((event IN ('email_delivered', 'email_bounced'))::INT) OVER (
        PARTITION BY user_id, email_id
        ORDER BY occurred_at, event NOT IN ('email_delivered', 'email_bounced'), message_id
    ) AS delivery
    FROM calls WHERE is_email
"""

MESSAGES = """
    SELECT min_by(message_id, occurred_at) AS message_id, user_id, 'email' AS channel,
        min_by(campaign_id, occurred_at) AS campaign_id, email_id,
        min(occurred_at) AS sent_at,
        min(occurred_at) FILTER (event = 'email_opened') AS opened_at,
        min(occurred_at) FILTER (event = 'email_link_clicked') AS clicked_at,
        min(occurred_at) FILTER (event IN ('unsubscribed', 'email_marked_as_spam')) AS unsubscribed_at,
        min(occurred_at) FILTER (event = 'email_bounced') AS bounced_at
    FROM mailed WHERE delivery > 0 AND user_id IS NOT NULL AND email_id IS NOT NULL
    GROUP BY user_id, email_id, delivery
"""

CONSENTS = """
    SELECT user_id, 'email' AS purpose, false AS granted, min(occurred_at) AS at
    FROM calls WHERE event IN ('unsubscribed', 'email_marked_as_spam') AND user_id IS NOT NULL
    GROUP BY user_id, occurred_at
"""

REFUSED = """
    SELECT reason, message_id, line FROM parsed WHERE reason IS NOT NULL
    UNION ALL SELECT 'not UTF-8, or too long: ' || error_message, NULL, line FROM unreadable
    UNION ALL SELECT 'the same messageId again', message_id, NULL FROM numbered WHERE number > 1
    UNION ALL SELECT 'order without products: the event is kept', message_id, NULL
        FROM calls WHERE event = 'order_completed' AND products IS NULL
    UNION ALL SELECT 'refund of an order that is not here: the event is kept', message_id, NULL
        FROM calls WHERE event = 'order_refunded' AND products IS NULL
            AND coalesce(order_id NOT IN (SELECT order_id FROM bought WHERE order_id IS NOT NULL), true)
    UNION ALL SELECT 'e-mail event without userId, email_id or an earlier delivery', message_id, NULL
        FROM mailed WHERE (user_id IS NULL OR email_id IS NULL OR delivery = 0)
            AND NOT (event IN ('unsubscribed', 'email_marked_as_spam') AND user_id IS NOT NULL)
"""
