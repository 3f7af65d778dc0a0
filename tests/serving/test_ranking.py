"""The rules of a placement hold for any candidates, and what is drawn is drawn as often as logged."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.settings import Placement
from serving.decisions.ranking import arrange, category_limit, freshened, promoted_places

shares = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))
counts = st.integers(1, 30)
rules_ = st.builds(Placement, diversity=shares, promoted_share=shares, explore=shares, explore_among=st.integers(2, 10))
categories = st.lists(st.sampled_from(["tea", "cups", "pots", None]), min_size=1, max_size=40)


def placed(category, rules, k, *, promoted=(), seed=0):
    order = [c for c in range(len(category)) if c not in promoted or c % 2]
    rng = partial(np.random.default_rng, seed)
    return arrange(order, rules, k=k, category=category.__getitem__, promoted=promoted, rng=rng), order


@settings(max_examples=50, deadline=None)
@given(category=categories, k=counts, rules=rules_, seed=st.integers(0, 2**31))
def test_never_more_than_k_none_twice_and_the_same_seed_gives_the_same(category, k, rules, seed):
    promoted = list(range(0, len(category), 3))
    places, order = placed(category, rules, k, promoted=promoted, seed=seed)
    shown = [place.item_id for place in places]
    assert len(shown) <= k
    assert len(shown) == len(set(shown))
    assert set(shown) <= {*order, *promoted}
    assert all(0 < place.probability <= 1 for place in places)
    again, _ = placed(category, rules, k, promoted=promoted, seed=seed)
    assert again == places


@settings(max_examples=30, deadline=None)
@given(category=categories, k=counts)
def test_without_rules_the_order_stays_and_nothing_was_left_to_chance(category, k):
    places, order = placed(category, Placement(), k)
    assert [place.item_id for place in places] == order[:k]
    assert {place.probability for place in places} <= {1.0}
    assert {place.how for place in places} <= {"ranked"}


@settings(max_examples=50, deadline=None)
@given(category=categories, k=counts, diversity=shares, explore=shares)
def test_no_category_is_over_its_limit_while_another_may_stand_there(category, k, diversity, explore):
    places, order = placed(category, Placement(diversity=diversity, explore=explore), k)
    shown = [place.item_id for place in places]
    for n, candidate in enumerate(shown, 1):
        before = Counter(category[other] for other in shown[: n - 1])
        limit = category_limit(n, diversity)
        over = {name for name, count in before.items() if name is not None and count >= limit}
        if category[candidate] in over:
            assert {category[other] for other in set(order) - set(shown[: n - 1])} <= over


@settings(max_examples=50, deadline=None)
@given(k=counts, share=shares, enough=st.booleans())
def test_the_promoted_share_is_exact_for_every_beginning_of_the_list(k, share, enough):
    promoted = list(range(100, 100 + (k if enough else 1)))
    rules = Placement(promoted_share=share)
    places = arrange(range(k), rules, k=k, category=lambda _: None, promoted=promoted, rng=np.random.default_rng)
    assert len(places) == k
    for n in range(1, k + 1):
        wanted = int(np.floor(round(share * n, 9)))
        assert sum(place.how == "promoted" for place in places[:n]) == min(wanted, len(promoted))
    assert all(place.probability == 1 for place in places)


def test_seven_tenths_of_ten_are_seven():
    assert sum(promoted_places(10, 0.7)) == 7
    assert category_limit(10, 0.3) == 7


@settings(max_examples=50, deadline=None)
@given(age=st.lists(st.floats(-100, 1e6) | st.just(float("nan")), max_size=30), freshness=st.floats(0, 1e6))
def test_freshness_only_reorders_and_lifts_by_age(age, freshness):
    age = np.array(age, dtype=float)
    order = freshened(age, freshness=freshness, half_life_days=14)
    assert sorted(order.tolist()) == list(range(len(age)))
    if freshness == 0 or np.isnan(age).all():
        assert order.tolist() == list(range(len(age)))


def test_a_brand_new_item_stands_at_its_rank_divided_by_one_plus_freshness():
    age = np.full(20, 1e9)
    age[8] = 0  # at rank 9, and at freshness 2 as if at 3, where the one that is there stays before it
    assert freshened(age, freshness=2, half_life_days=14).tolist().index(8) == 3
    age[8] = 14  # half the lift: 9 / 2
    assert freshened(age, freshness=2, half_life_days=14).tolist().index(8) == 4


DRAWS = 100_000


def test_the_logged_chances_are_the_observed_frequencies():
    rules = Placement(explore=0.3, explore_among=3, diversity=0.5, promoted_share=0.25)
    category = ["tea", "tea", "cups", "pots", None, "tea"]
    rng = np.random.default_rng(7)
    seen, logged = Counter(), {}
    for _ in range(DRAWS):
        places = arrange(range(5), rules, k=4, category=category.__getitem__, promoted=[5], rng=lambda: rng)
        before = ()
        for place in places:
            key = (before, place.item_id)
            seen[key] += 1
            assert logged.setdefault(key, place.probability) == place.probability
            before += (place.item_id,)
    times = Counter()
    for (before, _), count in seen.items():
        times[before] += count
    assert len(seen) > 30
    for (before, candidate), count in seen.items():
        p, n = logged[before, candidate], times[before]
        # Five standard errors: over some hundred chances a false alarm is one in ten thousand.
        assert abs(count / n - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-12, (before, candidate, count / n, p)
    for before in {before for before, _ in seen if times[before] > 1000}:
        chances = sum(p for (place, _), p in logged.items() if place == before)
        assert chances == pytest.approx(1)
