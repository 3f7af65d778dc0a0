"""Starbucks' offers: 17,000 members, ten offers or none drawn for each in six waves, and what they spent."""

from __future__ import annotations

from data.sources.intake import Brought, Intake

UNKNOWN_AGE = 118
"""What the publisher writes where age, gender and income are missing."""


def starbucks_offers(intake: Intake) -> Brought:
    """Members become users; each wave is a decision for everybody, an offer received a message, purchases orders.

    Reads a folder with `customers`, `events` and `offers`. The publisher says that the data is simulated.

    - Offers were dealt at random to everybody at the hours at which any was received; who received none has the
      decision `none`. The probability of a choice is its share of the wave: the plan is not published.
    - Hours count from the day after the last member joined: the file tells no date.
    - A view opens the last message with that offer. A completion is the event `coupon_applied`; its reward is the
      discount of the purchase of the same hour, so that orders add up to net spend.
    - What was bought is not told: order lines name the item `not-told`, which nobody is shown.
    - A purchase is the `conversion` of the last decision before it, its value the net spend.

    Source: https://www.kaggle.com/datasets/ihormuliar/starbucks-customer-data.
    """
    intake.read("customers", intake.file("customers"), needs=("id", "age", "gender", "income", "became_member_on"))
    intake.read("raw", intake.file("events"), needs=("person", "event", "hour", "offer_id", "amount", "reward"))
    intake.read(
        "portfolio",
        intake.file("offers"),
        needs=("id", "offer_type", "reward", "difficulty", "duration", "channels"),
    )
    intake.view("people", PEOPLE)
    intake.stage("happened", HAPPENED)
    intake.stage("dealt", DEALT)
    intake.stage("bought", BOUGHT)
    tables = {
        "users": "SELECT user_id, age, gender, income, created_at FROM people",
        "items": "SELECT 'not-told' AS item_id, 'not told' AS name, false AS available",
        "offers": OFFERS,
        "decisions": "SELECT * EXCLUDE (offer_id) FROM dealt",
        "messages": MESSAGES,
        "orders": "SELECT * EXCLUDE (decision_id, chosen_id) FROM bought",
        "events": EVENTS,
        "outcomes": OUTCOMES,
    }
    return Brought(
        {name: intake.view(name, query) for name, query in tables.items()},
        refused=intake.view("refused", "SELECT * FROM happened WHERE reason IS NOT NULL"),
        currency="USD",
        notes=(
            "the file tells no date: hours count from the day after the last member joined",
            "every offer went out by e-mail among others, so that is its channel",
            "the plan is not published: the probability of a choice is its share of the wave",
        ),
    )


PEOPLE = f"""
    SELECT id::VARCHAR AS user_id, nullif(TRY_CAST(age AS INTEGER), {UNKNOWN_AGE}) AS age, gender,
        TRY_CAST(income AS DOUBLE) AS income,
        timezone('UTC', TRY_STRPTIME(became_member_on::VARCHAR, '%Y%m%d')::TIMESTAMP) AS created_at
    FROM customers
"""

HAPPENED = """
    SELECT person::VARCHAR AS user_id, event, offer_id::VARCHAR AS offer_id, TRY_CAST(amount AS DOUBLE) AS amount,
        TRY_CAST(reward AS DOUBLE) AS reward,
        (SELECT max(created_at) FROM people) + INTERVAL 1 DAY + to_hours(TRY_CAST(hour AS BIGINT)) AS "at",
        CASE
            WHEN person IS NULL THEN 'no person'
            WHEN TRY_CAST(hour AS BIGINT) IS NULL THEN 'hour is not a number'
            WHEN event NOT IN ('transaction', 'offer received', 'offer viewed', 'offer completed')
                THEN 'event is of no known kind'
            WHEN event = 'transaction' AND TRY_CAST(amount AS DOUBLE) IS NULL THEN 'amount is not a number'
            WHEN event <> 'transaction' AND offer_id IS NULL THEN 'no offer'
        END AS reason
    FROM raw
"""

DEALT = """
    WITH received AS (
        SELECT user_id, "at", min(offer_id) AS offer_id FROM happened
        WHERE reason IS NULL AND event = 'offer received' GROUP BY ALL
    ), waves AS (
        SELECT "at", row_number() OVER (ORDER BY "at") AS wave FROM (SELECT DISTINCT "at" FROM received)
    ), everybody AS (
        SELECT user_id, "at", wave, offer_id, coalesce(offer_id, 'none') AS choice
        FROM people CROSS JOIN waves LEFT JOIN received USING (user_id, "at")
    )
    SELECT 'wave-' || wave || '-' || user_id AS decision_id, user_id, "at", 'offer' AS kind, 'email' AS placement,
        'random' AS arm, 1.0 AS arm_share, [choice] AS chosen,
        [count(*) OVER (PARTITION BY wave, choice) / count(*) OVER (PARTITION BY wave)] AS probability,
        ['none'] || (SELECT list(id::VARCHAR ORDER BY id) FROM portfolio) AS candidates,
        'even' AS model_version, 'wave-' || wave AS campaign_id, offer_id
    FROM everybody
"""

BOUGHT = """
    WITH spent AS (
        SELECT user_id, "at", sum(amount) AS amount FROM happened
        WHERE reason IS NULL AND event = 'transaction' GROUP BY ALL
    ), rewarded AS (
        SELECT user_id, "at", sum(reward) AS reward, min(offer_id) AS offer_id FROM happened
        WHERE reason IS NULL AND event = 'offer completed' GROUP BY ALL
    )
    SELECT s.user_id || '-' || epoch(s."at")::BIGINT AS order_id, '1' AS line_id, s.user_id, 'not-told' AS item_id,
        1.0 AS quantity, s.amount AS unit_price, coalesce(r.reward, 0.0) AS discount, r.offer_id,
        s."at" AS occurred_at, d.decision_id, d.chosen[1] AS chosen_id
    FROM spent AS s LEFT JOIN rewarded AS r ON s.user_id = r.user_id AND s."at" = r."at"
        ASOF LEFT JOIN dealt AS d ON s.user_id = d.user_id AND s."at" >= d."at"
"""

OFFERS = """
    SELECT id::VARCHAR AS offer_id,
        concat_ws(' ', offer_type, reward::VARCHAR, 'for', difficulty::VARCHAR) AS name,
        CASE WHEN TRY_CAST(reward AS DOUBLE) > 0 THEN 'amount' ELSE 'none' END AS kind,
        TRY_CAST(reward AS DOUBLE) AS value, TRY_CAST(reward AS DOUBLE) AS cost,
        TRY_CAST(difficulty AS DOUBLE) AS min_spend, channels,
        offer_type, TRY_CAST(duration AS DOUBLE) AS duration_days
    FROM portfolio
"""

SEEN = """
    SELECT v.user_id, v.offer_id, d.decision_id, min(v."at") AS opened_at
    FROM (SELECT user_id, offer_id, "at" FROM happened WHERE reason IS NULL AND event = 'offer viewed') AS v
        ASOF JOIN (SELECT * FROM dealt WHERE offer_id IS NOT NULL) AS d
        ON v.user_id = d.user_id AND v.offer_id = d.offer_id AND v."at" >= d."at"
    GROUP BY ALL
"""

MESSAGES = f"""
    SELECT decision_id AS message_id, user_id, 'email' AS channel, campaign_id, offer_id, decision_id, "at" AS sent_at,
        opened_at
    FROM (SELECT * FROM dealt WHERE offer_id IS NOT NULL) LEFT JOIN ({SEEN}) USING (decision_id, user_id, offer_id)
"""

EVENTS = """
    SELECT concat_ws('-', user_id, offer_id, epoch("at")::BIGINT,
            row_number() OVER (PARTITION BY user_id, offer_id, "at" ORDER BY reward)) AS event_id,
        user_id, 'coupon_applied' AS event, "at" AS occurred_at, offer_id, reward AS value
    FROM happened WHERE reason IS NULL AND event = 'offer completed'
"""

OUTCOMES = f"""
    SELECT 'c-' || order_id AS outcome_id, decision_id, chosen_id, 'conversion' AS kind, occurred_at AS "at",
        unit_price - discount AS value
    FROM bought WHERE decision_id IS NOT NULL
    UNION ALL
    SELECT 'o-' || decision_id, decision_id, offer_id, 'open', opened_at, NULL FROM ({SEEN})
"""
