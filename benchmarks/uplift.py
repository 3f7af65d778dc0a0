"""Who should get which mail, beside causalml and scikit-uplift in one run: Qini out of fold, and what policies earn.

`python -m benchmarks uplift --data ../shared/data/hillstrom [--trials SEEDS]`, or any Parquet or CSV file with
`--treatment COL --control NAME --outcome COL... [--drop COL...]`. 5 folds, 5 seeds; learners and shrinkage are
chosen within the folds that are learnt from. Peers see the same folds (`benchmarks/peers/uplift.py`), the best of them
is to be picked with hindsight. Figures are means over the seeds; so are the ends of the intervals and the standard
errors, which are of people, not of seeds: the seeds share their people, so that this is on the safe side.

`qini_*`: area over the diagonal divided by the perfect curve's, of one arm and the control; people are ranked by the
place their score has in their fold (`evaluation.uplift.comparable`), the peers' too. `policy_*_gain`: what the policy
over all arms brings more per person than the best single arm for all, by paired doubly robust estimate.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.beside_peers import PYTHON, ROOT
from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from data.progress import timed, track
from evaluation.experiments.means import as_numbers
from evaluation.intervals import Interval
from evaluation.policies import PolicyGain
from evaluation.uplift import Area, comparable, contrast, qini
from features.rules import parse_rule
from models.columns import Columns
from models.uplift.model import MIN_ARM
from training.uplift import FOLDS, compare, cross_fit, experiment

SEEDS = 5
RESAMPLES = 500
LEAST_PEOPLE = 2 * MIN_ARM
"""Of an arm: folds and folds within them learn from fewer."""


@dataclass(frozen=True)
class Question:
    """What is asked of a table.

    Attributes:
        name: Of the metric.
        outcome: Column.
        arm: Held against the control; None = a policy over all arms.
    """

    name: str
    outcome: str
    arm: str | None


@dataclass(frozen=True)
class Asked:
    """A table, and what is asked of it."""

    table: pd.DataFrame
    treatment: str
    control: str
    before: tuple[str, ...]
    questions: tuple[Question, ...]
    rule: str | None = None


def run(
    *,
    data: Path | None,
    treatment: str | None = None,
    outcome: Sequence[str] | None = None,
    control: str | None = None,
    drop: Sequence[str] | None = None,
    trials: int | None = None,
) -> Result:
    """Learn, judge and compare."""
    if data is None:
        raise DataError("say --data ../shared/data/hillstrom, or a table with --treatment, --outcome and --control.")
    asked = _hillstrom(data) if data.is_dir() else _table(data, treatment, outcome or (), control, drop or ())
    metrics: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    peers: dict[str, object] = {}
    seeds = range(SEEDS if trials is None else trials)
    for question in asked.questions:
        if question.arm is None:
            gain = _policy(asked, question, seeds)
            metrics[question.name], intervals[question.name] = gain.estimate, gain
        else:
            found, beside = _ranking(asked, question, seeds)
            metrics[question.name], intervals[question.name] = found.estimate, found
            peers[question.name] = beside
    return Result(metrics, intervals, peers)


def _hillstrom(folder: Path) -> Asked:
    before = ("recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "channel")
    table = read_rows(folder / "customers.parquet", (*before, "segment", "visit", "conversion", "spend"))
    womens, mens = "Womens E-Mail", "Mens E-Mail"
    questions = (
        Question("qini_womens_visit", "visit", womens),
        Question("qini_mens_visit", "visit", mens),
        Question("qini_womens_conversion", "conversion", womens),
        Question("policy_visit_gain", "visit", None),
        Question("policy_spend_gain", "spend", None),
    )
    return Asked(table, "segment", "No E-Mail", before, questions, f"mens == 1 -> {mens} else {womens}")


def _table(
    file: Path, treatment: str | None, outcomes: Sequence[str], control: str | None, drop: Sequence[str]
) -> Asked:
    if treatment is None or not outcomes or control is None:
        raise DataError(f"{file}: say --treatment COL, --outcome COL and --control NAME.")
    table = read_rows(file, (treatment, *outcomes, *drop), typed=False)
    before = tuple(name for name in table if name not in (treatment, *outcomes, *drop))
    arms = sorted(set(table[treatment].dropna().astype(str)))
    if control not in arms:
        raise DataError(f"{treatment} has the arms {', '.join(arms)}; nobody is in {control!r}.")
    sizes = table[treatment].astype(str).value_counts()
    arms = [arm for arm in arms if sizes[arm] >= LEAST_PEOPLE or arm == control]
    if left_out := len(table) - int(sizes[arms].sum()):
        print(f"{left_out:,} people of no arm, or of one under {LEAST_PEOPLE}, are left out")
        table = table[table[treatment].astype(str).isin(arms)].reset_index(drop=True)
    arms.remove(control)
    questions: list[Question] = []
    for name in outcomes:
        table[name] = as_numbers(table[name], name=name)
        questions += [Question(f"qini_{_snake(arm)}_{_snake(name)}", name, arm) for arm in arms]
        questions.append(Question(f"policy_{_snake(name)}_gain", name, None))
    return Asked(table, treatment, control, before, tuple(questions))


def _ranking(asked: Asked, question: Question, seeds: range) -> tuple[Interval, dict[str, object]]:
    """Our Qini, and the peers' with how far they are ahead."""
    arms = asked.table[asked.treatment].astype(str)
    kept = asked.table[arms.isin([asked.control, question.arm])].reset_index(drop=True)
    of = experiment(
        kept[list(asked.before)],
        kept[asked.treatment],
        kept[question.outcome].to_numpy(np.float64),
        control=asked.control,
    )
    scored: list[np.ndarray] = []
    folds: dict[str, np.ndarray] = {}
    for seed in track(seeds, question.name):
        learnt = cross_fit(of, folds=FOLDS, seed=seed)
        scored.append(learnt.effects[:, 1])
        folds[f"seed_{seed}"] = learnt.fold
    people = contrast(of.logged, of.probabilities)

    def judged(name: str, scored: list[np.ndarray]) -> tuple[list[np.ndarray], Interval, str]:
        ranked = [comparable(scores, fold) for scores, fold in zip(scored, folds.values(), strict=True)]
        value = _over([qini(people, scores, resamples=RESAMPLES) for scores in ranked])
        as_scored = float(np.mean([qini(people, scores, resamples=2).value.estimate for scores in scored]))
        return ranked, value, f"  {name:30}{value!s:>28} ({as_scored:.4f})"

    ours, found, line = judged("attune", scored)
    print(f"{question.name}: {len(of.arm):,} people, {len(seeds)} seeds; in brackets: as scored, all folds in one")
    print(line)
    beside: dict[str, object] = {}
    for name, told in _peers(of.table, of.arm, of.outcome, pd.DataFrame(folds)).items():
        if any(np.isnan(scores).any() for scores in told):
            print(f"  {name:30}{'failed':>28}")
            continue
        theirs, value, line = judged(name, told)
        pairs = [
            qini(people, mine, against=other, resamples=RESAMPLES) for mine, other in zip(ours, theirs, strict=True)
        ]
        ahead, error = _over(pairs), float(np.mean([pair.standard_error for pair in pairs]))
        numbers = {"qini": value.estimate, "attune_ahead": ahead.estimate, "standard_error": error}
        beside[name] = {what: round(number, 5) for what, number in numbers.items()}
        print(f"{line}   attune ahead by {ahead.estimate:+.4f} +- {error:.4f}, paired")
    return found, beside


def _policy(asked: Asked, question: Question, seeds: range) -> Interval:
    """The model's policy over the best single arm for all."""
    of = experiment(
        asked.table[list(asked.before)],
        asked.table[asked.treatment],
        asked.table[question.outcome].to_numpy(np.float64),
        control=asked.control,
    )
    rule = parse_rule(asked.rule) if asked.rule else None
    gains: dict[str, list[PolicyGain]] = {}
    values: dict[str, list[Interval]] = {}
    for seed in track(seeds, question.name):
        found = compare(cross_fit(of, seed=seed), rule=rule)
        for gain in found.gains:
            gains.setdefault(gain.against, []).append(gain)
        for row in found.rows:
            values.setdefault(row.name, []).append(row.value)
    print(f"{question.name}: {len(of.arm):,} people, {len(seeds)} seeds; {question.outcome} per person")
    means = {name: _mean(parts) for name, parts in values.items()}
    for name, value in means.items():
        told = "" if name == "model" else f"   model ahead by {_mean([g.gain for g in gains[name]])}, paired"
        print(f"  {name:44}{value!s:>28}{told}")
    single = [name for name in means if name.endswith(" to all")]
    best = max(single, key=lambda name: means[name].estimate)
    ahead = _mean([part.gain for part in gains[best]])
    verdict = "is ahead of" if ahead.low > 0 else "is behind" if ahead.high < 0 else "is not shown to differ from"
    print(f"  the policy {verdict} {best!r}")
    return ahead


def _peers(
    table: pd.DataFrame, arm: np.ndarray, outcome: np.ndarray, folds: pd.DataFrame
) -> dict[str, list[np.ndarray]]:
    """Scores by peer, one for each seed, of columns as ours are read; none where they are not set up."""
    if not PYTHON.exists():
        print("  no peers: run `make bench-setup` first")
        return {}
    with tempfile.TemporaryDirectory() as name, timed("peers"):
        folder = Path(name)
        rows = Columns.learn(table)(table).add_prefix("x_").assign(treated=arm, outcome=outcome)
        rows.to_parquet(folder / "rows.parquet")
        folds.to_parquet(folder / "folds.parquet")
        ran = subprocess.run(
            [PYTHON, ROOT / "benchmarks" / "peers" / "uplift.py", folder], check=False, capture_output=True, text=True
        )
        if ran.returncode:
            print(f"  the peers failed: {(ran.stderr.strip().splitlines() or ['no word'])[-1]}")
            return {}
        print(ran.stdout, end="")
        scores = pd.read_parquet(folder / "scores.parquet")
    found: dict[str, list[np.ndarray]] = {}
    for column in scores:
        found.setdefault(str(column).partition("|")[0], []).append(scores[column].to_numpy())
    return found


def _over(areas: Sequence[Area]) -> Interval:
    return _mean([area.value for area in areas])


def _mean(intervals: Sequence[Interval]) -> Interval:
    """Of the estimates, and of the ends."""
    estimate, low, high = np.array([(part.estimate, part.low, part.high) for part in intervals]).mean(axis=0).tolist()
    return Interval(estimate, low, high, intervals[0].level)


def _snake(name: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
