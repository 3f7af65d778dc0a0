"""The report of the recommender: its recipe, learnt from what was known some days ago, and what people took since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from scipy import sparse

from data.errors import ModelFileError
from data.interactions import CATEGORY
from data.progress import timed
from data.tables import Tables
from data.workspace import Workspace
from evaluation.intervals import Interval, mean, paired_difference
from evaluation.ranking import RankingQuality
from evaluation.recommender_report import Example, People, Ranker, RecommenderReport, Shares, Shown, best_baseline
from features.snapshots import span
from models.recommenders import Recommender
from registry.versions import CHALLENGER, CHAMPION, Registry
from training.examples import K
from training.judging import Contestant, JudgedRows
from training.recipes import BASELINES, Card
from training.recommender import NAME, fitted
from training.splits import recommender_split

N_EXAMPLES, LAST = 20, 5
MOST_CATEGORIES = 12
HAD = ((0, 0, "strangers"), (1, 2, "had 1 or 2 items"), (3, 9, "had 3 to 9 items"), (10, 10**9, "had 10 items or more"))
POPULAR = ((0.01, "the most popular 1 %"), (0.1, "the next 9 %"), (0.5, "the next 40 %"), (1.0, "the other half"))
OWED = (
    "What people took may owe something to what they were shown then, which favours what was in use. What recommending "
    "earns, only people left alone can tell."
)
MEASURED = ("hit_rate", "recall", "ndcg", "novelty", "popularity_lift", "diversity", "recall_of_cold_items")


def recommender_report(workspace: Workspace) -> RecommenderReport:
    """What the champion (or, without one, the challenger) would have shown, held against what people then took.

    The version in use has learnt from everything; judged is what its recipe makes of the rows before the test days.

    Args:
        workspace: Checked, with a trained recommender.

    Raises:
        ModelFileError: no recommender was trained, or its files are damaged.
        DataError: nobody did anything in the test days.
    """
    registry, settings, tables = Registry.of(workspace), workspace.settings, workspace.checked
    seed = settings.training.seed
    version = registry.version(NAME, CHAMPION) or registry.version(NAME, CHALLENGER)
    if version is None:
        raise ModelFileError("there is no recommender to report on. Train one with `attune train recommender`.")
    card = Card.load(registry.fetch(version, workspace.models_dir))
    known = span(tables)
    split = recommender_split(known.first, known.end, horizon_days=settings.recommender.horizon_days)
    rows = JudgedRows.at(tables, settings, split.test, seed)
    with timed("learning the recipe from what was known"):
        model = card.recipe.fit(rows.known, card.seed)
    baselines = [who for who in fitted(BASELINES, rows.known, seed) if who.recipe != card.recipe]
    contestants = [Contestant(str(version), card.recipe, model), *baselines]
    lists = {who.name: rows.served(who.model, exclude_seen=who.recipe.exclude_seen) for who in contestants}
    quality = {name: rows.measured(ranked, rows.items) for name, ranked in lists.items()}
    resamples = settings.training.bootstrap
    first = contestants[0].name
    rankers = tuple(_ranker(who, quality, first, resamples) for who in contestants)
    best = best_baseline(rankers).name
    had = rows.known.matrix
    owners = np.bincount(had.indices[had.data > 0], minlength=len(rows.known.items))
    taken = np.bincount(rows.held_out.indices, minlength=len(rows.items))[: len(rows.known.items)]
    shown, baseline = (np.bincount(lists[name][lists[name] >= 0], minlength=len(owners)) for name in (first, best))
    examples = _examples(rows, model, lists[first], seed)
    return RecommenderReport(
        about=rows.about,
        at=f"{split.test:%Y-%m-%d}",
        k=K,
        people=int((~quality[first].cold_user).sum()),
        strangers=int(quality[first].cold_user.sum()),
        items=len(rows.items),
        new_items=int((owners == 0).sum()) + len(rows.items) - len(rows.known.items),
        rankers=rankers,
        groups=_groups(rows, quality[first], quality[best], resamples),
        popularity=_by_popularity(owners, shown, baseline, taken),
        categories=_by_category(rows, shown, baseline, taken),
        examples=examples,
        names=_names(tables, examples, split.test),
        notes=(
            f"{version} was made by {card.recipe}.",
            f"In use it has learnt from everything; judged is what its recipe learns before {split.test:%Y-%m-%d}.",
            OWED,
        ),
    )


def _ranker(who: Contestant, quality: Mapping[str, RankingQuality], first: str, resamples: int) -> Ranker:
    found = quality[who.name]
    measures = {name: found.interval(name, "warm", resamples=resamples) for name in MEASURED}  # type: ignore[arg-type]
    measures["recall_of_strangers"] = found.interval("recall", "cold", resamples=resamples)
    for name, value in (("coverage", found.coverage), ("exposure_gini", found.exposure_gini)):
        measures[name] = Interval.around(value)
    gain = None
    if who.name != first:
        ours, theirs = (q.values("ndcg", "warm") for q in (quality[first], found))
        gain = paired_difference(ours, theirs, resamples=resamples)
    return Ranker(who.name, str(who.recipe), who.recipe.is_baseline, measures, gain)


def _groups(rows: JudgedRows, ours: RankingQuality, theirs: RankingQuality, resamples: int) -> tuple[People, ...]:
    n_known = np.diff(rows.histories.matrix.indptr)
    found = []
    for low, high, name in HAD:
        held = (n_known >= low) & (n_known <= high)
        if held.any():
            a, b = ours.ndcg[held], theirs.ndcg[held]
            one, other = mean(a, resamples=resamples), mean(b, resamples=resamples)
            gain = paired_difference(a, b, resamples=resamples)
            found.append(People(name, int(held.sum()), one, other, gain))
    return tuple(found)


def _by_popularity(
    owners: np.ndarray, shown: np.ndarray, baseline: np.ndarray, taken: np.ndarray
) -> tuple[Shares, ...]:
    order = np.argsort(-owners, kind="stable")
    ends = [max(1, round(share * len(owners))) for share, _ in POPULAR]
    return tuple(
        Shares(name, (end - start) / len(owners), *(_share(x, order[start:end]) for x in (shown, baseline, taken)))
        for start, end, (_, name) in zip([0, *ends], ends, POPULAR, strict=False)
        if end > start
    )


def _by_category(rows: JudgedRows, shown: np.ndarray, baseline: np.ndarray, taken: np.ndarray) -> tuple[Shares, ...]:
    attributes = rows.known.attributes
    if attributes is None:
        return ()
    of = sparse.csc_matrix(attributes.matrix)
    members = {
        name.removeprefix(CATEGORY): of.indices[of.indptr[column] : of.indptr[column + 1]]
        for column, name in enumerate(attributes.names)
        if name.startswith(CATEGORY)
    }
    largest = sorted(members, key=lambda name: (-taken[members[name]].sum(), name))[:MOST_CATEGORIES]
    return tuple(
        Shares(
            name.lstrip("="),
            len(members[name]) / len(shown),
            *(_share(x, members[name]) for x in (shown, baseline, taken)),
        )
        for name in largest
    )


def _share(counts: np.ndarray, of: np.ndarray) -> float:
    return float(counts[of].sum() / counts.sum()) if counts.any() else np.nan


def _names(tables: Tables, examples: Sequence[Example], cutoff: datetime) -> dict[str, str]:
    """What the items of examples were called then, by id."""
    ids = {item for e in examples for item in (*e.had, *(shown.item for shown in e.shown))}
    items = tables.as_of(cutoff)["items"]
    named = items.filter(items.item_id.isin(sorted(ids)) & items.name.notnull()).select("item_id", "name").execute()
    return dict(sorted(zip(named["item_id"], named["name"], strict=True)))


def _examples(rows: JudgedRows, model: Recommender, ranked: np.ndarray, seed: int) -> tuple[Example, ...]:
    """People drawn among those of whom something was known."""
    known = np.flatnonzero((rows.users >= 0) & (np.diff(rows.histories.indptr) > 0))
    drawn = np.sort(np.random.default_rng(seed).permutation(known)[:N_EXAMPLES])
    ids = rows.known.items.all_ids
    found = []
    for row in drawn:
        history, shown = rows.histories[np.array([row])], ranked[row][ranked[row] >= 0]
        took = rows.held_out[row].indices
        because = model.reasons(history, shown)
        newest = list(dict.fromkeys(history.item[np.argsort(-history.at, kind="stable")].tolist()))[:LAST]
        found.append(
            Example(
                user=str(rows.known.users.ids([rows.users[row]])[0]),
                had=tuple(str(ids[item]) for item in newest),
                shown=tuple(
                    Shown(str(ids[item]), str(ids[why]) if why >= 0 else "", bool(np.isin(item, took)))
                    for item, why in zip(shown, because, strict=True)
                ),
                took=len(took),
            )
        )
    return tuple(found)
