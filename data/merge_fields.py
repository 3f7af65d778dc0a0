"""Merge fields in texts: `{user.first_name|there}` is the person's own value, or the fallback where there is none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from html import escape
from typing import Any, Literal
from unicodedata import category

from data.contract import TABLES

FIELD = re.compile(r"\{([^{}|]*)(?:\|([^{}]*))?\}")
"""A field: its name, and what stands there for who has no value."""
NAME = re.compile(r"user\.([A-Za-z_][A-Za-z0-9_]{0,62})")
TRAITS = ("first_name", "last_name", "name", "title", "company", "city")
"""What shops often know of a person beside the contract's columns (traits of the Segment spec)."""
JOINERS = "\u200c\u200d"
"""Between letters of Persian or Sinhala names, and within emojis: without them these are others."""
MAX_VALUE = 200
"""Characters; a longer value is no name or place, and gives way to the fallback."""

Format = Literal["text", "html"]


def known_columns(brought: Collection[str]) -> frozenset[str]:
    """What a field may name: columns of `users` that the shop brought, those of the contract, and usual traits.

    Example:
        >>> sorted(known_columns(["user_id", "shoe_size"]))[-3:]
        ['timezone', 'title', 'updated_at']
    """
    return frozenset((*brought, *TABLES["users"].by_name, *TRAITS)) - {"user_id"}


def wrong_with(text: str, *, columns: Collection[str]) -> str | None:
    """What is wrong with the fields of a text; None if nothing is.

    Args:
        text: Of a variant.
        columns: That a field may name, see `known_columns`.

    Example:
        >>> wrong_with("Hello {user.name|there}", columns=["name"]) is None
        True
        >>> wrong_with("Hello {user.name}", columns=["name"])
        'the merge field {user.name} has no fallback; write {user.name|FALLBACK}'
    """
    for field in FIELD.finditer(text):
        name, fallback = field.groups()
        if not (fallback or "").strip():
            return f"the merge field {{{name}}} has no fallback; write {{{name}|FALLBACK}}"
        column = NAME.fullmatch(name.strip())
        if column is None or column[1] not in columns:
            return f"{name.strip()!r} is nothing that can be merged in; name a column of users, such as user.country"
    return None


def filled(text: str, user: Mapping[str, Any], *, format: Format = "text") -> str:  # noqa: A002 - the route's word
    """The text with its fields filled: only values and fallbacks are escaped, the text itself is the shop's own.

    A value that is missing, empty, longer than 200 characters or no text, number or truth gives way to the fallback;
    control characters and line breaks in it become spaces, so that nobody's name adds a line to a mail's head, and
    what turns the direction of writing goes.

    Args:
        text: Of a variant.
        user: The person's row, column -> value; empty for a stranger.
        format: `html` escapes what is filled in (& < > " and '), `text` leaves it.

    Example:
        >>> filled("Hello {user.name|there}", {"name": "<b>Ann"}, format="html"), filled("Hello {user.name|there}", {})
        ('Hello &lt;b&gt;Ann', 'Hello there')
    """

    def value(field: re.Match[str]) -> str:
        column = NAME.fullmatch(field[1].strip())
        found = _shown(user.get(column[1])) if column else ""
        told = found or (field[2] or "").strip()
        return escape(told) if format == "html" else told

    return FIELD.sub(value, text)


def _shown(value: Any) -> str:
    if isinstance(value, float) and (value != value or value.is_integer()):  # noqa: PLR0124 - NaN
        value = "" if value != value else int(value)  # noqa: PLR0124
    if not isinstance(value, str | int | float):
        return ""
    plain = " ".join("".join(map(_plain, str(value))).split()).strip(JOINERS)
    return plain if len(plain) <= MAX_VALUE else ""


def _plain(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    return "" if category(character) == "Cf" else " "
