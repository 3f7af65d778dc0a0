"""Which headline: what learning while showing saves over showing all evenly, and over a test whose winner is kept.

Real headline tests (Matias et al. 2021, "The Upworthy Research Archive") are replayed: what a test's headlines and
pictures got is taken for their true rates, and as many impressions as it had are given out anew, in even batches,
after each of which the clicks are known. Lost are the clicks that the best one would have brought beyond those shown.
Half of the tests, by a hash of their ids, are learnt from: how far headlines and tests lie apart, and what words do;
the others are judged. Beside the bandit stand an even split, and even splits of the first part of the impressions,
the winner getting the rest: several lengths, of which the best on the judged tests is the peer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result import Result
from data.chance import stable_uniform
from data.errors import DataError
from data.files import read_rows
from data.progress import timed, track
from data.settings import Variants
from evaluation.intervals import Interval, bootstrap
from models.variants import Evidence, Variant, VariantModel, shown

FILE = "variants.parquet"
TESTS = 400
"""Judged unless `--size` says otherwise."""
BATCHES = 48
SPLITS = (0.1, 0.2, 0.3, 0.5)
"""Shares of the impressions that the tests of the peer take."""
TEST, TEXT, PICTURE = "clickability_test_id", "headline", "eyecatcher_id"
RESAMPLES = 2000
ATTUNE, UNIFORM, FRESH = "attune", "uniform", "attune, nothing learnt before"
PEER = "test of {:.0%}, then the winner"
HALF = PEER.format(0.5)


@dataclass(frozen=True, eq=False)
class Test:
    """One headline test.

    Attributes:
        variants: Its k variants.
        rate: Clicks an impression of each, (k,).
        impressions: To be given out.
    """

    variants: list[Variant]
    rate: np.ndarray
    impressions: int


def run(*, data: Path | None, size: str | None, seed: int | None = None) -> Result:
    """Replay `size` tests (by default 400) of a folder laid out like `upworthy`.

    Raises:
        DataError: no data, too few tests, or a size that is no number.
    """
    if data is None:
        raise DataError("variants needs --data, a folder with variants.parquet such as ../shared/data/upworthy.")
    if size is not None and not size.isdecimal():
        raise DataError(f"--size {size}: give the number of tests to judge.")
    table = _table(data / FILE if data.is_dir() else data)
    learnt = stable_uniform(table[TEST], salt="learnt from") < 0.5
    if learnt.all() or not learnt.any():
        raise DataError(f"{data}: {table[TEST].nunique()} tests are too few to learn from half and judge the others.")
    with timed("learning from the other half"):
        model = _learnt(table[learnt], np.random.default_rng(seed or 0))
    print("learnt spreads:", {group: round(sigma, 3) for group, sigma in model.spread.items()})
    fresh = VariantModel()
    fresh.rate = model.rate
    judged = _tests(table[~learnt])[: int(size or TESTS)]
    settings = Variants()
    lost: dict[str, list[float]] = {}
    chosen: list[float] = []
    for number, test in enumerate(track(judged, "replaying tests")):
        rng = np.random.default_rng([seed or 0, number])
        told = {UNIFORM: float(test.impressions * (test.rate.max() - test.rate).mean())}
        told[ATTUNE] = _bandit(model, test, settings, rng)
        told[FRESH] = _bandit(fresh, test, settings, rng)
        told |= {PEER.format(share): _ab_test(test, share, rng) for share in SPLITS}
        for name, value in told.items():
            lost.setdefault(name, []).append(value)
        chosen.append(float(test.impressions * test.rate.max()))
    return _result({name: np.array(values) for name, values in lost.items()}, np.array(chosen))


def _result(lost: dict[str, np.ndarray], best: np.ndarray) -> Result:
    print(f"{len(best):,} tests judged; clicks lost, of 100 that the best variant would have brought")
    for name, values in lost.items():
        below = _below(lost[ATTUNE], values)
        told = f"   attune loses {below.estimate:6.1%} less [{below.low:.1%}, {below.high:.1%}]"
        print(f"{name:<34}{100 * values.sum() / best.sum():7.2f}{'' if name == ATTUNE else told}")
    ab_test = min((name for name in lost if name.startswith("test")), key=lambda name: lost[name].sum())
    gains = {f"regret_below_{short}": _below(lost[ATTUNE], lost[name])
             for short, name in (("uniform", UNIFORM), ("ab_test", ab_test), ("half_and_half", HALF))}  # fmt: skip
    regret = _share(lost[ATTUNE], best)
    return Result(
        metrics={
            "regret": regret.estimate,
            **{name: found.estimate for name, found in gains.items()},
            "tests": len(best),
        },
        intervals={"regret": regret, **gains},
        peers={name: {"regret": float(values.sum() / best.sum())} for name, values in lost.items() if name != ATTUNE},
    )


def _below(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """By what share fewer clicks were lost, over the same tests."""
    return bootstrap(lambda w: 1 - (w @ ours) / (w @ theirs), len(ours), resamples=RESAMPLES)


def _share(lost: np.ndarray, best: np.ndarray) -> Interval:
    return bootstrap(lambda w: (w @ lost) / (w @ best), len(lost), resamples=RESAMPLES)


def _bandit(model: VariantModel, test: Test, settings: Variants, rng: np.random.Generator) -> float:
    """Clicks lost while the model learns, batch by batch; its chances are those that the service would have."""
    ids = [variant.variant_id for variant in test.variants]
    before = model.scores(test.variants[0].slot, test.variants)
    impressions, clicks, lost = np.zeros(len(ids)), np.zeros(len(ids)), 0.0
    for size in np.diff(np.linspace(0, test.impressions, BATCHES + 1).astype(int)):
        evidence = Evidence.of_counts(dict(zip(ids, zip(impressions, clicks, strict=True), strict=True)))
        draws = model.draws(model.told(before, evidence), n=settings.draws)
        given = rng.multinomial(size, shown(draws.best(()), floor=settings.floor))
        impressions += given
        clicks += rng.binomial(given, test.rate)
        lost += float(given @ (test.rate.max() - test.rate))
    return lost


def _ab_test(test: Test, share: float, rng: np.random.Generator) -> float:
    """Clicks lost by an even split of the first impressions, all others getting what then has the highest rate."""
    tested = int(share * test.impressions)
    given = np.full(len(test.rate), tested // len(test.rate))
    rates = rng.binomial(given, test.rate) / np.maximum(given, 1)
    winner = int(rng.choice(np.flatnonzero(rates == rates.max())))
    gap = test.rate.max() - test.rate
    return float(given @ gap + (test.impressions - given.sum()) * gap[winner])


def _learnt(table: pd.DataFrame, rng: np.random.Generator) -> VariantModel:
    """What a replay of these tests, as they were split, teaches."""
    tests = [variant for variants in _variants(table) for variant in variants]
    clicks = rng.binomial(table["impressions"], table["clicks"] / table["impressions"])
    counts = zip(table["impressions"], clicks, strict=True)
    return VariantModel().fit(tests, Evidence.of_counts(dict(zip(table["id"], counts, strict=True))), keep=())


def _tests(table: pd.DataFrame) -> list[Test]:
    rates = (group for _, group in table.groupby(TEST, sort=False))
    return [
        Test(variants, (group["clicks"] / group["impressions"]).to_numpy(), int(group["impressions"].sum()))
        for variants, group in zip(_variants(table), rates, strict=True)
    ]


def _variants(table: pd.DataFrame) -> list[list[Variant]]:
    """Of each test, in the order of the table."""
    found: dict[str, list[Variant]] = {}
    for row in table.itertuples():
        attributes = json.dumps({"picture": row.eyecatcher_id}) if row.eyecatcher_id else ""
        variant = Variant(row.id, "headline", str(row.clickability_test_id), str(row.headline), attributes)
        found.setdefault(variant.campaign_id, []).append(variant)
    return list(found.values())


def _table(file: Path) -> pd.DataFrame:
    columns = [TEST, TEXT, PICTURE, "impressions", "clicks"]
    table = read_rows(file, columns)[columns]
    shown, clicked = (pd.to_numeric(table[name], errors="coerce") for name in ("impressions", "clicks"))
    counted = (shown >= 1) & (clicked >= 0) & (clicked <= shown) & table[[TEST, TEXT]].notna().all(axis=1)
    table = table.assign(impressions=shown, clicks=clicked)[counted]
    table = table[table.duplicated(TEST, keep=False)].astype({"impressions": np.int64, "clicks": np.int64})
    if left_out := len(counted) - len(table):
        print(
            f"{left_out:,} of {len(counted):,} rows are left out: no test or headline, impressions or clicks that can"
            "not be, or nothing to choose between in their test"
        )
    order = stable_uniform(table[TEST], salt="order")  # not that of time: `--size` takes tests of all years
    table = table.iloc[np.argsort(order, kind="stable")]
    table = table.reset_index(drop=True)
    table[PICTURE] = table[PICTURE].astype(object).where(table[PICTURE].notna(), None)
    return table.assign(id=[f"v{row}" for row in range(len(table))])
