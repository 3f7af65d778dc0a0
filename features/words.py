"""Why a score is what it is, in words: features that say the same are one reason, with the person's own numbers."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.expressions import Expression, parse

MOST_REASONS = 3
"""Told of a row."""


@dataclass(frozen=True)
class Because:
    """One reason of one person.

    Attributes:
        feature: The one of its features that moved the score most.
        value: What the person has of it; None where it is missing.
        effect: What all features of the reason add to the log-odds.
        text: The reason, for people.
    """

    feature: str
    value: float | str | None
    effect: float
    text: str


@dataclass(frozen=True)
class Phrase:
    """Words for those of whom a condition holds.

    Attributes:
        when: Over features; a comparison with a missing value is false.
        text: With features in braces and how they are written: `days`, `n`, `money` or `share`. `{it}` is the leading
            feature's value, and groups of the topic's pattern have their names.
    """

    when: Expression
    text: str


@dataclass(frozen=True)
class Topic:
    """Features that say much the same of a person.

    Attributes:
        features: Pattern of their whole names.
        phrases: The first that holds is said.
        otherwise: What is said where none does.
    """

    features: re.Pattern[str]
    phrases: tuple[Phrase, ...]
    otherwise: str


def _topic(features: str, *phrases: tuple[str, str], otherwise: str) -> Topic:
    told = tuple(Phrase(parse(when, place=f"words.{features}"), text) for when, text in phrases)
    return Topic(re.compile(features), told, otherwise)


NO_ORDER = "has not ordered yet"
TOPICS = (
    _topic(
        "days_since_order|order_lateness|order_gap_last_days",
        ("order_lateness > 1.5",
         "orders less often than before ({days_since_order:days} against their usual {order_gap_mean_days:days})"),
        ("order_lateness >= 0",
         "keeps to their rhythm ({days_since_order:days} since the last order, usually {order_gap_mean_days:days})"),
        ("days_since_order >= 0", "last ordered {days_since_order:days} ago"),
        otherwise=NO_ORDER,
    ),
    _topic(
        r"orders_(life|\d+d)|order_completed_\d+d|order_gap_(mean|sd)_days|days_since_first_order",
        ("orders_life == 1", "has ordered once"),
        ("orders_90d > 0", "has ordered {orders_90d:n} times in 90 days, {orders_life:n} times ever"),
        ("orders_life > 1", "has ordered {orders_life:n} times, but not in the last 90 days"),
        otherwise=NO_ORDER,
    ),
    _topic(
        r"spend_(life|\d+d)|order_value_(mean|first)",
        ("spend_365d > 0", "spent {spend_365d:money} in a year, {order_value_mean:money} an order"),
        ("spend_life > 0", "spent {spend_life:money}, but nothing in the last year"),
        otherwise="has spent nothing yet",
    ),
    _topic(
        "basket_size_mean", ("basket_size_mean > 0", "buys {basket_size_mean:n} pieces an order"), otherwise=NO_ORDER
    ),
    _topic(
        "return_share|returned_pieces_life",
        ("return_share > 0", "sent back {return_share:share} of what they bought"),
        otherwise="has sent nothing back",
    ),
    _topic(
        "discount_share|discounted_lines_share",
        ("discounted_lines_share > 0", "bought {discounted_lines_share:share} of their order lines at a discount"),
        otherwise="has bought nothing at a discount",
    ),
    _topic(
        r"orders_share_(?P<category>.+)", ("orders_life > 0", "{it:share} of what they bought is {category}"),
        otherwise=NO_ORDER,
    ),
    _topic(
        r"events_share_(?P<category>.+)_90d", ("events_90d > 0", "{it:share} of what they looked at is {category}"),
        otherwise="has looked at nothing in 90 days",
    ),
    _topic(
        r"cart_\w+|product_(added|removed)_\d+d|checkout_started_\d+d",
        ("cart_items > 0", "{cart_items:n} items wait in the cart"),
        ("product_added_30d > 0", "put {product_added_30d:n} products into the cart in 30 days, none is left in it"),
        otherwise="has put nothing into the cart in 30 days",
    ),
    _topic(
        r"product_viewed_\d+d|items_\w+_?90d|items_90d|categor(y|ies)_\w+|categories_90d|brands?_\w+",
        ("product_viewed_30d > 0", "looked at products {product_viewed_30d:n} times in 30 days"),
        otherwise="has looked at no product in 30 days",
    ),
    _topic(
        r"days_since_(first_)?event|events_(\d+d|trend)|sessions?_\w+|page_viewed_\d+d|dwell_\d+d",
        ("days_since_event > 30", "has not been seen for {days_since_event:days}"),
        ("events_trend < 0.7", "visits less than before ({events_30d:n} events in 30 days)"),
        ("events_trend > 1.5", "visits more than before ({events_30d:n} events in 30 days)"),
        ("events_30d > 0", "visits as before ({events_30d:n} events in 30 days)"),
        otherwise="has not been seen",
    ),
    _topic(
        r"(opened|clicked)_\w+|(open|click)_rate_\w+|days_since_(open|click)|sent_unanswered|best_hour(_share)?",
        ("sent_unanswered >= 3", "left the last {sent_unanswered:n} messages unanswered"),
        ("days_since_click >= 0", "clicked a message {days_since_click:days} ago"),
        ("days_since_open >= 0", "opened a message {days_since_open:days} ago"),
        otherwise="has answered no message yet",
    ),
    _topic(
        r"sent_\w+|days_since_message",
        ("sent_30d > 0", "was sent {sent_30d:n} messages in 30 days"),
        otherwise="was sent no message in 30 days",
    ),
    _topic(
        "(unsubscribed|bounced)_life|days_since_(unsubscribed|bounced)",
        ("unsubscribed_life > 0", "has unsubscribed"),
        ("bounced_life > 0", "messages could not be delivered"),
        otherwise="has not unsubscribed",
    ),
    _topic(
        "tenure_days", ("tenure_days >= 0", "signed up {tenure_days:days} ago"), otherwise="signed up nobody knows when"
    ),
    _topic(
        r"leaning_(?P<category>.+)", otherwise="{it:share} of what they ever looked at is {category}"
    ),
    _topic(
        "price_level(_within)?",
        ("price_level > 0", "looks at dearer items than most"),
        ("price_level < 0", "looks at cheaper items than most"),
        otherwise="looks at items of a middling price",
    ),
    _topic(
        r"(?P<part>night|morning|day|evening)_share",
        otherwise="{it:share} of what they ever did fell into the {part} (UTC)",
    ),
    _topic(r"(?P<event>\w+)_(?P<days>\d+)d", otherwise="{event}: {it:n} times in {days} days"),
    _topic(r"(answer_)?(?P<name>.+)", otherwise="{name}: {it:n}"),
)  # fmt: skip
"""Every feature belongs to the first topic whose pattern it matches; the last two take what is left."""


def in_words(frame: pd.DataFrame, features: Sequence[str], effects: np.ndarray) -> list[list[Because]]:
    """For each row the reasons that moved its score most, strongest first; what moved it not at all is left out.

    Args:
        frame: A person's features a row, those that the phrases speak of included where they are known.
        features: Of the model.
        effects: What each adds to each row's log-odds, shape (len(frame), len(features)).

    Example:
        >>> ann = pd.DataFrame({"days_since_order": [54.0], "order_lateness": [2.6], "order_gap_mean_days": [21.0]})
        >>> in_words(ann, ["days_since_order", "order_lateness"], np.array([[0.5, 0.4]]))[0][0].text
        'orders less often than before (54 days against their usual 21 days)'
    """
    of_topic = np.array([_topic_of(name) for name in features], dtype=np.int64)
    present = np.unique(of_topic).tolist()
    totals = np.column_stack([effects[:, of_topic == number].sum(axis=1) for number in present] or [effects])
    texts = {number: _said(TOPICS[number], frame) for number in present}
    found: list[list[Because]] = []
    for row in range(len(frame)):
        reasons = []
        for place in np.argsort(-np.abs(totals[row]), kind="stable")[:MOST_REASONS]:
            number, effect = present[place], float(totals[row, place])
            if effect == 0:
                break
            members = np.flatnonzero(of_topic == number)
            leading = features[members[np.argmax(effects[row, members] * np.sign(effect))]]
            value = _value(frame[leading].iloc[row])
            reasons.append(Because(leading, value, effect, _written(texts[number][row], frame, row, leading, number)))
        found.append(reasons)
    return found


def _topic_of(feature: str) -> int:
    return next(number for number, topic in enumerate(TOPICS) if topic.features.fullmatch(feature))


def _said(topic: Topic, frame: pd.DataFrame) -> np.ndarray:
    """The template for each row, shape (n,); phrases about features that this shop does not have are passed over."""
    said = np.full(len(frame), topic.otherwise, dtype=object)
    for phrase in reversed(topic.phrases):
        if {*phrase.when.names, *_fields(phrase.text)} <= {*frame.columns, *topic.features.groupindex, "it"}:
            said[phrase.when.mask(frame)] = phrase.text
    return said


def _fields(text: str) -> Iterator[str]:
    return (name for _, name, _, _ in string.Formatter().parse(text) if name)


def _written(text: str, frame: pd.DataFrame, row: int, leading: str, topic: int) -> str:
    match = TOPICS[topic].features.fullmatch(leading)
    named = {name: str(part).replace("_", " ") for name, part in (match.groupdict() if match else {}).items()}
    written = []
    for words, name, how, _ in string.Formatter().parse(text):
        written.append(words)
        if name in named:
            written.append(named[name])
        elif name:
            written.append(_as(_value(frame[leading if name == "it" else name].iloc[row]), how or "n"))
    return "".join(written)


def _as(value: float | str | None, how: str) -> str:
    """A value as people write it."""
    if value is None:
        return "not known"
    if isinstance(value, str):
        return value
    if how == "share":
        return f"{value:.0%}"
    if how == "money":
        return f"{value:,.2f}"
    number = f"{value:,.0f}" if value == round(value) or abs(value) >= 10 else f"{value:,.1f}"
    if how == "days":
        return "1 day" if number == "1" else f"{number} days"
    return number


def _value(value: Any) -> float | str | None:
    if pd.isna(value):
        return None
    return value if isinstance(value, str) else float(value)
