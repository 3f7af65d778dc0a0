"""Items by arm: models decide, chance does, or everybody gets the same; and nothing personal against a person's no."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from serving.decisions.arms import Arm
from serving.decisions.rules import Consent, Person
from serving.schemas import RecommendAsk

NOW = datetime.now(UTC)
REFUSED = {"personalisation": Consent(granted=False, at=NOW)}


def recommended(shared, arm, *, consents=(), **ask):
    person = Person("u1", arm=Arm(arm, 0.1), consents=dict(consents))
    return shared.engine.recommend_to(person, RecommendAsk(user_id="u1", **ask), now=NOW)


def ids(found):
    return [item.item_id for item in found.items]


@pytest.mark.parametrize(("arm", "consents"), [("holdout", {}), ("usual", {}), ("model", REFUSED), ("random", REFUSED)])
def test_where_nothing_personal_is_done_everybody_gets_the_same(shared, arm, consents):
    found = recommended(shared, arm, consents=consents, k=5)
    stranger = shared.engine.recommend(RecommendAsk(k=5))
    assert ids(found) == ids(stranger)
    assert {item.source for item in found.items} == {"popularity"}
    assert found.model_version == "popularity"
    assert not found.degraded, "it is so on purpose"
    assert (found.decision["arm"], found.decision["arm_share"]) == (arm, 0.1)
    assert found.decision["probability"] == [1.0] * 5


def test_the_cart_and_the_page_count_for_everybody_too(shared):
    found = recommended(shared, "holdout", k=5, placement="cart", context={"viewing": "i30", "cart": ["i31"]})
    assert not {"i30", "i31"} & set(ids(found))
    assert {item.reason for item in found.items} == {"popular in cups"}


def test_chance_draws_evenly_from_the_best_with_the_chances_that_it_logs(shared):
    drawn = [recommended(shared, "random", k=2, placement="curious") for _ in range(600)]
    model = ids(recommended(shared, "model", k=10))
    first = Counter(ids(found)[0] for found in drawn)
    assert set(first) <= set(model), "explore_among = 10"
    assert all(25 <= first[item] <= 100 for item in model), first  # of 60; more than 4.7 standard deviations aside
    assert {tuple(found.decision["probability"]) for found in drawn} == {(0.1, 0.1)}
    assert {found.decision["arm"] for found in drawn} == {"random"}


def test_a_request_that_names_nobody_is_in_no_drawn_arm(shared):
    decision = shared.engine.recommend(RecommendAsk(k=1)).decision
    assert (decision["arm"], decision["arm_share"]) == ("model", 1.0)
