"""Engagement: what was sent to a customer, what came back, and when they like to be written to."""

from __future__ import annotations

from collections.abc import Iterator

import ibis
from ibis.expr import types as ir

from data.tables import Tables
from features.definitions import Feature, Group, Moment, share

WINDOWS_DAYS = (7, 30, 90)
CHANNELS = ("email", "sms", "push", "web", "in_app", "ads")
OPENED, CLICKED = ("messages.opened_at",), ("messages.clicked_at",)
ANSWERED = ("messages.opened_at|messages.clicked_at",)
PRIOR_MESSAGES = 10
PRIOR_OPEN_RATE = 0.2
PRIOR_CLICK_RATE = 0.02
"""Rates are shrunk towards a stranger's, as if so many messages more had been sent (beta-binomial posterior mean)."""


def groups(known: Tables, at: Moment) -> Iterator[Group]:
    """The groups of this family, over tables as they were known at the cutoff."""
    messages = known["messages"]
    messages = messages.mutate(
        opened=~messages.opened_at.isnull() & ~messages.machine_opened.fill_null(False),
        clicked=~messages.clicked_at.isnull(),
    )
    yield Group("messages", messages, tuple(_answers(messages, at)), whole=True)
    waiting = _unanswered(messages)
    yield Group("messages", waiting, tuple(_fatigue(waiting)))
    hours = _hours(messages)
    yield Group("messages", hours, tuple(_best_hour(hours)))


def _answers(messages: ir.Table, at: Moment) -> Iterator[Feature]:
    yield Feature("days_since_message", "since the last message", "days", at.days_since(messages.sent_at.max()))
    for kind, about, told, needs in (
        ("sent", "messages sent", ibis.literal(True), ()),
        ("opened", "messages sent and opened by the person, not by a machine", messages.opened, OPENED),
        ("clicked", "messages sent and clicked", messages.clicked, CLICKED),
    ):
        for days in WINDOWS_DAYS:
            yield Feature(
                f"{kind}_{days}d",
                f"{about}, in the last {days} days",
                "messages",
                messages.count(where=told & at.within(messages.sent_at, days)),
                needs=needs,
                empty=0,
            )
        for channel in CHANNELS:
            for days in (30, 90):
                yield Feature(
                    f"{kind}_{channel}_{days}d",
                    f"{about}, by {channel}, in the last {days} days",
                    "messages",
                    messages.count(where=told & (messages.channel == channel) & at.within(messages.sent_at, days)),
                    needs=needs,
                    empty=0,
                )
    for reached in (None, *CHANNELS):
        yield from _rates(messages, at, reached)
    opened_at, clicked_at = messages.opened_at.max(where=messages.opened), messages.clicked_at.max()
    yield Feature("days_since_open", "since the person last opened", "days", at.days_since(opened_at), OPENED)
    yield Feature("days_since_click", "since the last click", "days", at.days_since(clicked_at), CLICKED)
    week = messages.count(where=at.within(messages.sent_at, 7)).cast("float64")
    quarter = messages.count(where=at.within(messages.sent_at, 90)).cast("float64")
    yield Feature(
        "sent_trend", "messages in the last week against the mean week of 90 days, each plus one", "ratio",
        (week + 1) / (quarter * 7 / 90 + 1),
    )  # fmt: skip
    for kind in ("unsubscribed", "bounced"):
        when = messages[f"{kind}_at"]
        needs = (f"messages.{kind}_at",)
        yield Feature(f"{kind}_life", f"messages that were {kind}", "messages", when.count(), needs=needs, empty=0)
        yield Feature(f"days_since_{kind}", f"since last {kind}", "days", at.days_since(when.max()), needs=needs)


def _rates(messages: ir.Table, at: Moment, channel: str | None) -> Iterator[Feature]:
    here = at.within(messages.sent_at, 90)
    name, where = "", "on any channel"
    if channel:
        here, name, where = here & (messages.channel == channel), f"{channel}_", f"by {channel}"
    sent = messages.count(where=here).cast("float64")
    for kind, answered, prior, needs in (
        ("open", messages.opened, PRIOR_OPEN_RATE, OPENED),
        ("click", messages.clicked, PRIOR_CLICK_RATE, CLICKED),
    ):
        yield Feature(
            f"{kind}_rate_{name}90d",
            f"{kind}s of messages sent {where} in 90 days, shrunk towards {prior:.0%} by {PRIOR_MESSAGES} messages",
            "share",
            (messages.count(where=answered & here).cast("float64") + PRIOR_MESSAGES * prior) / (sent + PRIOR_MESSAGES),
            needs=needs,
            steady=kind == "open" and channel is None,
        )


def _unanswered(messages: ir.Table) -> ir.Table:
    """The messages sent after the last one that was opened or clicked."""
    person = ibis.window(group_by="user_id")
    answered = messages.opened | messages.clicked
    rows = messages.select(
        "user_id", "sent_at", answered_at=answered.ifelse(messages.sent_at, ibis.null("timestamp('UTC')"))
    )
    rows = rows.mutate(last_answered_at=rows.answered_at.max().over(person))
    return rows.filter(rows.last_answered_at.isnull() | (rows.sent_at > rows.last_answered_at))


def _fatigue(waiting: ir.Table) -> Iterator[Feature]:
    yield Feature(
        "sent_unanswered",
        "messages sent since the last one that was opened or clicked",
        "messages",
        waiting.count(),
        needs=ANSWERED,
        empty=0,
    )


def _hours(messages: ir.Table) -> ir.Table:
    """One row per customer and UTC hour of the day: opens and clicks in it."""
    when = ibis.coalesce(messages.clicked_at, messages.opened.ifelse(messages.opened_at, ibis.null("timestamp('UTC')")))
    rows = messages.select("user_id", answered_at=when)
    rows = rows.filter(~rows.answered_at.isnull())
    rows = rows.mutate(hour=rows.answered_at.hour().cast("int64"))
    return rows.group_by("user_id", "hour").agg(answers=rows.count())


def _best_hour(hours: ir.Table) -> Iterator[Feature]:
    needs = ANSWERED
    most = (hours.answers * 24 + 23 - hours.hour).max()
    yield Feature(
        "best_hour",
        "UTC hour in which most messages were answered, the earliest of equals",
        "hour",
        23 - most % 24,
        needs,
    )
    yield Feature(
        "best_hour_share",
        "answers that came in that hour",
        "share",
        share(hours.answers.max(), hours.answers.sum()),
        needs,
    )
