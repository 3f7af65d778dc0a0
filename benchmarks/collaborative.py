"""Collaborative filtering on a public split: search on rows carved from train, refit, one test.

The folder holds `train` and `test` (user, item; no times), and `valid` where the split has one. Without rows in it a
twentieth to a fifth of each user's train items is held out to choose on. Every item that is not in the user's row is
ranked; recall divides by all test items of the user; means are over all test users. Beside the winner stand the graph
filters as their papers set them for gowalla: there they check the implementation, elsewhere they are peers. They are
fitted when the choice is made, each for as long as the minutes allow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.ids import with_ids
from benchmarks.result import Result
from data.errors import DataError
from data.files import read_rows
from data.histories import Histories
from data.interactions import Interactions
from data.progress import timed
from data.vocabulary import Vocabulary
from evaluation.ranking import RankingQuality, compare
from training.judging import JudgedRows, carve_random
from training.recipes import Recipe
from training.search import FAILURES, OutOfTime, Trial, at_most, search

K = 20
MINUTES = 90.0
SHARE_FOR_PAPERS = 0.2
"""Of the minutes: kept for the papers' filters; they get what else is left too."""
SEED = 0
FAMILIES = ("popularity", "item_neighbours", "als", "graph", "graph-bspm", "graph-chebycf", "linear")
"""Those that need no times."""
PAPER = {"user_power": 0.5, "item_power": 0.5, "kept_per_item": 4_000}
PAPERS: Mapping[str, Recipe] = {
    name: Recipe("graph", {**PAPER, **params}, exclude_seen=True)
    for name, params in {
        "GF-CF": {"filter": "gf-cf", "factors": 256, "ideal_weight": 0.3, "degree_power": 0.5},
        "BSPM-EM": {"filter": "bspm", "factors": 448, "ideal_weight": 0.2, "degree_power": 0.5, "sharpening": 2.5},
        "ChebyCF": {"filter": "chebycf", "factors": 512, "ideal_weight": 0.2, "degree_power": 0.4},
    }.items()
}
"""As set for gowalla by Shen et al. 2021, Choi et al. 2023 (early merge) and Kim et al. 2025."""


def run(*, data: Path | None, trials: int | None = None, minutes: float | None = None) -> Result:
    """Search, refit on everything before the test, test the winner once, and judge the papers' filters beside it.

    Raises:
        DataError: no data named, or no train and test in it.
    """
    if data is None:
        raise DataError("collaborative needs --data, such as ../shared/data/gowalla.")
    started = time.monotonic()
    minutes = minutes or MINUTES
    parts = _read(data)
    known = _before_test(parts)
    test = _rows(known, parts["test"], "the test items")
    print(_told(known, test))
    found = search(
        [_rows(parts["train"], parts["valid"], "the valid items") if "valid" in parts else carve_random(known)],
        families=FAMILIES,
        trials=trials,
        minutes=(1 - SHARE_FOR_PAPERS) * minutes - (time.monotonic() - started) / 60,
        k=K,
        exclude_seen=(True,),
        seed=SEED,
        on_trial=_tell,
    )
    print(f"chosen: {found.recipe}; ndcg_at_{K} on the rows it was chosen on: {found.quality}")
    scatter = scatter_of(known.item, parts["test"].item, len(known.items))
    print(f"items' shares of the test scatter {scatter:.1f} times as far as those of rows drawn at random")
    winner = _test(found.recipe, known, test, "the winner")
    _print(str(found.recipe), winner)
    qualities: dict[str, RankingQuality] = {}
    for name, recipe in PAPERS.items():
        try:
            with at_most(max(60 * minutes - (time.monotonic() - started), 1e-3)):
                qualities[name] = _test(recipe, known, test, name)
        except (OutOfTime, *FAILURES) as error:
            print(f"{name:<24}  {str(error) or type(error).__name__}")
        else:
            _print(name, qualities[name])
    best = max(qualities, key=lambda name: _means(qualities[name])[f"ndcg_at_{K}"], default=None)
    gain = {} if best is None else {f"ndcg_at_{K}_gain_over_papers": compare(winner, qualities[best], "ndcg")}
    return Result(
        metrics={
            **_means(winner),
            f"coverage_at_{K}": winner.coverage,
            "test_scatter": scatter,
            **{of: g.estimate for of, g in gain.items()},
        },
        intervals={**{f"{of}_at_{K}": winner.interval(of) for of in ("recall", "ndcg")}, **gain},
        peers={
            **{name: _means(quality) for name, quality in qualities.items()},
            "chosen": {"recipe": str(found.recipe), f"validation_ndcg_at_{K}": found.quality.estimate},
        },
    )


def scatter_of(known: np.ndarray, test: np.ndarray, n_items: int) -> float:
    """How far the items' shares of a test scatter beside those of as many rows drawn from all at random, in variances.

    Far above 1 the test is no such draw (what people did later, say), and what is carved from the known rows at random
    may not tell what it asks for.

    Args:
        known: Item codes, a row each.
        test: The same.
        n_items: How many there are.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> item, drawn = rng.integers(50, size=20_000), rng.random(20_000) < 0.2
        >>> bool(0.5 < scatter_of(item[~drawn], item[drawn], 50) < 1.6)
        True
        >>> round(scatter_of(np.repeat(np.arange(50), 80), np.repeat(np.arange(25), 40), 50), 1)
        16.7
    """
    tested = np.bincount(test, minlength=n_items)
    both = tested + np.bincount(known, minlength=n_items)
    share = tested.sum() / both.sum()
    some = both > 0
    return float(np.mean((tested[some] - share * both[some]) ** 2 / (share * (1 - share) * both[some])))


def _read(data: Path) -> dict[str, Interactions]:
    """The parts of a split by name, all in the codes of one catalogue; says what of it is left out.

    Raises:
        DataError: a part is missing or cannot be read, or has no users and items.
    """
    frames: dict[str, pd.DataFrame] = {}
    for part in ("train", "valid", "test"):
        file = data / f"{part}.parquet"
        if part != "valid" and not file.is_file():
            raise DataError(f"{file} is not there; give a folder with train.parquet and test.parquet (user, item).")
        if file.is_file():
            rows = with_ids(read_rows(file, ("user", "item"), empty=part == "valid"), file)
            if len(rows):
                frames[part] = rows[["user_id", "item_id"]].drop_duplicates()
    items = Vocabulary(sorted(set[str]().union(*(frame["item_id"] for frame in frames.values()))))
    users = Vocabulary(sorted(set[str]().union(*(frame["user_id"] for frame in frames.values()))))
    return {part: Interactions.from_frame(frame, users=users, items=items) for part, frame in frames.items()}


def _told(known: Interactions, test: JudgedRows) -> str:
    """What is asked of whom, and what nobody can answer: who has no history, and what was taken before."""
    strangers = int((np.diff(test.histories.indptr) == 0).sum())
    again = test.held_out.multiply(test.histories.matrix).nnz
    return (
        f"{len(known):,} rows known; {test.held_out.nnz:,} rows of {len(test.users):,} users to foresee, {strangers:,} "
        f"of them strangers; {again:,} rows were known before, which are never ranked and count as missed"
    )


def _before_test(parts: Mapping[str, Interactions]) -> Interactions:
    """Train and, where there is one, valid."""
    together: Sequence[Interactions] = [parts[part] for part in ("train", "valid") if part in parts]
    rows = {name: np.concatenate([getattr(part, name) for part in together]) for name in ("user", "item")}
    train = parts["train"]
    named = {"user_id": train.users.all_ids[rows["user"]], "item_id": train.items.all_ids[rows["item"]]}
    return Interactions.from_frame(pd.DataFrame(named).drop_duplicates(), users=train.users, items=train.items)


def _rows(known: Interactions, after: Interactions, about: str) -> JudgedRows:
    """Everybody who took something in `after`, asked about with what they had in `known`."""
    users = np.unique(after.user)
    histories = Histories.from_interactions(known, users=users)
    return JudgedRows(known, users, after.users.all_ids[users], histories, after.matrix[users], after.items, about)


def _test(recipe: Recipe, known: Interactions, test: JudgedRows, name: str) -> RankingQuality:
    with timed(f"fitting and testing {name}"):
        return test.judge(recipe.fit(known, SEED), exclude_seen=True, k=K)


def _means(quality: RankingQuality) -> dict[str, float]:
    return {f"{of}_at_{K}": float(np.nanmean(quality.values(of))) for of in ("recall", "ndcg")}


def _print(name: str, quality: RankingQuality) -> None:
    print("  ".join([f"{name:<24}", *(f"{of} {mean:.4f}" for of, mean in _means(quality).items())]), flush=True)


def _tell(trial: Trial) -> None:
    outcome = trial.quality or f"{trial.state}, {trial.reason}"
    print(f"trial {trial.number}, {trial.seconds:.0f} s, {trial.recipe}: {outcome}", flush=True)
