"""Events as apps send them: fitted to the contract, an order split into its lines, a visitor tied to the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from data.contract import TABLES
from data.state.rows import RowRefusedError, fit, text
from data.state.writes import append

SIGN_OF_LINES = {"order_completed": 1.0, "order_refunded": -1.0}
"""Events whose `products` are order lines, and the sign of their quantities (a return is negative)."""


@dataclass(frozen=True)
class Refusal:
    """A row that was not stored, and why.

    Attributes:
        position: Where in the request it stood, from 0.
        row_id: Its id, if it had one.
        field: The column at fault.
        message: What is wrong.
    """

    position: int
    row_id: str | None
    field: str
    message: str


@dataclass
class Arrivals:
    """What a batch of events comes to.

    Attributes:
        events: Rows for `events`.
        orders: Rows for `orders`, from the events' products.
        identities: Rows for `identities`, from events that name both visitor and user.
        refused: The rows that do not fit.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    identities: list[dict[str, Any]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def store(self, connection: sa.Connection) -> int:
        """Store it in one transaction; how many events were new."""
        stored = append(connection, "events", self.events)
        append(connection, "orders", self.orders)
        append(connection, "identities", self.identities)
        return len(stored)


def sort_events(rows: Sequence[Mapping[str, Any]], *, now: datetime, max_clock_skew_minutes: float) -> Arrivals:
    """Sort events into what is to be stored and what is refused.

    `received_at` becomes `now`, whatever the row says: it is when the row reached us.

    Example:
        >>> from datetime import UTC
        >>> taken = sort_events([{"event_id": "1", "event": "order_completed", "user_id": "ann", "order_id": "o1",
        ...     "occurred_at": "2026-01-01T00:00:00Z", "products": [{"product_id": "tea", "quantity": 2}]}],
        ...     now=datetime(2026, 1, 1, tzinfo=UTC), max_clock_skew_minutes=60)
        >>> taken.orders[0]["item_id"], taken.orders[0]["quantity"]
        ('tea', 2.0)
    """
    arrivals = Arrivals()
    latest = now + timedelta(minutes=max_clock_skew_minutes)
    for position, row in enumerate(rows):
        try:
            event, lines = _event(row, latest)
        except RowRefusedError as refusal:
            row_id = row.get("event_id")
            shown = row_id[:512] if isinstance(row_id, str) else None
            arrivals.refused.append(Refusal(position, shown, refusal.field, refusal.reason))
            continue
        arrivals.events.append({**event, "received_at": now})
        arrivals.orders += [{**line, "received_at": now} for line in lines]
        if event["user_id"] and event["anonymous_id"]:
            arrivals.identities.append(
                {
                    "anonymous_id": event["anonymous_id"],
                    "user_id": event["user_id"],
                    "at": event["occurred_at"],
                    "extra": None,
                }
            )
    return arrivals


def _event(row: Mapping[str, Any], latest: datetime) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    sign = SIGN_OF_LINES.get(row.get("event", "")) if isinstance(row.get("event"), str) else None
    products = row.get("products") if sign else None
    event = fit(TABLES["events"], {name: value for name, value in row.items() if not (products and name == "products")})
    if not (event["user_id"] or event["anonymous_id"]):
        raise RowRefusedError("user_id", "is missing, and so is anonymous_id; one of them is needed")
    if event["occurred_at"] > latest:
        raise RowRefusedError("occurred_at", f"lies in the future ({event['occurred_at'].isoformat()})")
    if not products or sign is None:
        return event, []
    if not isinstance(products, list) or len(products) > 1000:
        raise RowRefusedError("products", "is not a list of at most 1000 products")
    return event, [_line(event, product, position, sign) for position, product in enumerate(products, start=1)]


def _line(event: Mapping[str, Any], product: Any, position: int, sign: float) -> dict[str, Any]:
    """One product of an order. Without an order id the event's own id names the order."""
    place = f"products[{position - 1}]"
    if not isinstance(product, dict):
        raise RowRefusedError(place, "is not an object")
    order_id = (event["extra"] or {}).get("order_id") or event["event_id"]
    line_id = text(f"{place}.line_id", product.get("line_id") or position)
    quantity = product.get("quantity", 1)
    if isinstance(quantity, bool) or not isinstance(quantity, (int, float)) or quantity == 0:
        raise RowRefusedError(f"{place}.quantity", "is not a number other than 0")
    try:
        return fit(
            TABLES["orders"],
            {
                "order_id": order_id,
                "line_id": line_id if sign > 0 else f"{event['event_id']}/{line_id}",
                "user_id": event["user_id"],
                "item_id": product.get("item_id") or product.get("product_id"),
                "quantity": sign * abs(quantity) if sign < 0 else quantity,
                "unit_price": product.get("unit_price", product.get("price")),
                "discount": product.get("discount"),
                "offer_id": product.get("offer_id") or product.get("coupon"),
                "occurred_at": event["occurred_at"].isoformat(),
            },
        )
    except RowRefusedError as refusal:
        raise RowRefusedError(f"{place}.{refusal.field}", refusal.reason) from refusal
