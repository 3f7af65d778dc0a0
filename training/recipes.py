"""How recommenders are made: the recipe, the honest baselines, and the card that tells of a version how it was made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from data.interactions import Interactions
from models.recommenders import MODELS, Recommender
from training.cards import reading_card, write_card


@dataclass(frozen=True)
class Recipe:
    """How a recommender is made: everything but the data and the seed.

    Attributes:
        model: A name in `MODELS`.
        params: Its hyperparameters, but the seed.
        exclude_seen: Whether what somebody had before is left out of what they are shown.
    """

    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    exclude_seen: bool = False

    def __str__(self) -> str:
        return ", ".join([_told(self.model, self.params), *(["new items only"] if self.exclude_seen else [])])

    @property
    def fit_key(self) -> str:
        """Recipes of one key learn the same and differ only in what they show."""
        return json.dumps([self.model, self.params], sort_keys=True)

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of the honest baselines."""
        return self.model in {"popularity", "repeat"}

    def fit(
        self, known: Interactions, seed: int, *, minutes: float | None = None, checkpoint: Path | None = None
    ) -> Recommender:
        """The model, learnt from what was known.

        Args:
            known: To learn from.
            seed: Of everything that is drawn.
            minutes: The most that learning may take, for models that can stop at any time.
            checkpoint: A file to go on from, for models that write one.
        """
        kind = MODELS[self.model]
        taken = inspect.signature(kind).parameters
        told = {name: value for name, value in (("seed", seed), ("minutes", minutes)) if name in taken}
        return kind(**{**told, **self.params}).fit(known, checkpoint=checkpoint)


BASELINES = (Recipe("popularity"), Recipe("popularity", exclude_seen=True), Recipe("repeat"))
"""What knowing little gives, and what whoever repeats themselves gets: every model is held against them."""


@dataclass(frozen=True)
class Card:
    """What a recommender's version says of itself, `card.json` in its folder. Serving reads `exclude_seen` from it.

    Attributes:
        recipe: How it was made.
        seed: Of the fit.
        fitted_until: Just after the last row that it learnt from.
    """

    recipe: Recipe
    seed: int
    fitted_until: datetime

    def save(self, folder: Path) -> None:
        """Write it, flat."""
        write_card(folder, {**asdict(self.recipe), "seed": self.seed, "fitted_until": self.fitted_until})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelFileError: it is missing or damaged.
        """
        with reading_card(folder, retrain="recommender") as values:
            seed, fitted_until = values.pop("seed"), values.pop("fitted_until")
            return cls(Recipe(**values), seed, fitted_until)


@cache
def code_hash() -> str:
    """Of the code that makes and judges models: with other code the same recipe may be another model."""
    rooms = Path(__file__).parents[1]
    digest = blake2b(digest_size=16)
    for room in ("models", "evaluation", "training"):
        for file in sorted((rooms / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _told(model: str, params: Mapping[str, Any]) -> str:
    """A model in words; one that is made of others with theirs."""
    return ", ".join([model, *(f"{name}={_value(value)}" for name, value in params.items())])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{'; '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return _told(value["model"], value.get("params", {}))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
