"""Profile: what a customer told or was given, as it was known at the cutoff and as far as the settings allow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache

import ibis
import pandas as pd
from ibis.expr import types as ir

from data import settings as config
from data.errors import WorkspaceError
from data.tables import Tables
from features.definitions import Feature, Group, Moment

ATTRIBUTES = ("country", "locale", "member_tier", "acquisition_channel")
"""Attributes of the contract that are features without being asked for."""


def attributes(settings: config.Features) -> tuple[str, ...]:
    """The attributes of `users` that may be used: the contract's, and those that the settings name.

    Raises:
        WorkspaceError: a sensitive attribute without a reason.

    Example:
        >>> attributes(config.Features(attributes=("device",)))
        ('country', 'locale', 'member_tier', 'acquisition_channel', 'device')
    """
    _refuse_sensitive("attributes", settings.attributes, settings)
    return tuple(dict.fromkeys((*ATTRIBUTES, *settings.attributes)))


def groups(known: Tables, at: Moment, settings: config.Features) -> Iterator[Group]:
    """The groups of this family, over tables as they were known at the cutoff.

    Raises:
        WorkspaceError: a sensitive attribute without a reason, or one that is neither number nor text.
    """
    _refuse_sensitive("form_answers", settings.form_answers, settings)
    users = known["users"]
    yield Group("users", users, tuple(_attributes(users, at, settings)), whole=True, single=True)
    events = known["events"]
    for answer in settings.form_answers:
        given = _answers(events, answer)
        about = f"the last answer to {answer!r} in a form"
        needs = (f"events.{answer}",)
        feature = Feature(f"answer_{answer}", about, "answer", given.answer, needs, steady=True)
        yield Group("events", given, (feature,), single=True)


def attributes_at(tables: Tables, cutoff: datetime, names: Sequence[str]) -> pd.DataFrame:
    """Columns of `users` as they were known at the cutoff, a row per user, by `user_id`; they need be no features.

    Raises:
        WorkspaceError: a column that the shop did not bring.

    Example:
        >>> from datetime import UTC
        >>> shop = Tables.from_frames(users=pd.DataFrame({"user_id": ["ann"], "country": ["NL"]}))
        >>> attributes_at(shop, datetime(2026, 1, 1, tzinfo=UTC), ["country"]).loc["ann", "country"]
        'NL'
    """
    if unknown := [name for name in names if not tables.has("users", name)]:
        raise WorkspaceError(f"users.{unknown[0]}: there is no such column. Bring it, or leave it out of the settings.")
    users = tables.as_of(cutoff)["users"]
    return users.select("user_id", *(_plain(users, name).name(name) for name in names)).execute().set_index("user_id")


def sensitive(name: str, settings: config.Features) -> str | None:
    """What makes an attribute of a person sensitive: a word of the settings that its name holds.

    None if nothing does, or if the settings give a reason to use it.

    Example:
        >>> sensitive("customerAge", config.Features()), sensitive("language", config.Features())
        ('age', None)
    """
    if settings.sensitive_reasons.get(name, "").strip():
        return None
    return next((word for word in settings.sensitive if _words(word) in _words(name)), None)


def sensitive_category(category: str, settings: config.Features) -> str | None:
    """What makes a category of items sensitive: a word of the settings that it, or one it lies in, is called.

    None if nothing does, or if the settings give a reason to use it.

    Example:
        >>> features = config.Features(sensitive=("health",))
        >>> [sensitive_category(name, features) for name in ("Health", "Home > Health", "Health & Beauty")]
        ['health', 'health', None]
    """
    if settings.sensitive_reasons.get(category, "").strip():
        return None
    return _called(category, settings.sensitive)


@lru_cache(maxsize=4096)  # every decision about an offer or an item of a category asks
def _called(category: str, sensitive_words: tuple[str, ...]) -> str | None:
    names = {_words(name) for name in re.split(r"[>/]", category)}
    return next((word for word in sensitive_words if _words(word) in names), None)


def _attributes(users: ir.Table, at: Moment, settings: config.Features) -> Iterator[Feature]:
    tenure = at.days_since(users.created_at)
    yield Feature("tenure_days", "since signing up", "days", tenure, needs=("users.created_at",), steady=True)
    yield Feature(
        "channels_reachable",
        "channels on which the person can be reached",
        "channels",
        users.channels.length(),
        needs=("users.channels",),
    )
    for name in attributes(settings):
        value, needs = _plain(users, name), (f"users.{name}",)
        apart = name != "locale"  # which says again what the country does
        yield Feature(name, f"attribute {name!r}", "attribute", value, needs, steady=apart)


def _answers(events: ir.Table, answer: str) -> ir.Table:
    """One row per customer: their latest answer."""
    given = events.filter(events.event == "form_submitted").select(
        "user_id", "occurred_at", "event_id", answer=_plain(events, answer)
    )
    given = given.filter(~given.answer.isnull(), ~given.user_id.isnull())
    newest = ibis.window(group_by="user_id", order_by=[ibis.desc("occurred_at"), "event_id"])
    return given.mutate(rank=ibis.row_number().over(newest)).filter(lambda t: t["rank"] == 0)


def _plain(rows: ir.Table, name: str) -> ir.Value:
    """The column as float64 or string, the two kinds that a model takes; a column the shop did not bring is null."""
    if name not in rows.columns:
        return ibis.null("string")
    column = rows[name]
    if column.type().is_string():
        return column
    if column.type().is_numeric() or column.type().is_boolean():
        return column.cast("float64")
    raise WorkspaceError(
        f"features: {name!r} is of type {column.type()}; a feature is a number, a yes or no, or text. "
        f"Leave it out of [features], or bring it as one of these."
    )


def _refuse_sensitive(setting: str, names: tuple[str, ...], settings: config.Features) -> None:
    for name in names:
        if word := sensitive(name, settings):
            raise WorkspaceError(
                f"features.{setting}: {name!r} is sensitive ({word}). Leave it out, or say why it is needed: "
                f'[features.sensitive_reasons] {name} = "the reason".'
            )


@lru_cache(maxsize=4096)  # every row of users that the service is sent asks
def _words(name: str) -> str:
    """The words of a name between underscores, so that `age` is in `customerAge` and not in `language`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return "_" + re.sub(r"[\W_]+", "_", parted).strip("_").lower() + "_"
