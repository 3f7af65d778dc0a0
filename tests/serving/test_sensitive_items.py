"""A category that is called sensitive: nothing is chosen by it, no reason tells of it, nobody gets it unasked."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from data.settings import Features, Placement
from serving.catalogue import Catalogue
from serving.placements import Placements
from serving.recommending import recommend, steps_of
from serving.schemas import RecommendAsk

NOW = datetime.now(UTC)
CUPS = range(20, 40)
"""Items of category `cups`; the others are of `tea`."""


@pytest.fixture
def view(shared):
    """The shop's, were cups a sensitive matter."""
    whole = shared.engine.view
    catalogue = Catalogue(whole.catalogue.items, whole.catalogue.rows, features=Features(sensitive=("cups",)))
    return replace(whole, catalogue=catalogue)


def shown(view, *, user="u1", placement="default", **ask):
    found = RecommendAsk(user_id=user, k=10, placement=placement, **ask)
    placed = Placements({"cart": Placement(kind="complements")})[placement]
    steps = steps_of(found.context, [], {"product_viewed": 1.0, "product_added": 3.0}, NOW)
    ranked = recommend(view, found, placed, steps, now=NOW, rng=np.random.default_rng)
    return [int(item.item_id[1:]) for item in ranked.items], [item.reason for item in ranked.items]


def test_it_is_not_shown_unasked_and_is_no_reason(shared, view):
    ids, _ = shown(shared.engine.view)
    assert set(ids) & set(CUPS), "u1 touches cups"
    ids, reasons = shown(view)
    assert len(ids) == 10
    assert not set(ids) & set(CUPS)
    assert set(reasons) == {"popular right now"}, "nothing of what u1 did is told or used"


def test_who_looks_for_it_gets_it(view):
    ids, reasons = shown(view, context={"viewing": "i25"})
    assert set(ids) & set(CUPS)
    assert not any("cups" in reason or "Item 2" in reason or "Item 3" in reason for reason in reasons)
    ids, _ = shown(view, filter="category == 'cups'")
    assert set(ids) <= set(CUPS)


def test_what_goes_with_it_is_not_told(shared, view):
    ids, reasons = shown(shared.engine.view, placement="cart", context={"cart": ["i30"]})
    assert ids[0] == 5
    assert reasons[0] == "often bought with Item 30"
    _, reasons = shown(view, placement="cart", context={"cart": ["i30"]})
    assert not any(reason.startswith("often bought") for reason in reasons)


def test_a_reason_of_the_shop_allows_it(shared, view):
    features = Features(sensitive=("cups",), sensitive_reasons={"cups": "we sell nothing else"})
    rows = view.catalogue.rows
    allowed = replace(view, catalogue=Catalogue(view.catalogue.items, rows, features=features))
    assert shown(allowed) == shown(shared.engine.view)
