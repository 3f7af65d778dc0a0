"""Where a person's own answers to offers lie in a table of features: written by `features`, read by `models`.

Features have no blanks in their names, but for attributes that a shop calls so.
"""

from __future__ import annotations


def told_column(offer: str) -> str:
    """How often they were told of the offer by message.

    Example:
        >>> told_column("gift"), answered_column("gift")
        ('told of gift', 'ordered over gift')
    """
    return f"told of {offer}"


def answered_column(offer: str) -> str:
    """How many of these messages they ordered over."""
    return f"ordered over {offer}"
