"""A recommender for who decides: what it shows to whom, whether that is better than the baselines, and examples.

`RecommenderReport` holds every number; `write` makes a page of it or its JSON twin. Items and people are named by their
ids alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation.charts import Bar, interval_chart
from evaluation.intervals import Interval
from evaluation.pages import render, write_report

TEMPLATE = Path(__file__).with_name("recommender_report.html.jinja")


@dataclass(frozen=True, slots=True)
class Ranker:
    """One model on the judged people, with all of them on the same.

    Attributes:
        name: The version, or the baseline.
        recipe: How it was made.
        is_baseline: Whether it is one of the honest baselines.
        measures: As `evaluation.ranking` has them, of people who were no strangers; coverage has no interval.
        gain: What the first model gains over it in NDCG, paired; None of the first.
    """

    name: str
    recipe: str
    is_baseline: bool
    measures: Mapping[str, Interval]
    gain: Interval | None


@dataclass(frozen=True, slots=True)
class People:
    """Some of the people, by how much was known of them.

    Attributes:
        name: In words.
        people: How many.
        ours: NDCG of the first model.
        theirs: Of the best baseline.
        gain: The difference, paired.
    """

    name: str
    people: int
    ours: Interval
    theirs: Interval
    gain: Interval


@dataclass(frozen=True, slots=True)
class Shares:
    """Of one kind of items, which share of places and of what was taken it has.

    Attributes:
        name: Of the kind.
        items: Share of the catalogue.
        shown: By the first model.
        baseline: By the best baseline.
        taken: Of what people took afterwards.
    """

    name: str
    items: float
    shown: float
    baseline: float
    taken: float


@dataclass(frozen=True, slots=True)
class Shown:
    """One item of an example.

    Attributes:
        item: Its id.
        because: The item of the history without which it would stand furthest down; empty where there is none.
        taken: Whether the person took it afterwards.
    """

    item: str
    because: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Example:
    """What one person would have been shown.

    Attributes:
        user: Their id.
        had: The last items that they had, the newest first.
        shown: The list, the best first.
        took: How many items they took afterwards.
    """

    user: str
    had: tuple[str, ...]
    shown: tuple[Shown, ...]
    took: int


@dataclass(frozen=True)
class RecommenderReport:
    """Everything on the page.

    Attributes:
        about: What the people were judged on.
        at: The day they were judged at.
        k: Places of a list.
        people: Judged, strangers left out.
        strangers: Of whom nothing was known.
        items: In the catalogue.
        new_items: That nobody had before.
        rankers: The model first, then the baselines.
        groups: By how much was known of people.
        popularity: Items by how many people had them.
        categories: The largest ones; none where the shop tells no categories.
        examples: Drawn at random.
        names: What their items are called, by id; none where the shop tells no names.
        notes: What a reader must know.
    """

    about: str
    at: str
    k: int
    people: int
    strangers: int
    items: int
    new_items: int
    rankers: tuple[Ranker, ...]
    groups: tuple[People, ...]
    popularity: tuple[Shares, ...]
    categories: tuple[Shares, ...]
    examples: tuple[Example, ...]
    names: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def best_baseline(self) -> Ranker:
        """The one with the highest NDCG, beside the first model."""
        return best_baseline(self.rankers)

    @property
    def sentence(self) -> str:
        """The finding in words, which follow the interval."""
        ours, best = self.rankers[0], self.best_baseline
        gain, hit = best.gain, ours.measures["hit_rate"]
        if gain is None or np.isnan(gain.low):
            return "The data cannot tell: too few people came back."
        told = f"{gain.estimate:+.3f} NDCG ({gain.low:+.3f} to {gain.high:+.3f}), on the same people".replace("-", "−")
        hits = (
            f"{100 * hit.estimate:.0f} % of the people took one of the {self.k} items that they would have been shown"
        )
        if ours.is_baseline and not gain.high < 0:
            rule = ours.recipe.partition(",")[0]
            return f"It is a simple rule itself ({rule}), which no model was found to beat. {hits}."
        if gain.low > 0:
            return f"Use it: it is better than {best.name}, the best of the simple rules: {told}. {hits}."
        if gain.high < 0:
            return f"Do not use it: {best.name}, a simple rule, is better: {told}."
        return f"The data cannot tell it from {best.name}, a simple rule: {told}. {hits}."


def best_baseline(rankers: Sequence[Ranker]) -> Ranker:
    """The baseline with the highest NDCG, the first of all left out."""
    return max((r for r in rankers[1:] if r.is_baseline), key=lambda r: np.nan_to_num(r.measures["ndcg"].estimate))


def text(report: RecommenderReport) -> str:
    """The findings as lines for a terminal."""
    lines = [report.sentence]
    for r in report.rankers:
        m = r.measures
        lines.append(
            f"  {r.name}: hit rate {m['hit_rate']}, NDCG {m['ndcg']}, coverage {m['coverage'].estimate:.1%}, "
            f"popularity lift {_told(m['popularity_lift'].estimate)}"
        )
    lines += [f"  {g.name} ({g.people:,} people): {g.gain} NDCG more than the best baseline" for g in report.groups]
    return "\n".join(lines)


def _told(x: float) -> str:
    return "not known" if np.isnan(x) else f"{x:+.2f}"


def metrics(report: RecommenderReport) -> dict[str, Interval]:
    """The numbers of the report by name."""
    found = {f"{name}.{r.name}": value for r in report.rankers for name, value in r.measures.items()}
    found |= {f"ndcg_gain_over.{r.name}": r.gain for r in report.rankers if r.gain}
    return found | {f"ndcg_gain.{g.name}": g.gain for g in report.groups}


def write(report: RecommenderReport, path: Path) -> None:
    """Write a page that needs nothing else, `.html`, or all its numbers, `.json`; same report, same bytes.

    Raises:
        DataError: another suffix.
    """
    write_report(
        path,
        page=lambda: render(
            TEMPLATE,
            r=report,
            title=f"{report.rankers[0].name}: what it recommends",
            width="52rem",
            names=NAMES,
            others=[r for r in report.rankers[1:] if r is not report.best_baseline],
            chart=_chart(report),
        ),
        numbers=lambda: {"sentence": report.sentence} | asdict(report),
    )


NAMES = {
    "hit_rate": "people who took one of the items shown",
    "recall": "share of what they took that was shown",
    "ndcg": "NDCG: the same, higher places counting more",
    "novelty": "novelty, in bits",
    "popularity_lift": "popularity lift, in doublings",
    "diversity": "pairs of items of different categories",
    "recall_of_cold_items": "share of new items taken that was shown",
    "recall_of_strangers": "share of what strangers took that was shown",
    "coverage": "share of the catalogue that somebody is shown",
    "exposure_gini": "inequality of places (Gini)",
}
"""Measures in the order of the page, in plain words."""


def _chart(report: RecommenderReport) -> str:
    others = [r for r in report.rankers if r.gain is not None]
    told = "; ".join(f"over {r.name} {r.gain}" for r in others)
    return interval_chart(
        [Bar(r.name, r.gain.estimate, r.gain.low, r.gain.high) for r in others if r.gain],
        alt=f"NDCG that {report.rankers[0].name} gains: {told}.",
        title=f"What {report.rankers[0].name} gains in NDCG over each simple rule, on the same people",
        show=lambda x: f"{x:+.3g}".replace("-", "−") if x else "0",
    )
