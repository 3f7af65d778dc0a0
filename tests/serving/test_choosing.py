"""What is recommended, beside the same said the long way: everything scored, sorted and gone through one by one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest

from data.histories import Histories, Step
from data.interactions import Interactions
from data.settings import Placement
from data.state.reads import Watermarks
from data.vocabulary import Vocabulary
from models.recommenders import MODELS
from models.recommenders.popularity import Popularity
from serving.catalogue import COLUMNS, Catalogue
from serving.champions import Champion
from serving.decisions.ranking import category_limit
from serving.past import Past
from serving.placements import Placements
from serving.recommending import SPARE, VERBS, View, recommend, steps_of
from serving.schemas import RecommendAsk

N_USERS, N_ITEMS, N_NEW = 60, 900, 5
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLACEMENTS = {
    "default": Placement(),
    "home": Placement(filter="price < 90", diversity=0.5),
    "wide": Placement(diversity=1.0),
    "one": Placement(filter="category == 'c3'", diversity=0.9),
    "narrow": Placement(filter="price > 99.5", exclude_seen=False),
    "curious": Placement(explore=0.5, explore_among=7, diversity=0.3),
    "nothing": Placement(filter="price < 0"),
}


@pytest.fixture(scope="module", params=["als", "item_neighbours"])
def view(request):
    """A shop whose people like what is near in number; of its items the last few are not known to the past."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 15)
    item = (user * 14 + rng.exponential(40, len(user)).astype(int)) % N_ITEMS
    frame = pd.DataFrame({"user_id": user.astype(str), "item_id": item.astype(str)})
    frame["kind"] = rng.choice(["product_viewed", "order"], len(frame))
    frame["at"] = int(NOW.timestamp()) - rng.integers(0, 90 * 86_400, len(frame))
    frame["weight"] = rng.choice([1.0, 3.0], len(frame))
    known = Interactions.from_frame(frame, items=Vocabulary(map(str, range(N_ITEMS))))
    rows = pd.DataFrame(columns=COLUMNS, index=range(N_ITEMS + N_NEW))
    rows["item_id"] = rows["name"] = list(map(str, range(N_ITEMS + N_NEW)))
    rows["category"] = [f"c{number}" for number in rng.integers(0, 6, len(rows))]
    rows["price"] = rng.random(len(rows)) * 100
    rows["available"] = rng.random(len(rows)) < 0.9
    rows["created_at"] = NOW
    past = Past(
        users=known.users,
        items=known.items,
        histories=Histories.from_interactions(known),
        popular=Popularity().fit(known, item_groups=[f"category={name}" for name in rows["category"][:N_ITEMS]]),
        complements=None,
        until=Watermarks(),
    )
    model = MODELS[request.param]().fit(known)
    return View(Champion("recommender", 1, model), past, Catalogue(Vocabulary(rows["item_id"]), rows))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_short_way_says_what_the_long_way_says(view, placement):
    rng = np.random.default_rng(len(placement))
    placed = Placements(PLACEMENTS)[placement]
    for number in range(6):
        viewing, *excluded = map(str, rng.integers(0, N_ITEMS + N_NEW, 4))
        user = str(rng.integers(0, N_USERS)) if number % 4 else None
        ask = RecommendAsk(
            user_id=user,
            k=[1, 10, 60][number % 3],
            placement=placement,
            context={"viewing": viewing} if number % 2 else {"cart": [viewing]},
            exclude=excluded,
        )
        steps = steps_of(ask.context, [], {"product_viewed": 1.0, "product_added": 2.0}, NOW)
        found = recommend(view, ask, placed, steps, now=NOW, rng=partial(np.random.default_rng, number))
        expected = the_long_way(view, ask, placed, steps, rng=np.random.default_rng(number))
        told = [(item.item_id, item.source) for item in found.items]
        assert told == [(item_id, source) for item_id, source, *_ in expected]
        for item, (_, _, reasons, _, _) in zip(found.items, expected, strict=True):
            assert item.reason in reasons
        assert [item.score for item in found.items] == pytest.approx([score for *_, score, _ in expected], rel=1e-4)
        assert found.probability == pytest.approx([probability for *_, probability in expected])
        assert (found.note is None) == bool(expected)


def the_long_way(view, ask, placed, steps, *, rng):
    """(id, source, possible reasons, score, probability) of each place."""
    model, catalogue, rules = view.model, view.catalogue, placed.rules
    of = catalogue.rows.set_index("item_id")
    before = view.past.of_user(ask.user_id) if ask.user_id else None
    did = [] if before is None else [
        Step(view.past.items.ids([item])[0], float(weight), int(at), before.kinds[kind])
        for item, weight, at, kind in zip(before.item, before.weight, before.at, before.kind, strict=True)
    ]  # fmt: skip
    did += steps
    left_out = {*ask.exclude, *ask.context.cart, ask.context.viewing}
    if rules.exclude_seen is not False:
        left_out |= {step.item_id for step in did}

    def history(without=None):
        return Histories.of_steps(model.items, [[step for step in did if step.item_id != without]])

    def ranked(source, scores):
        best = sorted((-score, code) for code, score in enumerate(scores) if score > -np.inf)
        return [(model.items.ids([code])[0], source, -score) for score, code in best]

    known = {step.item_id for step in did if step.item_id in model.items}
    whole = np.nan_to_num(model._score(history(), None)[0], neginf=0.0)
    falls = {id_: whole - np.nan_to_num(model._score(history(id_), None)[0], neginf=0.0) for id_ in known}

    def reasons(item_id, source):
        """More than one where steps hold it up as much as each other, but for rounding."""
        own = of.category[item_id]
        if source == "new":
            return {f"new in {own}"}
        if source == "popularity":
            return {f"popular in {own}" if own == of.category[looked_at] else "popular right now"}
        code = model.items.code(item_id)
        fall = {id_: by_code[code] for id_, by_code in falls.items()}
        near = 1e-4 * max(1, abs(whole[code]))
        strongest = {id_ for id_, value in fall.items() if value > max(fall.values()) - near}
        most = [max((s for s in did if s.item_id == id_), key=lambda step: step.weight) for id_ in strongest]
        told = {VERBS[step.kind].format(step.item_id) for step in most}
        return told if max(fall.values()) > near else told | {None}

    looked_at = ask.context.viewing or ask.context.cart[0]
    popular = view.past.popular
    stranger = popular._score(Histories.of_steps(popular.items, [[]]), [(f"category={of.category[looked_at]}",)])[0]
    new = [(str(N_ITEMS + number), "new", 0.0) for number in range(N_NEW)]
    may = of.available & (True if placed.only is None else placed.only.mask(catalogue.rows))
    candidates = {}
    for item_id, source, score in [
        *ranked(model.name, model.scores(history())[0]),
        *ranked("popularity", stranger),
        *new,
    ]:
        if may[item_id] and item_id not in left_out:
            candidates.setdefault(item_id, (source, score))
    size = ask.k if placed.plain else ask.k + max(SPARE, rules.explore_among)
    left, shown, count = list(candidates)[:size], [], Counter()
    while left and len(shown) < ask.k:
        limit = category_limit(len(shown) + 1, rules.diversity)
        window = [item_id for item_id in left if count[of.category[item_id]] < limit] or left
        window = window[: rules.explore_among if rules.explore else 1]
        drawn = int(rng.integers(len(window))) if rules.explore and rng.random() < rules.explore else 0
        chance = rules.explore / len(window) + (0 if drawn else 1 - rules.explore)
        item_id = window[drawn]
        source, score = candidates[item_id]
        shown.append((item_id, "explore" if drawn else source, reasons(item_id, source), score, chance))
        count[of.category[item_id]] += 1
        left.remove(item_id)
    return shown
