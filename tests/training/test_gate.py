"""The gate: who passes, who does not, and that it says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluation.intervals import Interval
from registry.versions import Version
from training.gate import SUSPECTED_LEAK, decide
from training.pages import page
from training.results import Comparison, Judged


def interval(estimate: float, half: float = 0.01) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, 0.95)


def judged(
    name: str,
    *,
    gain: float | None = None,
    recipe: str = "",
    error: float = 0.02,
    size: int = 100,
    baseline: bool = False,
) -> Judged:
    return Judged(
        name=name,
        recipe=recipe or name,
        is_baseline=baseline,
        metrics={"roc_auc": interval(0.7), "calibration_error": interval(error)},
        gain=None if gain is None else interval(gain),
        size_bytes=size,
    )


def comparison(*rows: Judged, best: float = 0.1, floor: float = 0.2) -> Comparison:
    baselines = (judged("base rate", gain=floor, baseline=True), judged("rfm", gain=best, baseline=True))
    values = (0.5, 0.71)
    ranked = tuple(
        Judged(**{**vars_of(row), "metrics": {"roc_auc": interval(value)}})
        for row, value in zip(baselines, values, strict=True)
    )
    return Comparison("propensity-churn", "roc_auc", 100, (*rows, *ranked))


def vars_of(row: Judged) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def version(**tags: str) -> Version:
    return Version("propensity-churn", 2, "run", ("challenger",), tags)


@pytest.mark.parametrize(
    ("champion", "size", "passes", "why"),
    [
        (judged("champion 1", gain=0.05), 200, True, "better than champion 1"),
        (judged("champion 1", gain=-0.05), 50, False, "worse than champion 1"),
        (judged("champion 1", gain=0.0), 50, True, "lighter"),
        (judged("champion 1", gain=0.0), 200, False, "the champion stays"),
        (
            judged("champion 1", gain=0.0, recipe="challenger 2"),
            200,
            True,
            "the same recipe as champion 1 on newer data",
        ),
    ],
)
def test_a_challenger_must_be_better_or_equal_and_cheaper(champion: Judged, size: int, passes: bool, why: str) -> None:
    verdict = decide(version(), comparison(judged("challenger 2", size=size), champion))
    assert verdict.passed is passes
    assert why in str(verdict)


@pytest.mark.parametrize(("gain", "passes"), [(0.0, True), (-0.005, True), (-0.05, False)])
def test_a_champion_that_makes_way_stays_only_where_it_is_surely_better(gain: float, passes: bool) -> None:
    found = comparison(judged("challenger 2", size=200), judged("champion 1", gain=gain, recipe="rfm"))
    assert not decide(version(), found).passed
    verdict = decide(version(), replace(found, yielding=("rfm",)))
    assert verdict.passed is passes
    assert ("champion 1, rfm, makes way: it is not surely better" in str(verdict)) is passes
    few = replace(found.rows[1], gain=Interval.around(0.3))
    unknown = replace(found, rows=(found.rows[0], few, *found.rows[2:]), yielding=("rfm",))
    assert not decide(version(), unknown).passed


@pytest.mark.parametrize(
    ("best", "floor", "passes", "why"),
    [
        (0.05, 0.2, True, "better than the best baseline, rfm"),
        (0.0, 0.2, False, "does not beat the best baseline, rfm"),
        (-0.05, 0.2, False, "does not beat the best baseline, rfm"),
    ],
)
def test_a_first_champion_must_hold_its_own_against_the_baselines(
    best: float, floor: float, passes: bool, why: str
) -> None:
    verdict = decide(version(), comparison(judged("challenger 1"), best=best, floor=floor))
    assert verdict.passed is passes
    assert why in str(verdict)


def test_a_lighter_model_of_which_it_is_not_known_whether_it_is_worse_stays_out() -> None:
    champion = replace(judged("champion 1", gain=0.0, size=200), gain=Interval.around(-0.3))
    verdict = decide(version(), comparison(judged("challenger 2", size=50), champion))
    assert not verdict.passed
    assert "cannot be told whether it is worse than champion 1 (-0.3000 [not known])" in str(verdict)
    again = decide(version(), comparison(judged("challenger 2", recipe="champion 1"), champion))
    assert again.passed
    assert "not known to be worse" in str(again)


def test_a_gain_without_an_interval_is_told_as_unknown() -> None:
    few = comparison(judged("challenger 1"), best=0.3)
    rows = tuple(
        replace(row, metrics={"roc_auc": row.metrics["roc_auc"]}, gain=row.gain and Interval.around(0.3))
        for row in few.rows
    )
    few = replace(few, rows=rows, notes=("judged on 4 people",))
    verdict = decide(version(), few)
    assert not verdict.passed
    assert verdict.reasons == ("it cannot be told whether it beats rfm: judged on 4 people",)
    assert "challenger 1 cannot be told from rfm" in page(few)


def test_the_best_baseline_may_itself_be_the_first_champion() -> None:
    rfm = judged("challenger 1", recipe="rfm", baseline=True)
    assert decide(version(), comparison(rfm, best=0.0)).passed


@pytest.mark.parametrize(("best", "passes"), [(-0.005, True), (-0.05, False)])
def test_a_baseline_goes_live_unless_another_is_surely_better(best: float, passes: bool) -> None:
    verdict = decide(version(), comparison(judged("challenger 1", recipe="recency", baseline=True), best=best))
    assert verdict.passed is passes
    assert ("recency, a plain rule: no other is surely better" in str(verdict)) is passes


def test_the_same_recipe_on_the_same_data_is_not_called_newer() -> None:
    again = comparison(judged("challenger 2"), judged("champion 1", gain=0.0, recipe="challenger 2"))
    verdict = decide(version(), again, same_data=True)
    assert verdict.passed
    assert "the same recipe as champion 1 on the same data" in str(verdict)


def test_a_leak_bad_calibration_and_wrong_examples_each_stop_a_better_model() -> None:
    better = comparison(judged("challenger 2"), judged("champion 1", gain=0.05))
    assert decide(version(), better).passed
    leak = decide(version(**{SUSPECTED_LEAK: "ROC AUC is 0.99"}), better)
    assert (leak.passed, "Find that feature" in str(leak)) == (False, True)
    broken = decide(version(), better, broken="the model does not answer its stored examples")
    assert (broken.passed, "stored examples" in str(broken)) == (False, True)
    off = decide(version(), comparison(judged("challenger 2", error=0.2), judged("champion 1", gain=0.05)))
    assert (off.passed, "probabilities are off by 0.2000" in str(off)) == (False, True)


def test_what_chance_makes_of_the_few_who_are_judged_is_no_bad_calibration() -> None:
    few = comparison(judged("challenger 2", error=0.2), judged("champion 1", gain=0.05))
    assert decide(version(), replace(few, calibration_noise=0.17)).passed
    still = decide(version(), replace(few, calibration_noise=0.05))
    assert not still.passed
    assert "(of which so few people make about 0.050)" in str(still)
