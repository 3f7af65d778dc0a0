"""Nothing must be found where nothing is, and no effect read from people who were chosen: verdicts on real tables.

- A random experiment (Hillstrom's folder, or any table with `--treatment` and `--outcome`): the arms are shuffled over
  the people, and the control group is split at random, again and again, and each is analysed as an experiment would be,
  its checks, segments and corrections included. `false_verdicts` is the share of all that said "act" or "do not",
  `false_findings` of those in which any metric was found to differ, `false_segments` any segment, `refused` the share
  that the checks stopped. The real assignment is analysed once and its verdict printed. All columns that are not said
  to be arm or outcome count as known before, unless `--before` names those that are.
- Campaigns that were targeted (Complete Journey's folder): `refused` is the share of them whose verdict the checks
  replaced; campaigns that reached fewer than 100 households are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from data.progress import track
from evaluation.experiments import Analysis, Experiment, Metric, analyse, read_experiment
from evaluation.experiments.analysis import CONTROLS
from evaluation.intervals import wilson

DRAWS = 300
"""Of each kind."""
REACHED = 100
HILLSTROM, COMPLETE_JOURNEY = "customers.parquet", "household_campaign_spend.parquet"
TARGETED = ("CAMPAIGN", "household_key", "Exposed", "Pre_Spend", "Post_Spend")


@dataclass(frozen=True)
class Asked:
    """A table and how to read it.

    Attributes:
        rows: A row per person.
        treatment: Column of arms.
        control: Name of the control; None = to be recognised.
        outcomes: Columns, the first decides.
        before: Columns known before.
        segments: Those of them with few values.
    """

    rows: pd.DataFrame
    treatment: str
    control: str | None
    outcomes: tuple[str, ...]
    before: tuple[str, ...]
    segments: tuple[str, ...]


def run(
    *,
    data: Path | None,
    size: str | None = None,
    treatment: str | None = None,
    outcome: Sequence[str] | None = None,
    before: Sequence[str] | None = None,
    control: str | None = None,
) -> Result:
    """Analyse experiments without an effect; `size` is how many of each kind, by default 300.

    Raises:
        DataError: no data, or of another layout.
    """
    if data is None or not data.exists() or (size is not None and not size.isdigit()):
        raise DataError(f"{data}: say --data FOLDER such as ../shared/data/hillstrom, or a FILE with --treatment COL.")
    if (data / COMPLETE_JOURNEY).is_file():
        return _targeted(read_rows(data / COMPLETE_JOURNEY, TARGETED))
    asked = _asked(data, treatment, outcome, before, control)
    metrics = [Metric(name) for name in asked.outcomes]
    experiment = _read(asked, asked.rows)
    as_it_was = analyse(experiment, metrics).verdict
    print(f"as it was: {as_it_was.sentence}")
    rng = np.random.default_rng(0)
    held_out = experiment.rows[experiment.arm == 0]
    found: dict[str, list[Analysis]] = {"shuffled": [], "control split": []}
    for _ in track(range(int(size or DRAWS)), "analysing experiments without an effect"):
        shuffled = experiment.rows.assign(**{asked.treatment: rng.permutation(experiment.rows[asked.treatment])})
        found["shuffled"].append(analyse(_read(asked, shuffled), metrics))
        halves = np.where(rng.permutation(len(held_out)) < len(held_out) / 2, experiment.arms[0], "treated")
        split = held_out.assign(**{asked.treatment: halves})
        found["control split"].append(analyse(_read(asked, split), metrics))
    for kind, analyses in found.items():
        print(kind, {name: sum(map(counted, analyses)) for name, counted in COUNTED.items()}, "of", len(analyses))
    every = [analysis for analyses in found.values() for analysis in analyses]
    intervals = {name: wilson(sum(map(counted, every)), len(every)) for name, counted in COUNTED.items()}
    real = {"refused_as_it_was": float(as_it_was.kind == "not to be trusted")}
    return Result(
        metrics={name: interval.estimate for name, interval in intervals.items()} | real,
        intervals=intervals,
        peers={"as it was": as_it_was.kind, "limit": {"false_verdicts": 0.06}},
    )


COUNTED = {
    "false_verdicts": lambda a: a.verdict.decided,
    "false_findings": lambda a: any(comparison.found for comparison in a.comparisons),
    "false_segments": lambda a: any(effect.found for found in a.segments.values() for effect in found.effects),
    "refused": lambda a: a.verdict.kind == "not to be trusted",
}


def _targeted(rows: pd.DataFrame) -> Result:
    refused = []
    for campaign, reached in rows.groupby("CAMPAIGN"):
        if reached["Exposed"].sum() < REACHED:
            continue
        experiment = read_experiment(reached, treatment="Exposed", user="household_key", before=["Pre_Spend"])
        verdict = analyse(experiment, [Metric("Post_Spend", before=("Pre_Spend",))]).verdict
        refused.append(verdict.kind == "not to be trusted")
        print(f"campaign {campaign}: {verdict.sentence}")
    share = wilson(sum(refused), len(refused))
    return Result(metrics={"refused": share.estimate}, intervals={"refused": share}, peers={"limit": {"refused": 1.0}})


def _read(asked: Asked, rows: pd.DataFrame) -> Experiment:
    return read_experiment(
        rows, treatment=asked.treatment, control=asked.control, before=asked.before, segments=asked.segments
    )


def _asked(
    data: Path,
    treatment: str | None,
    outcome: Sequence[str] | None,
    before: Sequence[str] | None,
    control: str | None,
) -> Asked:
    file = data / HILLSTROM if data.is_dir() else data
    if not file.is_file():
        raise DataError(f"{data} holds neither {HILLSTROM} nor {COMPLETE_JOURNEY}; name a FILE, and its --treatment.")
    rows = read_rows(file)
    if treatment is None and {"segment", "visit", "conversion", "spend"} <= set(rows):
        treatment, outcome = "segment", ("visit", "conversion", "spend")
    if treatment is None or not outcome:
        raise DataError(f"{file} is no such table as Hillstrom's: say its --treatment COL and --outcome COL.")
    known = tuple(before) if before is not None else tuple(c for c in rows if c not in (treatment, *outcome))
    few = tuple(column for column in known if column in rows and 1 < rows[column].nunique() <= 20)
    return Asked(rows, treatment, control or _control(rows, treatment), tuple(outcome), known, few)


def _control(rows: pd.DataFrame, treatment: str) -> str | None:
    """Where no arm has the name of a control any will do, for arms are shuffled: the first; else None."""
    named = rows[treatment] if treatment in rows else pd.Series([], dtype=object)
    names = sorted({str(name).strip().removesuffix(".0") for name in named.dropna()})
    if not names or any(name.lower() in CONTROLS for name in names):
        return None
    print(f"{treatment} has the arms {', '.join(names)}: {names[0]} is taken for the control (--control says another)")
    return names[0]
