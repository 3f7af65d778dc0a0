"""What goes with a cart: bought together beyond popularity, and the reason is the item that moves the score most."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.interactions import Interactions
from data.settings import Recommender
from data.tables import Tables
from serving.complements import KEPT, MAX_BASKET, PRIOR_BASKETS, Complements
from serving.past import Past

DAY = 86_400


def bought(baskets):
    """One person a basket."""
    rows = [(f"u{n}", item) for n, basket in enumerate(baskets) for item in basket]
    return Interactions.from_frame(pd.DataFrame(rows, columns=["user_id", "item_id"]).assign(kind="order"))


def scores(complements, cart):
    items, values, _ = complements.of_cart(cart)
    return dict(zip(complements.items.ids(items), values.tolist(), strict=True))


def test_the_strength_is_the_shrunk_logarithm_of_the_lift():
    baskets = [("pasta", "sauce", "milk")] * 30 + [("pasta", "milk")] * 10 + [("milk",)] * 160
    found = scores(Complements.of(bought(baskets)), ["pasta"])
    expected = 40 * 30 / 200
    assert found == {"sauce": pytest.approx(np.log((30 + PRIOR_BASKETS) / (expected + PRIOR_BASKETS)), rel=1e-6)}
    # Milk is in every basket: it goes with everything, and so with nothing in particular.


def test_a_pair_that_was_seen_once_counts_little():
    often = [("tea", "pot")] * 50 + [("cup",)] * 500
    found = scores(Complements.of(bought([*often, ("tea", "hat")])), ["tea"])
    assert found["hat"] < 0.1
    assert found["pot"] > 1


def test_what_one_person_bought_on_one_day_is_one_basket():
    frame = pd.DataFrame({
        "user_id": ["a", "a", "a", "b"],
        "item_id": ["tea", "pot", "hat", "cup"],
        "at": [0, DAY - 1, DAY, 0],
        "kind": "order",
    })  # fmt: skip
    found = Complements.of(Interactions.from_frame(frame))
    assert set(scores(found, ["tea"])) == {"pot"}


def test_only_purchases_count_and_giant_baskets_do_not():
    looked = pd.DataFrame({"user_id": "a", "item_id": ["tea", "pot"], "kind": "product_viewed"})
    assert scores(Complements.of(Interactions.from_frame(looked)), ["tea"]) == {}
    giant = [[f"i{n}" for n in range(MAX_BASKET + 1)]]
    assert scores(Complements.of(bought(giant)), ["i0"]) == {}


def test_memory_is_bounded_by_what_is_kept_of_each_item():
    rng = np.random.default_rng(0)
    baskets = [[f"i{n}" for n in rng.choice(400, 60, replace=False)] for _ in range(200)]
    assert np.diff(Complements.of(bought(baskets)).strength.indptr).max() == KEPT


items = st.sampled_from([f"i{n}" for n in range(12)])


@settings(max_examples=40, deadline=None)
@given(
    baskets=st.lists(st.lists(items, min_size=1, max_size=5, unique=True), min_size=5, max_size=60),
    cart=st.lists(items, max_size=4),
)
def test_nothing_in_the_cart_and_the_reason_is_what_moves_the_score_most(baskets, cart):
    found = Complements.of(bought(baskets))
    codes, values, because = found.of_cart(cart)
    ids = found.items.ids(codes)
    assert not set(ids) & set(cart)
    assert (values > 0).all()
    assert (np.diff(values) <= 0).all()
    fallen = {item: scores(found, [other for other in cart if other != item]) for item in set(cart)}
    for id_, value, reason in zip(ids, values, found.items.ids(because), strict=True):
        drop = {item: value - left.get(id_, 0.0) for item, left in fallen.items()}
        assert drop[reason] == pytest.approx(max(drop.values()), abs=1e-6)
        assert drop[reason] > 0


def test_guests_orders_count():
    orders = pd.DataFrame({
        "order_id": [f"o{n}" for n in range(40) for _ in range(2)],
        "line_id": [str(n) for _ in range(40) for n in range(2)],
        "user_id": pd.Series([None] * 80, dtype="str"),
        "item_id": ["tea", "pot"] * 20 + ["cup", "mug"] * 20,
        "quantity": 1.0,
        "occurred_at": pd.Timestamp("2026-01-01", tz="UTC"),
    })  # fmt: skip
    past = Past.of(Tables.from_frames(orders=orders), Recommender())
    assert set(scores(past.complements, ["tea"])) == {"pot"}
    assert past.of_user("guest:o1") is None  # a guest's order is nobody's history
    assert past.popular is not None
