"""What a variant is, and what its words and attributes say, hashed: so that a new one does not start from nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from data.merge_fields import FIELD

WORDS, ATTRIBUTES = 256, 64
"""Places that words and attributes are hashed to."""
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[?!:]")
LONG_WORDS = 4
"""Texts are told apart by their number of words, in steps of so many."""


@dataclass(frozen=True)
class Variant:
    """One wording or picture for a slot.

    Attributes:
        variant_id: Its id.
        slot: What it competes for.
        campaign_id: Of which campaign; "" = of none.
        text: Its words.
        attributes: A JSON object, or "".
    """

    variant_id: str
    slot: str
    campaign_id: str = ""
    text: str = ""
    attributes: str = ""

    @property
    def told(self) -> dict[str, Any] | None:
        """The attributes by name; None of what is no JSON object, or could not be written as one again.

        Example:
            >>> Variant("a", "hero", attributes='{"tone": "warm"}').told, Variant("a", "hero", attributes="warm").told
            ({'tone': 'warm'}, None)
        """
        try:
            found = json.loads(self.attributes or "{}")
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair can be read, and not be sent
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def hashed(variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    """What is known of a variant: its words, (WORDS,), and its attributes, (ATTRIBUTES,), each of length 1, or 0.

    Each word and attribute adds 1 or -1 at its own place (the hashing trick: Weinberger et al. 2009), so that two that
    meet at a place do not add up on average. The text's length counts as a word, and so does that it has merge fields.

    Example:
        >>> words, attributes = hashed(Variant("a", "headline", text="New! New tea", attributes='{"tone": "warm"}'))
        >>> round(float(words @ words), 6), int(abs(attributes).sum())
        (1.0, 1)
    """
    plain, fields = FIELD.subn(" ", variant.text)
    words = {word.lower() for word in WORD.findall(plain)} | ({"{field}"} if fields else set())
    if words:
        words.add(f"{{words}}={len(WORD.findall(plain)) // LONG_WORDS}")
    return _hashed(words, WORDS), _hashed(_told(variant), ATTRIBUTES)


def _told(variant: Variant) -> set[str]:
    """`name=value` of each attribute; of text that is no JSON object, the text."""
    found = variant.told
    if found is None:
        return {variant.attributes}
    return {f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in found.items()}


def _hashed(words: Iterable[str], places: int) -> np.ndarray:
    found = np.zeros(places)
    for word in words:
        code = crc32(word.encode("utf-8", "replace"))
        found[code % places] += 1 if code & 0x8000_0000 else -1
    length = float(np.linalg.norm(found))
    return found / length if length else found
