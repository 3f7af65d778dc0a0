"""Events as apps send them: fitted to the contract, an order split into its lines, a visitor tied to the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from data.contract import EVENT_NAMES, TABLES
from data.state.rows import MAX_ID, RowRefusedError, fit, number, refuse_times, text
from data.state.tombstones import ERASED
from data.state.writes import append

SIGN_OF_LINES = {"order_completed": 1.0, "order_refunded": -1.0}
"""Events whose `products` are order lines, and the sign of their quantities (a return is negative)."""
SPELT = {name.replace("_", ""): name for name in EVENT_NAMES}
"""How the contract writes an event, by its letters alone."""


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

    @classmethod
    def of(cls, error: RowRefusedError, position: int, row_id: object) -> Refusal:
        """What is told of a row, of an id that is too long its beginning."""
        return cls(position, row_id[:MAX_ID] if isinstance(row_id, str) else None, error.field, error.reason)


@dataclass
class Arrivals:
    """What a batch of events comes to.

    Attributes:
        events: Rows for `events`.
        orders: Rows for `orders`, from the events' products, by event id.
        identities: Rows for `identities`, from events that name both visitor and user, by event id.
        refused: The rows that do not fit.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    orders: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    identities: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def store(self, connection: sa.Connection) -> int:
        """Store it in one transaction; how many events were new. An event that is not new brings nothing else."""
        new = {event_id for (event_id,) in append(connection, "events", self.events)}
        append(connection, "orders", [line for id_, lines in self.orders.items() if id_ in new for line in lines])
        append(connection, "identities", [row for id_, rows in self.identities.items() if id_ in new for row in rows])
        return len(new)


def sort_events(
    rows: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    max_clock_skew_minutes: float,
    erased: Callable[[str | None], bool] = lambda _: False,
) -> Arrivals:
    """Sort events into what is to be stored and what is refused.

    `received_at` becomes `now`, whatever the row says: it is when the row reached us.

    Args:
        rows: As apps send them.
        now: The moment they came in.
        max_clock_skew_minutes: So far their clocks may be ahead.
        erased: Tells whether a user or visitor was erased; their events are refused.

    Example:
        >>> from datetime import UTC
        >>> taken = sort_events([{"event_id": "1", "event": "order_completed", "user_id": "ann", "order_id": "o1",
        ...     "occurred_at": "2026-01-01T00:00:00Z", "products": [{"product_id": "tea", "quantity": 2}]}],
        ...     now=datetime(2026, 1, 1, tzinfo=UTC), max_clock_skew_minutes=60)
        >>> [(line["item_id"], line["quantity"]) for line in taken.orders["1"]]
        [('tea', 2.0)]
    """
    arrivals = Arrivals()
    skew = timedelta(minutes=max_clock_skew_minutes)
    for position, row in enumerate(rows):
        try:
            event, lines = _event(row, now, skew)
            refuse_erased(event, erased)
        except RowRefusedError as refusal:
            arrivals.refused.append(Refusal.of(refusal, position, row.get("event_id")))
            continue
        arrivals.events.append(event)
        # Of two events with one id the first is stored, so what the first says is kept here too.
        arrivals.orders.setdefault(event["event_id"], [{**line, "received_at": now} for line in lines])
        arrivals.identities.setdefault(event["event_id"], _identities(event))
    return arrivals


def refuse_erased(row: Mapping[str, Any], erased: Callable[[str | None], bool]) -> None:
    """Refuse a fitted row of somebody who was erased, without naming them.

    Raises:
        RowRefusedError: it is.
    """
    field = "user_id" if row.get("user_id") else "anonymous_id"
    if erased(row.get(field)):
        raise RowRefusedError(field, ERASED)


def _identities(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    visitor, user = event["anonymous_id"], event["user_id"]
    if not (visitor and user):
        return []
    return [{"anonymous_id": visitor, "user_id": user, "at": event["occurred_at"], "extra": None}]


def _event(row: Mapping[str, Any], now: datetime, skew: timedelta) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    sign = SIGN_OF_LINES.get(row.get("event", "")) if isinstance(row.get("event"), str) else None
    products = row.get("products") if sign else None
    brought = {name: value for name, value in row.items() if not (sign and name == "products")}
    event = {**fit(TABLES["events"], brought), "received_at": now}
    name = event["event"]
    if (meant := SPELT.get("".join(filter(str.isalnum, name)).casefold(), name)) != name:
        raise RowRefusedError("event", f"is written {meant!r}; as {name[:64]!r} it would count for nothing")
    if not (event["user_id"] or event["anonymous_id"]):
        raise RowRefusedError("user_id", "is missing, and so is anonymous_id; one of them is needed")
    refuse_times(TABLES["events"], event, now=now, skew=skew)
    if not products or sign is None:
        return event, []
    if not isinstance(products, list) or len(products) > 1000:
        raise RowRefusedError("products", "is not a list of at most 1000 products")
    lines: dict[str, dict[str, Any]] = {}
    for position, product in enumerate(products, start=1):
        line = _line(event, product, position, sign)
        if line["line_id"] in lines:
            raise RowRefusedError(f"products[{position - 1}].line_id", f"{line['line_id'][:64]!r} is there twice")
        lines[line["line_id"]] = line
    return event, list(lines.values())


def _line(event: Mapping[str, Any], product: Any, position: int, sign: float) -> dict[str, Any]:
    """One product of an order. Without an order id the event's own id names the order."""
    place = f"products[{position - 1}]"
    if not isinstance(product, dict):
        raise RowRefusedError(place, "is not an object")
    order_id = _first((event["extra"] or {}).get("order_id"), event["event_id"])
    line_id = text(f"{place}.line_id", _first(product.get("line_id"), position))
    quantity = number(f"{place}.quantity", product.get("quantity", 1))
    if quantity == 0:
        raise RowRefusedError(f"{place}.quantity", "is 0")
    try:
        return fit(
            TABLES["orders"],
            {
                "order_id": order_id,
                "line_id": line_id if sign > 0 else f"{event['event_id']}/{line_id}",
                "user_id": event["user_id"],
                "item_id": _first(product.get("item_id"), product.get("product_id")),
                "quantity": sign * abs(quantity) if sign < 0 else quantity,
                "unit_price": _first(product.get("unit_price"), product.get("price")),
                "discount": product.get("discount"),
                "offer_id": _first(product.get("offer_id"), product.get("coupon")),
                "occurred_at": event["occurred_at"].isoformat(),
            },
        )
    except RowRefusedError as refusal:
        raise RowRefusedError(f"{place}.{refusal.field}", refusal.reason) from refusal


def _first(told: Any, otherwise: Any) -> Any:
    """What is told, a 0 too; else the other."""
    return otherwise if told is None or told == "" else told
