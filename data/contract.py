"""The contract: every table Attune knows, with its columns, types, key and times, in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

import ibis

ColumnType = Literal["string", "time", "float", "int", "bool", "strings", "floats"]

IBIS_TYPES: dict[ColumnType, str] = {
    "string": "string",
    "time": "timestamp('UTC')",
    "float": "float64",
    "int": "int64",
    "bool": "boolean",
    "strings": "array<string>",
    "floats": "array<float64>",
}


EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""No shop of ours is older; an earlier time is nearly always a zero that was read as a date."""

TOO_EARLY, IN_FUTURE, BEFORE = f"before {EARLIEST.year}", "in the future", "before {}"
NEGATIVE, NONE_OF, RESERVED = "negative", "none of {}", "kept for what is of kind {}"
"""What a value that a column cannot have is, in words that follow the column's name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and what its values cannot be, in a file as over HTTP.

    Attributes:
        name: Its name.
        type: Its type.
        required: Whether a row without it is refused.
        about: What it says.
        one_of: The values that there are; empty = any.
        not_negative: Whether a number below 0 is refused.
        follows: A time of the same row that it cannot lie before.
        planned: Whether it may lie in the future.
        reserved: An id that only a row whose `kind` is the same may have.
    """

    name: str
    type: ColumnType = "string"
    required: bool = False
    about: str = ""
    one_of: tuple[str, ...] = ()
    not_negative: bool = False
    follows: str | None = None
    planned: bool = False
    reserved: str | None = None


@dataclass(frozen=True)
class TableSpec:
    """What a table must look like.

    Attributes:
        name: The table's name, also its file's stem.
        about: What one row is.
        key: Columns that together identify a row (two rows with the same key are duplicates).
        columns: The known columns; any other column of a file is kept as an attribute.
        happened_at: The time a row came to be true; a row is known at a cutoff only if it lies before it.
            None for catalogues without a time.
        later: Times that may come after `happened_at` (an open, a click), each with the columns that are
            known only from that time on. At a cutoff before such a time they read as null.
        history: Several rows per entity, the latest before the cutoff counts: names the entity's columns.
    """

    name: str
    about: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    happened_at: str | None = None
    later: dict[str, tuple[str, ...]] | None = None
    history: tuple[str, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The known columns by name."""
        return {column.name: column for column in self.columns}

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the columns a row cannot do without."""
        return tuple(column.name for column in self.columns if column.required)

    @property
    def times(self) -> tuple[str, ...]:
        """Names of the time columns."""
        return tuple(column.name for column in self.columns if column.type == "time")

    @cached_property
    def schema(self) -> ibis.Schema:
        """The known columns as an Ibis schema."""
        return ibis.schema({column.name: IBIS_TYPES[column.type] for column in self.columns})


COLUMN = re.compile(
    r"(?P<name>\w+)(?P<required>\*?)(:(?P<type>\w+))?(?P<planned>\+?)"
    r"(>=((?P<not_negative>0)|(?P<follows>\w+)))?(!=(?P<reserved>\w+))?(=(?P<one_of>\S+))?( +(?P<about>.*))?"
)


def _columns(text: str) -> tuple[Column, ...]:
    """Read lines such as `name*:type about`.

    `*` = required, the type defaults to string; `:time+` = may lie in the future, `>=0` = not negative, `>=sent_at` =
    not before that time, `=a|b` = one of these, `!=none` = an id that only a row of that kind may have.
    """
    found = []
    for line in text.strip().splitlines():
        part = COLUMN.fullmatch(line.strip())
        if part is None:
            raise ValueError(f"{line.strip()!r} is no column")
        one_of = tuple(part["one_of"].split("|")) if part["one_of"] else ()
        column_type: ColumnType = part["type"] or "string"  # type: ignore[assignment]
        found.append(
            Column(
                name=part["name"],
                type=column_type,
                required=bool(part["required"]),
                about=part["about"] or ", ".join(one_of),
                one_of=one_of,
                not_negative=bool(part["not_negative"]),
                follows=part["follows"],
                planned=bool(part["planned"]),
                reserved=part["reserved"],
            )
        )
    return tuple(found)


USERS = TableSpec(
    name="users",
    about="a customer, as known from `updated_at` on (history: several rows per user)",
    key=("user_id", "updated_at"),
    happened_at="updated_at",
    later={"created_at": ("created_at",)},
    history=("user_id",),
    columns=_columns("""
        user_id*
        updated_at:time when this row came to be known; empty = from `created_at` on, or always
        created_at:time when the customer signed up
        country
        locale
        timezone IANA name, for the person's own hours
        member_tier
        acquisition_channel
        channels:strings channels on which this person can be reached
    """),
)

IDENTITIES = TableSpec(
    name="identities",
    about="an anonymous visitor who became known (their history joins the user's from `at` on)",
    key=("anonymous_id", "user_id"),
    happened_at="at",
    columns=_columns("""
        anonymous_id*
        user_id*
        at*:time when they were identified
    """),
)

ITEMS = TableSpec(
    name="items",
    about="something to show or sell, as known from `updated_at` on",
    key=("item_id", "updated_at"),
    happened_at="updated_at",
    later={"created_at": ("created_at",)},
    history=("item_id",),
    columns=_columns("""
        item_id*
        updated_at:time when this row came to be known; empty = from `created_at` on, or always
        name
        category
        brand
        price:float>=0 in the shop's currency
        cost:float>=0 what the item costs the shop
        available:bool false = not shown; empty = available
        created_at:time+ when the item first went on sale
    """),
)

EVENTS = TableSpec(
    name="events",
    about="something a user did",
    key=("event_id",),
    happened_at="occurred_at",
    later={},
    columns=_columns("""
        event_id*
        user_id
        anonymous_id one of user_id and anonymous_id is needed
        event* Segment's e-commerce name in snake case
        occurred_at*:time when it happened
        received_at:time>=occurred_at when the row reached us; empty = as it happened
        session_id
        item_id
        category
        page
        query what was searched for
        channel
        dwell_seconds:float>=0
        value:float in the shop's currency
    """),
)

ORDERS = TableSpec(
    name="orders",
    about="a line of an order; a return has negative quantity",
    key=("order_id", "line_id"),
    happened_at="occurred_at",
    columns=_columns("""
        order_id*
        line_id* importers make it where a shop has none
        user_id empty for a guest
        item_id*
        quantity*:float negative = returned
        unit_price:float>=0 what one piece was sold for, before the discount
        discount:float money off the whole line
        offer_id
        occurred_at*:time
        received_at:time>=occurred_at when the row reached us; empty = as it happened
    """),
)

MESSAGES = TableSpec(
    name="messages",
    about="something we sent",
    key=("message_id",),
    happened_at="sent_at",
    later={
        "opened_at": ("opened_at", "machine_opened"),
        "clicked_at": ("clicked_at",),
        "unsubscribed_at": ("unsubscribed_at",),
        "bounced_at": ("bounced_at",),
    },
    columns=_columns("""
        message_id*
        user_id*
        channel* email, sms, push, web, in_app, ads
        campaign_id
        offer_id
        variant_id
        decision_id
        sent_at*:time
        opened_at:time>=sent_at
        machine_opened:bool opened by a mail program, not by the person
        clicked_at:time>=sent_at
        unsubscribed_at:time>=sent_at
        bounced_at:time>=sent_at
    """),
)

OFFERS = TableSpec(
    name="offers",
    about="something we can offer",
    key=("offer_id",),
    columns=_columns("""
        offer_id*!=none `none` = no offer
        name
        kind=percent|amount|shipping|gift|none
        value:float>=0 what the person gets, in the shop's currency or percent
        cost:float>=0 what one redemption costs the shop
        min_spend:float>=0
        category
        channels:strings
        segment
        starts_at:time+
        ends_at:time+>=starts_at
        max_redemptions:int>=0
    """),
)

VARIANTS = TableSpec(
    name="variants",
    about="one wording or picture for a slot",
    key=("variant_id",),
    columns=_columns("""
        variant_id*
        slot* subject, headline, hero, call_to_action, ...
        campaign_id
        text may hold merge fields with a fallback: {user.first_name|there}
        attributes JSON
        segment
        starts_at:time+
        ends_at:time+>=starts_at
    """),
)

CONSENTS = TableSpec(
    name="consents",
    about="a yes or a no",
    key=("user_id", "purpose", "at"),
    happened_at="at",
    columns=_columns("""
        user_id*
        purpose* marketing, personalisation, or a channel's name; a message needs a yes to its channel
        granted*:bool
        at*:time
    """),
)

PREFERENCES = TableSpec(
    name="preferences",
    about="a person's own choice (topics, channels, how often, hours)",
    key=("user_id", "name", "at"),
    happened_at="at",
    columns=_columns("""
        user_id*
        name*
        value*
        at*:time
    """),
)

DECISIONS = TableSpec(
    name="decisions",
    about="what we chose, and how",
    key=("decision_id",),
    happened_at="at",
    columns=_columns("""
        decision_id*
        user_id*
        at*:time
        kind*=items|offer|variant|action
        placement where it was shown (or slot)
        slot
        arm*=model|random|usual|holdout
        arm_share*:float share of users in that arm
        chosen*:strings
        probability*:floats chance of each choice, given the arm
        candidates:strings
        suppressed JSON: what was held back, and by which rule
        model_version*
        context JSON
    """),
)

OUTCOMES = TableSpec(
    name="outcomes",
    about="what came of a decision",
    key=("outcome_id",),
    happened_at="at",
    columns=_columns("""
        outcome_id*
        decision_id*
        chosen_id
        position:int>=0 among those chosen, from 0
        kind*=impression|open|click|conversion|unsubscribe
        at*:time
        value:float of a conversion, in the shop's currency: empty = not known, negative = it came back
    """),
)

TABLES: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        USERS, IDENTITIES, ITEMS, EVENTS, ORDERS, MESSAGES,
        OFFERS, VARIANTS, CONSENTS, PREFERENCES, DECISIONS, OUTCOMES,
    )
}  # fmt: skip
"""Every table of the contract by name."""

EVENT_NAMES: frozenset[str] = frozenset({
    "page_viewed", "product_viewed", "products_searched", "product_list_viewed", "product_list_filtered",
    "product_clicked", "product_added", "product_removed", "cart_viewed", "checkout_started",
    "checkout_step_viewed", "checkout_step_completed", "payment_info_entered", "order_completed",
    "order_updated", "order_refunded", "order_cancelled", "coupon_entered", "coupon_applied",
    "coupon_denied", "coupon_removed", "product_added_to_wishlist", "product_removed_from_wishlist",
    "wishlist_product_added_to_cart", "product_shared", "cart_shared", "product_reviewed",
    "promotion_viewed", "promotion_clicked", "form_submitted", "signed_up", "signed_in", "signed_out",
})  # fmt: skip
"""Event names of the Segment e-commerce spec in snake case; other names are kept and counted, not refused."""
