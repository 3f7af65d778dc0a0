"""What fills a message that is due: its offer, its variants and its items, each by the engine's own part for it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.errors import DataError, WorkspaceError
from data.state.schema import tables as state_tables
from data.state.writes import add
from models.stored import StoredPropensity
from serving.champions import PROPENSITY, SEND_TIME
from serving.contacting import Filled, Row
from serving.decisions.journeys import Due
from serving.decisions.rules import Person
from serving.decisions.triggers import BEST, NONE
from serving.schemas import (
    MAX_FILTER,
    ActionItem,
    ActionOffer,
    ActionVariant,
    Context,
    OffersAsk,
    RecommendAsk,
    SendTime,
    VariantsAsk,
)

if TYPE_CHECKING:
    from serving.engine import Engine
    from serving.offered import Offered

PLACEMENT = "action"
"""Where offers of actions are shown, as their decisions call it."""


Slots = tuple[list[ActionVariant], list[Row]]
"""What stands in the slots, and the decisions about it."""


@dataclass(frozen=True)
class Fresh(Filled):
    """A message that was just decided about.

    Attributes:
        offered: About its offer, before it was taken; None = without one.
        vary: The variants that go with an offer, or with `none`.
        varied: Those that go with its offer.
        ranked: The decisions about its items.
    """

    offered: Offered | None = None
    vary: Callable[[str], Slots] = lambda _: ([], [])
    varied: Slots = ([], [])
    ranked: Sequence[Row] = ()

    def store(self, connection: sa.Connection) -> Filled:
        """Take the offer, and store the parts' decisions. Variants go with the offer that is given in the end."""
        offer = None if self.offered is None else _offer(self.offered.store(connection))
        variants, rows = self.varied
        if offer != self.offer:
            ids = {row["slot"]: row["decision_id"] for row in rows}  # as the action's decision keeps them
            again, rows = self.vary(_id(offer))
            variants = [one.model_copy(update={"decision_id": ids[one.slot]}) for one in again if one.slot in ids]
            rows = [row | {"decision_id": ids[row["slot"]]} for row in rows if row["slot"] in ids]
        add(connection, "decisions", [*rows, *self.ranked])
        return replace(self, offer=offer, variants=variants)


class Filling:
    """The parts of a message, from one engine; the shop's own ids may be longer than those of requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def probabilities(self, label: str, frame: pd.DataFrame) -> np.ndarray:
        """Of a propensity, float (n,); NaN outside of its population, and where no model can be asked."""
        champion = self._engine.champions.current.get(f"{PROPENSITY}{label}")
        found = np.full(len(frame), math.nan)
        if champion is None or not isinstance(champion.model, StoredPropensity):
            return found
        known = frame.notna().any(axis=1).to_numpy()
        with suppress(DataError, WorkspaceError):  # `/v1/score` tells of it
            inside = known & self._engine.population(label).mask(frame)
            if inside.any():
                found[inside] = champion.model.predict(frame[inside])
        return found

    def categories(self, item_ids: Sequence[str]) -> list[str | None]:
        """What each item is filed under."""
        return self._engine.view.catalogue.categories(item_ids)

    def hours(self, user_ids: Sequence[str], *, now: datetime) -> tuple[list[SendTime], list[Row]]:
        """When to write to each; and a row of `decisions` for each, or none at all."""
        return self._engine.send_times(user_ids, self._engine.champions.current.get(SEND_TIME), now=now)

    def fill(self, person: Person, due: Due, channel: str, *, now: datetime, at: datetime) -> Filled:
        """Decide the offer, the variants and the items of a step that is sent at a moment; nothing is stored."""
        offered = self._offered(person, due, channel, now=now, at=at)
        offer = None if offered is None else _offer(offered)
        vary = partial(self._variants, person, due, channel, now=now, at=at)
        varied = vary(_id(offer))
        items, ranked = self._items(person, due, channel, now)
        decided = {
            "offer": None if offered is None else offered.decision_id,
            "variants": [row["decision_id"] for row in varied[1]],
            "items": ranked[0]["decision_id"] if ranked else None,
        }
        return Fresh(offer, varied[0], items, decided, offered=offered, vary=vary, varied=varied, ranked=ranked)

    def again(self, person: Person, decided: Mapping[str, Any], *, now: datetime, at: datetime) -> Filled:
        """What was decided before, by the ids that the action's decision kept."""
        table = state_tables["decisions"].c
        ids = [id_ for id_ in (decided["offer"], *decided["variants"], decided["items"]) if id_]
        with self._engine.state.reading() as connection:
            query = sa.select(table.decision_id, table.slot, table.chosen, table.context).where(
                table.decision_id.in_(ids)
            )
            rows = {row.decision_id: row for row in connection.execute(query)} if ids else {}
        offers, items = (rows[id_].chosen if id_ in rows else [] for id_ in (decided["offer"], decided["items"]))
        variants = [
            ActionVariant(
                slot=row.slot, variant_id=row.chosen[0], text=self._text(person, row, now, at), decision_id=id_
            )
            for id_ in decided["variants"]
            if (row := rows.get(id_)) is not None
        ]
        offer = next((self._named(one, decided["offer"]) for one in offers if one != NONE), None)
        return Filled(offer, variants, self._shown(items), decided)

    def _offered(self, person: Person, due: Due, channel: str, *, now: datetime, at: datetime) -> Offered | None:
        policy = due.step.offer
        if policy == NONE:
            return None
        named = None if policy == BEST else [policy]
        ask = OffersAsk.model_construct(user_id=person.user_id, placement=PLACEMENT, channel=channel, offers=named)
        return self._engine.offering.decide(person, ask, now=now, at=at)

    def _variants(self, person: Person, due: Due, channel: str, offer_id: str, *, now: datetime, at: datetime) -> Slots:
        """One for each slot that has a candidate, the trigger being the campaign."""
        campaign, varying = due.trigger.name, self._engine.varying
        about: Row = {"user_id": person.user_id, "campaign_id": campaign, "channel": channel, "offer_id": offer_id}
        variants, rows = [], []
        for slot in varying.slots_of(campaign) if due.step.slots is None else due.step.slots:
            found = varying.decide(person, VariantsAsk.model_construct(**about, slot=slot, k=1), now=now, at=at)
            if found.decision is not None:
                [shown], row = found.items, dict(found.decision)
                told = {"slot": slot, "variant_id": shown.variant_id, "text": shown.text}
                variants.append(ActionVariant(**told, decision_id=row["decision_id"]))
                rows.append(row)
        return variants, rows

    def _text(self, person: Person, row: Any, now: datetime, at: datetime) -> str | None:
        """What a variant that was chosen before says now; None if it is no longer there."""
        told = json.loads(row.context)
        ask = VariantsAsk.model_construct(
            user_id=person.user_id,
            slot=row.slot,
            campaign_id=told.get("campaign_id"),
            channel=told.get("channel"),
            variants=row.chosen,
            k=1,
        )
        return next((one.text for one in self._engine.varying.decide(person, ask, now=now, at=at).items), None)

    def _items(self, person: Person, due: Due, channel: str, now: datetime) -> tuple[list[ActionItem], list[Row]]:
        """Those of the category that the journey is about, if it is about one; with what began it as the cart."""
        step, beginning = due.step, due.beginning
        if not step.items:
            return [], []
        category = beginning.about if due.trigger.declared.same == "category" else None
        only = None if category is None else f"category == {category!r}"
        if only is not None and len(only) > MAX_FILTER:
            return [], []  # no name of a category: nobody could ask for its items
        ask = RecommendAsk(
            user_id=person.user_id,
            placement=step.placement,
            k=min(step.items, self._engine.settings.serving.max_k),
            context=Context.model_construct(cart=list(beginning.items)),
            filter=only,
        )
        found = self._engine.recommend_to(person, ask, now=now, channel=channel)
        return self._shown([item.item_id for item in found.items]), [dict(found.decision)]

    def _shown(self, item_ids: Sequence[str]) -> list[ActionItem]:
        name = self._engine.view.catalogue.name
        return [ActionItem(item_id=item_id, name=name(item_id)) for item_id in item_ids]

    def _named(self, offer_id: str, decision_id: str | None) -> ActionOffer:
        offer = self._engine.offering.offers.get(offer_id)
        return ActionOffer(offer_id=offer_id, name=offer and offer.name, decision_id=decision_id)


def _id(offer: ActionOffer | None) -> str:
    return NONE if offer is None else offer.offer_id


def _offer(offered: Offered) -> ActionOffer | None:
    """The offer of a decision; None where none is best."""
    for one in offered.items[:1]:
        return ActionOffer(offer_id=one.offer_id, name=one.name, decision_id=offered.decision_id)
    return None
