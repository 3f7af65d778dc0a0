"""Experiments: from a table of people and arms to checks, effects with intervals, and a verdict in words."""

from evaluation.experiments.analysis import Analysis, Comparison, Experiment, Metric, analyse, read_experiment
from evaluation.experiments.checks import Balance, Check
from evaluation.experiments.means import Difference, difference_adjusted, difference_of_means, difference_of_ratios
from evaluation.experiments.periods import Period, over_time
from evaluation.experiments.planning import Nothing, Plan, aa_simulation, detectable, plan
from evaluation.experiments.segments import SegmentEffect, Segments, segment_effects, shrink
from evaluation.experiments.sequential import AlwaysValid, always_valid
from evaluation.experiments.verdict import Verdict, decide

__all__ = [
    "AlwaysValid",
    "Analysis",
    "Balance",
    "Check",
    "Comparison",
    "Difference",
    "Experiment",
    "Metric",
    "Nothing",
    "Period",
    "Plan",
    "SegmentEffect",
    "Segments",
    "Verdict",
    "aa_simulation",
    "always_valid",
    "analyse",
    "decide",
    "detectable",
    "difference_adjusted",
    "difference_of_means",
    "difference_of_ratios",
    "over_time",
    "plan",
    "read_experiment",
    "segment_effects",
    "shrink",
]
