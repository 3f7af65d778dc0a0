"""What fills a message that is due: its offer, its variants and its items, each by the engine's own part for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features import expressions
from models.stored import StoredPropensity
from serving.champions import PROPENSITY, SEND_TIME
from serving.contacting import Filled, Row
from serving.decisions.journeys import Due
from serving.decisions.rules import Person
from serving.schemas import Context, RankedItem, RecommendAsk, SendTime

if TYPE_CHECKING:
    from serving.engine import Engine


class Filling:
    """The parts of a message, from one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def probabilities(self, label: str, frame: pd.DataFrame) -> np.ndarray:
        """Of a propensity, float (n,); NaN outside of its population and without a model."""
        champion = self._engine.champions.current.get(f"{PROPENSITY}{label}")
        found = np.full(len(frame), math.nan)
        if champion is None or not isinstance(champion.model, StoredPropensity):
            return found
        population = self._engine.settings.propensity[label].population
        known = frame.notna().any(axis=1).to_numpy()
        inside = known & expressions.parse(population, place=f"propensity.{label}.population").mask(frame)
        if inside.any():
            found[inside] = champion.model.predict(frame[inside])
        return found

    def categories(self, item_ids: Sequence[str]) -> list[str | None]:
        """What each item is filed under."""
        return self._engine.view.catalogue.categories(item_ids)

    def hours(self, user_ids: Sequence[str], *, now: datetime) -> tuple[list[SendTime], list[Row]]:
        """When to write to each; and a row of `decisions` for each, or none at all."""
        return self._engine.send_times(user_ids, self._engine.champions.current.get(SEND_TIME), now=now)

    def fill(self, person: Person, due: Due, channel: str, *, now: datetime) -> Filled:  # noqa: ARG002
        """Decide the offer, the variants and the items of a step."""
        items, items_id, rows = self._items(person, due, now)
        return Filled(items=items, items_decision_id=items_id, decisions=rows)

    def again(self, person: Person, told: Mapping[str, Any]) -> Filled:  # noqa: ARG002
        """What was decided before, as `parts_of` kept it."""
        items = [RankedItem(**one, reason=None) for one in told["items"]]
        return Filled(items=items, items_decision_id=told["items_decision_id"])

    def _items(self, person: Person, due: Due, now: datetime) -> tuple[list[RankedItem], str | None, list[Row]]:
        """Those of the category that the journey is about, if it is about one; else what goes with its items."""
        step, beginning = due.step, due.beginning
        if not step.items:
            return [], None, []
        category = beginning.about if due.trigger.declared.same == "category" else None
        ask = RecommendAsk(
            user_id=person.user_id,
            placement=step.placement,
            k=step.items,
            context=Context(cart=list(beginning.items)),
            filter=None if category is None else f"category == {category!r}",
        )
        found = self._engine.recommend_to(person, ask, now=now)
        return found.items, found.decision["decision_id"], [dict(found.decision)]
