"""A version's `card.json`: how it was made and until when, beside the model's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from data.errors import ModelFileError

CARD = "card.json"
FITTED_UNTIL = "fitted_until"
"""In every card: just after the last moment that the version learnt from."""


@dataclass(frozen=True)
class Card:
    """What a version says of itself; each kind of model has its own, named like its training.

    Attributes:
        seed: Of the fit.
        fitted_until: Just after the last moment that it learnt from.
        horizon_days: How far it looks, or over how many days it was judged; it is stale once older than a few of them.
    """

    retrain: ClassVar[str]
    seed: int
    fitted_until: datetime
    horizon_days: int

    def save(self, folder: Path) -> None:
        """Write it."""
        write_card(folder, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        with reading_card(folder, retrain=cls.retrain) as values:
            told: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
            return cls(**told)


def write_card(folder: Path, values: Mapping[str, Any]) -> None:
    """Write a card: JSON values, and times, which become ISO 8601."""
    (folder / CARD).write_text(json.dumps(values, indent=1, default=datetime.isoformat), encoding="utf-8")


@contextmanager
def reading_card(folder: Path, *, retrain: str) -> Iterator[dict[str, Any]]:
    """What `write_card` was told, `fitted_until` a time again; in the block the card is made from it.

    Args:
        folder: The version's.
        retrain: What `attune train` is to train where the card is damaged.

    Raises:
        ModelFileError: it is missing or damaged, or the block finds that a value is missing or wrong.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_card(Path(folder), {"seed": 1, "fitted_until": datetime(2026, 1, 31)})
        ...     with reading_card(Path(folder), retrain="value") as values:
        ...         print(values["seed"], values["fitted_until"])
        1 2026-01-31 00:00:00
    """
    try:
        values: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        yield {**values, FITTED_UNTIL: datetime.fromisoformat(values[FITTED_UNTIL])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{folder / CARD} cannot be read: {error}. Train anew with `attune train {retrain}`."
        ) from error
