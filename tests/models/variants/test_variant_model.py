"""The variants' model: words for what is new, evidence for what is old, chances that are what they say."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from scipy.special import expit

from data.errors import DataError, ModelFileError
from models.variants import Context, Evidence, Variant, VariantModel, shown
from models.variants.belief import Belief, Rows

TONES = ("warm", "loud")


def campaigns(n: int, *, seed: int = 0) -> tuple[list[Variant], Evidence]:
    """Campaigns of two variants; warm ones are clicked by half as much again, each a bit more or less of its own."""
    rng = np.random.default_rng(seed)
    variants, counts = [], {}
    for campaign in range(n):
        level = -3 + 0.5 * rng.standard_normal()
        for tone in TONES:
            name = f"{campaign}-{tone}"
            text = f"{'Quiet' if tone == 'warm' else 'Hurry'} {rng.choice(['tea', 'cups', 'pots'])}"
            variants.append(Variant(name, "headline", f"c{campaign}", text, json.dumps({"tone": tone})))
            rate = expit(level + (0.4 if tone == "warm" else 0) + 0.15 * rng.standard_normal())
            counts[name] = (2000.0, float(rng.binomial(2000, rate)))
    return variants, Evidence.of_counts(counts)


NEW = [
    Variant("new warm", "headline", "next", "Quiet tea", '{"tone": "warm"}'),
    Variant("new loud", "headline", "next", "Hurry tea", '{"tone": "loud"}'),
]


@pytest.fixture(scope="module")
def model() -> VariantModel:
    variants, evidence = campaigns(60)
    return VariantModel().fit(variants, evidence, keep=())


def test_a_new_variant_starts_from_what_its_words_and_attributes_suggest(model: VariantModel) -> None:
    assert model.draws(model.scores("headline", NEW)).best(())[0] > 0.8
    nothing_told = [Variant("x", "headline", "next"), Variant("y", "headline", "next")]
    assert model.draws(model.scores("headline", nothing_told)).best(())[0] == pytest.approx(0.5, abs=0.1)


def test_evidence_about_the_variant_itself_wins_in_time(model: VariantModel) -> None:
    scores = model.scores("headline", NEW)
    against = {"new warm": (20_000.0, 600.0), "new loud": (20_000.0, 900.0)}
    draws = model.draws(model.told(scores, Evidence.of_counts(against)))
    assert draws.best(())[1] > 0.99
    assert draws.enough()
    unknown = [Variant("x", "headline", "next"), Variant("y", "headline", "next")]
    assert not model.draws(model.scores("headline", unknown)).enough()


def test_what_fades_is_less_certain(model: VariantModel) -> None:
    sure, faded = (model.draws(model.scores("headline", NEW, faded=share)).best(())[0] for share in (1.0, 0.02))
    assert 0.5 < faded < sure


def test_what_is_gone_leaves_its_words_and_nothing_else(model: VariantModel) -> None:
    names = model.beliefs["headline"].names
    assert not [name for name in names if name.split("\t")[0] in {"own", "campaign", "suits"}]


def test_parts_one_after_the_other_come_to_what_all_at_once_does(monkeypatch: pytest.MonkeyPatch) -> None:
    variants, evidence = campaigns(40)
    whole = VariantModel().fit(variants, evidence, keep=())
    monkeypatch.setattr("models.variants.model.MAX_OWN", 30)
    parts = VariantModel().fit(variants, evidence, keep=())
    chances = [model.draws(model.scores("headline", NEW)).best(())[0] for model in (whole, parts)]
    assert abs(chances[0] - chances[1]) < 0.1


def test_what_suits_whom_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    n = 8000
    people = pd.DataFrame({"country": rng.choice(["DE", "AT"], n)})
    context = Context.learn(people)
    which = rng.integers(0, 2, n)
    suits = (people["country"].to_numpy() == "DE") == (which == 0)
    yes = rng.random(n) < np.where(suits, 0.2, 0.08)
    ids = np.array(["a", "b"], dtype=object)[which]
    variants = [Variant("a", "hero"), Variant("b", "hero")]
    evidence = Evidence(ids, context.codes(people), np.ones(n), yes.astype(float))
    model = VariantModel().fit(variants, evidence, context=context)
    draws = model.draws(model.scores("hero", variants))
    german, austrian = (draws.best(context.code_of({"country": country})) for country in ("DE", "AT"))
    assert german[0] > 0.95
    assert austrian[1] > 0.95
    both = draws.best_of_many(context.codes(pd.DataFrame({"country": ["DE", "AT", "DE"]})))
    assert np.array_equal(both, [german, austrian, german])


def test_money_is_learnt_too() -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.array(["a", "b"], dtype=object), 3000)
    money = rng.exponential(np.where(ids == "a", 10, 12))
    variants = [Variant("a", "hero"), Variant("b", "hero")]
    evidence = Evidence(ids, np.empty((6000, 0), dtype=np.int64), np.ones(6000), money)
    model = VariantModel(family="linear").fit(variants, evidence)
    scores = model.scores("hero", variants)
    assert model.draws(scores).best(())[1] > 0.99
    assert model.expected(scores, np.empty((1, 0), dtype=np.int64))[0] == pytest.approx([10, 12], abs=0.6)


def test_hardly_any_reward_is_refused() -> None:
    with pytest.raises(DataError, match="at least 5 are needed"):
        VariantModel().fit([Variant("a", "hero")], Evidence.of_counts({"a": (100.0, 2.0)}))


def test_save_and_load_change_nothing_and_hold_nobody(model: VariantModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = VariantModel.load(tmp_path / "model")
    rows = pd.DataFrame([{"slot": v.slot, "variant_id": v.variant_id, "text": v.text} for v in NEW])
    assert np.array_equal(model.predict(rows), again.predict(rows))
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"model.json", "beliefs.npz"}
    (tmp_path / "model" / "model.json").write_text("{}")
    with pytest.raises(ModelFileError):
        VariantModel.load(tmp_path / "model")


@pytest.mark.parametrize("family", ["linear", "logistic"])
def test_a_belief_is_the_posterior(family: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    reward = rng.standard_normal(40) if family == "linear" else rng.integers(0, 6, 40).astype(float)
    rows = Rows(sparse.csr_matrix(X), np.full(40, 0.3), np.full(40, 5.0), reward)
    prior = Belief.before(("a", "b", "c"), np.array([1.0, 0.5, 2.0]))
    found = prior.told(rows, family=family, noise=2.0)  # type: ignore[arg-type]
    p = expit(X @ found.mean + 0.3)
    w = np.full(40, 5 / 2.0) if family == "linear" else 5 * p * (1 - p)
    assert np.allclose(np.linalg.inv(found.covariance), X.T @ (w[:, None] * X) + np.diag([1.0, 2.0, 0.5]), atol=1e-6)
    eta = X @ found.mean + 0.3
    slope = (reward - 5 * eta) / 2.0 if family == "linear" else reward - 5 * expit(eta)
    assert np.allclose(X.T @ slope, np.array([1.0, 2.0, 0.5]) * found.mean, atol=1e-5)


def test_evidence_in_two_batches_of_a_linear_belief_is_evidence_at_once() -> None:
    rng = np.random.default_rng(1)
    X, reward = sparse.csr_matrix(rng.standard_normal((30, 2))), rng.standard_normal(30)
    prior = Belief.before(("a", "b"), np.ones(2))

    def rows(kept: slice) -> Rows:
        return Rows(X[kept], np.zeros(30)[kept], np.ones(30)[kept], reward[kept])

    once = prior.told(rows(slice(None)), family="linear")
    twice = prior.told(rows(slice(0, 10)), family="linear").told(rows(slice(10, None)), family="linear")
    assert np.allclose(once.mean, twice.mean)
    assert np.allclose(once.covariance, twice.covariance)
    assert np.allclose(once.faded(0.0, np.ones(2)).covariance, np.eye(2))


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(0.001, 1)),
    st.floats(0, 0.49),
)
def test_chances_sum_to_one_and_keep_to_the_floor(weights: np.ndarray, floor: float) -> None:
    found = shown(weights / weights.sum(), floor=floor)
    assert found.sum() == pytest.approx(1)
    assert (found >= min(floor, 1 / len(found)) - 1e-12).all()


def test_a_choice_among_ten_takes_well_under_a_third_of_a_millisecond(model: VariantModel) -> None:
    many = [Variant(f"v{i}", "headline", "next", f"Quiet tea {i}") for i in range(10)]
    draws = model.draws(model.scores("headline", many))
    least = min(_seconds(lambda: shown(draws.best(()), floor=0.01)) for _ in range(50))
    assert least < 0.3e-3


def _seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_contexts_are_read_alike_one_by_one_and_all_at_once() -> None:
    people = pd.DataFrame({"orders": [0.0, 5.0, np.nan, 9.0, 1.0], "country": ["DE", None, "AT", "FR", "DE"]})
    context = Context.learn(pd.concat([people] * 5))
    codes = context.codes(people)
    one_by_one = [list(context.code_of(row)) for row in people.to_dict("records")]
    assert [[code for code in row if code >= 0] for row in codes.tolist()] == one_by_one
    assert Context.from_json(json.loads(json.dumps(context.to_json()))) == context
