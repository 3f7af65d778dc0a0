"""Train what each customer is worth: models of buying and leaving, corrected by trees where that helped before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from data.chance import some_rows
from data.errors import DataError
from data.progress import timed, track
from data.tables import Tables, cutoff_literal
from data.workspace import Workspace
from evaluation import plots
from evaluation.intervals import Interval, bootstrap, difference_of
from evaluation.value import MEASURES, coverage, mae, value_by_decile
from features.definitions import total
from features.labels import FOREVER
from features.purchases import purchases
from features.snapshots import span
from models.baselines import CellMeans
from models.lifetime import Habits, from_features
from models.lifetime.habits import EXPECTED_MONEY, EXPECTED_ORDERS
from models.value import Value
from models.worth import LEVEL, Band, CustomerValue
from training import cards
from training.examples import write_feature_examples
from training.labelled import snapshots_of, split_over
from training.reference import write_reference
from training.results import Comparison, Judged, TrainingResult
from training.splits import PropensitySplit, first_of_value
from training.tracking import child_run, log_comparison, pictures, training

NAME = "value"
METRIC = "tweedie_d2"
HABITS, TREES = "buying and leaving", "buying and leaving, corrected by trees"
"""The two candidates: the probabilistic models alone, and LightGBM that begins at what they expect."""
MEAN, LAST_PERIOD, RFM_AVERAGE = "mean of everybody", "spend of the last period", "average of the RFM cell"
BASELINES = (MEAN, LAST_PERIOD, RFM_AVERAGE)
RFM = ("days_since_order", "orders_life", "spend_365d")
MEANS = {RFM_AVERAGE: RFM, MEAN: ()}
"""Baselines that are means of customers alike, and by what these are alike."""
PLAIN = (HABITS, *MEANS)
"""What may go live where no candidate is surely better than the baselines."""
GAINS = (METRIC, "mae", "rmse")
"""Measures in which the first model is held against each other one, on the same customers."""
SPEND_WINDOWS = (7, 30, 90, 365)
MAX_JUDGED = 10_000
"""Customers drawn to judge on, at the most."""
MAX_DRAWN, N_DRAWS = 2_000, 100
"""Customers, and draws of each, behind an interval that no earlier window can tell."""


@dataclass(frozen=True)
class Card(cards.Card):
    """Of a version of the value model.

    Attributes:
        candidate: Which of the two, or of `PLAIN`.
        currency: Of the money.
        definitions_hash: Of the features it reads.
        came_per_expected: What came over what was expected when it was judged, with the ends of its interval.
    """

    retrain = NAME
    candidate: str
    currency: str
    definitions_hash: str
    came_per_expected: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Customers:
    """Everybody who had ordered by a cutoff, and what came of them.

    Attributes:
        features: Of the snapshot, a row each.
        orders: In the horizon, float64 of shape (n,); none where its end is not known yet.
        money: The same, after discounts and returns; what was sent back of earlier orders takes nobody below 0.
    """

    features: pd.DataFrame
    orders: np.ndarray
    money: np.ndarray

    def of(self, rows: np.ndarray) -> Customers:
        """Only these rows."""
        features = self.features.iloc[rows].reset_index(drop=True)
        return Customers(features, self.orders[rows], self.money[rows])

    @property
    def repeaters(self) -> int:
        """How many ordered more than once."""
        return int((self.features["orders_life"] > 1).sum())


@dataclass(frozen=True, eq=False)
class ValueRows:
    """The customers at every cutoff, and the models of buying and leaving that were known there.

    Attributes:
        by_cutoff: The customers; those at `end` without what came.
        habits: The models fitted to them.
        split: Which cutoff is for what.
        end: Of the data.
        definitions_hash: Of the features.
    """

    by_cutoff: Mapping[datetime, Customers]
    habits: Mapping[datetime, Habits]
    split: PropensitySplit
    end: datetime
    definitions_hash: str

    @property
    def test(self) -> Customers:
        """Who is judged on."""
        return self.by_cutoff[self.split.test]

    def ended(self, at: datetime, cutoffs: Sequence[datetime]) -> tuple[datetime, ...]:
        """Those whose horizon had ended by a moment: all that could be learnt from then."""
        horizon = timedelta(days=self.split.horizon_days)
        return tuple(cutoff for cutoff in cutoffs if cutoff + horizon <= at)


def train_value(workspace: Workspace, *, seed: int | None = None) -> TrainingResult:
    """Choose between the candidates on an earlier cutoff, judge on the latest, move on one step and register.

    Where the chosen one is not surely better than the baselines, the best of `PLAIN` on the earlier cutoff takes its
    place, and the table says so.

    Raises:
        DataError: no prices, a history too short for the horizon, or too few who ordered again.
    """
    seed = workspace.settings.training.seed if seed is None else seed
    rows = value_rows(workspace, seed=seed)
    split = rows.split
    params = {
        "horizon_days": split.horizon_days,
        "train_cutoffs": " ".join(f"{cutoff:%Y-%m-%d}" for cutoff in split.seen),
        "test_cutoff": f"{split.test:%Y-%m-%d}",
        "definitions_hash": rows.definitions_hash,
    }
    with training(workspace, NAME, seed=seed, params=params) as run:
        with timed("choosing and judging what customers are worth"):
            chosen = best_of(rows, candidates(rows), seed)
            models = {name: fit(rows, name, seed) for name in sorted(candidates(rows), key=lambda one: one != chosen)}
            test = compared(workspace, models, rows)
        for row in test.rows:
            child_run(row.name, params={}, metrics=row.metrics)
        if not test.beats_baselines:
            candidate, chosen = chosen, best_of(rows, plain(rows), seed)
            why = (
                f"{candidate} is not surely better than every baseline; "
                f"registered is the best plain rule on earlier rows, {chosen}"
            )
            models = {chosen: fit(rows, chosen, seed), **{name: one for name, one in models.items() if name != chosen}}
            test = compared(workspace, models, rows)
            test = replace(test, notes=(why, *test.notes))
        mlflow.log_params({"chosen": chosen, **_parameters(models[chosen].habits)})
        log_comparison(test)
        _draw(models[chosen], rows, workspace.settings.shop.currency)
        with timed("refitting what customers are worth, one step on"):
            final = fit(rows, chosen, seed, live=True)
            final.save(run.folder)
            ratio = test.rows[0].metrics["came_per_expected"]
            Card(
                seed,
                rows.end,
                split.horizon_days,
                candidate=chosen,
                currency=workspace.settings.shop.currency,
                definitions_hash=rows.definitions_hash,
                came_per_expected=(ratio.estimate, ratio.low, ratio.high),
            ).save(run.folder)
            write_feature_examples(NAME, final, rows.test.features, run.folder)
            asked = rows.test.features
            write_reference(asked[final.features], final.predict(asked).value, NAME, run.folder)
        return run.challenger(
            test,
            chosen=chosen,
            pyfunc="value.py",
            packages=("lightgbm", "mlflow", "numpy", "pandas", "scipy"),
            tags={"definitions_hash": rows.definitions_hash},
        )


def value_rows(workspace: Workspace, *, seed: int = 0) -> ValueRows:
    """The customers at every cutoff of the split, with what came of them.

    Cutoffs with less than half a horizon of history before them, or before which hardly anybody had ordered again, are
    not learnt from: who will stay could not be seen there.

    Raises:
        DataError: as `train_value`; says what is missing.
    """
    settings, tables = workspace.settings, workspace.checked
    if not tables.has("orders", "unit_price"):
        raise DataError("value is money, and there is no orders.unit_price. Bring orders with what a piece cost.")
    known, horizon_days = span(tables), settings.value.horizon_days
    split = split_over(workspace, horizon_days)
    early = first_of_value(known.first, horizon_days)
    split = _where(split, lambda cutoff: cutoff >= early)
    cutoffs = sorted({*split.seen, split.test, *split.live, known.end})
    snapshots = snapshots_of(workspace, cutoffs)
    by_cutoff, habits = {}, {}
    for cutoff in track(cutoffs, "customers and their habits"):
        frame = snapshots[cutoff].frame()
        found = _customers(
            tables, frame[frame["orders_life"] > 0], cutoff, None if cutoff == known.end else horizon_days
        )
        needed = cutoff in (split.test, known.end)
        if missing := gaps(found, settings.value.min_repeaters):
            if needed:
                raise DataError(
                    f"what customers are worth on {cutoff:%Y-%m-%d} cannot be told: {'; '.join(missing)}. Bring more "
                    "customers or a longer history, or set another horizon_days or min_repeaters under [value]."
                )
            continue
        try:
            habits[cutoff] = Habits.fit(from_features(found.features), seed=seed)
        except DataError:
            if needed:
                raise
            continue
        by_cutoff[cutoff] = found
    split = _where(split, habits.__contains__)
    return ValueRows(by_cutoff, habits, split, known.end, snapshots[split.test].definitions_hash)


def _where(split: PropensitySplit, good: Callable[[datetime], bool]) -> PropensitySplit:
    """Learning from the good cutoffs only."""
    return replace(split, seen=tuple(filter(good, split.seen)), live=tuple(filter(good, split.live)))


def gaps(customers: Customers, min_repeaters: int) -> list[str]:
    """What is too little at a cutoff, in words with what is needed; nothing where it is enough."""
    n, found = len(customers.features), []
    if customers.repeaters < min_repeaters:
        found.append(f"{customers.repeaters} of {n} customers ordered more than once, min_repeaters = {min_repeaters}")
    if n and not (customers.features["spend_life"] > 0).any():
        found.append("no order has a price (orders.unit_price)")
    if len(customers.money) and not (customers.money > 0).any():
        found.append("nobody spent anything in the horizon after it")
    return found


def candidates(rows: ValueRows) -> tuple[str, ...]:
    """Trees are one only if an earlier cutoff can tell whether they help: three horizons of history."""
    judged_before = rows.ended(rows.split.test, rows.split.seen)
    taught = judged_before and rows.ended(judged_before[-1], judged_before)
    return (HABITS, TREES) if taught else (HABITS,)


def plain(rows: ValueRows) -> tuple[str, ...]:
    """Of `PLAIN`, means are some only where an earlier cutoff can tell how good they are, as with trees."""
    return PLAIN if TREES in candidates(rows) else (HABITS,)


def best_of(rows: ValueRows, names: Sequence[str], seed: int) -> str:
    """The model that explains most on the last cutoff whose horizon had ended by the test; the earlier of equals.

    There it knows only what earlier cutoffs taught.
    """
    if len(names) == 1:
        return names[0]
    *_, chosen_on = rows.ended(rows.split.test, rows.split.seen)
    late = rows.by_cutoff[chosen_on]
    taught = rows.ended(chosen_on, rows.split.seen)
    explained = {}
    for name in names:
        expected, _ = _expecting(rows, name, chosen_on, taught, seed).expect(late.features)
        explained[name] = float(MEASURES[METRIC](late.money, expected)(np.ones((1, len(expected))))[0])
    mlflow.log_metrics({f"chosen_on_{METRIC}_{name.split()[-1]}": value for name, value in explained.items()})
    return max(names, key=lambda name: explained[name])


def fit(rows: ValueRows, candidate: str, seed: int, *, live: bool = False) -> CustomerValue:
    """A candidate as it could be known at the test cutoff, or, to go live, at the end of the data.

    What is expected comes from models fitted to all orders until then; trees learn on the cutoffs whose horizon had
    ended. The interval is learnt on the last of these, from what a model that knew only earlier ones expected of it.
    Where the history is too short for that it is what the models of buying and leaving hold possible.
    """
    at, cutoffs = (rows.end, rows.split.live) if live else (rows.split.test, rows.split.seen)
    ended = rows.ended(at, cutoffs)
    model = _expecting(rows, candidate, at, ended, seed)
    if ended:
        late = rows.by_cutoff[ended[-1]]
        first = _expecting(rows, candidate, ended[-1], rows.ended(ended[-1], ended), seed)
        model.band = Band.fit(first.expect(late.features)[0], late.money)
    else:
        features = rows.by_cutoff[at].features
        some = features.iloc[some_rows(len(features), MAX_DRAWN, seed=seed)]
        weeks = rows.split.horizon_days / 7
        came = model.habits.draws(from_features(some), weeks, n_draws=N_DRAWS, seed=seed)
        model.band = Band.fit(np.tile(model.expect(some)[0], N_DRAWS), came.ravel())
    return model


def _expecting(rows: ValueRows, candidate: str, at: datetime, taught: Sequence[datetime], seed: int) -> CustomerValue:
    """A candidate without its interval, from what was known at `at`: it learns on the cutoffs `taught`."""
    days, habits = rows.split.horizon_days, rows.habits[at]
    if not taught:
        return CustomerValue(habits, horizon_days=days)
    if candidate in MEANS:
        return CustomerValue(habits, horizon_days=days, means=_means(rows, candidate, taught))
    names = [name for name, column in rows.by_cutoff[at].features.items() if is_numeric_dtype(column)]
    learnt = [
        CustomerValue(rows.habits[cutoff], horizon_days=days).rows(rows.by_cutoff[cutoff].features, names)
        for cutoff in taught
    ]
    features = pd.concat(learnt, ignore_index=True)
    expected = {name: features[name].to_numpy() for name in (EXPECTED_MONEY, EXPECTED_ORDERS)}
    money = np.concatenate([rows.by_cutoff[cutoff].money for cutoff in taught])
    orders = np.concatenate([rows.by_cutoff[cutoff].orders for cutoff in taught])
    # Of an order, not of all orders: how many there are is the season's, and does not last.
    level = (money.sum() / orders.sum()) / (expected[EXPECTED_MONEY].sum() / expected[EXPECTED_ORDERS].sum())
    trees = None
    if candidate == TREES:
        trees = (
            Value(kind="spend").fit(features, money, expected[EXPECTED_MONEY], seed=seed),
            Value(kind="purchases").fit(features, orders, expected[EXPECTED_ORDERS], seed=seed),
        )
    return CustomerValue(habits, horizon_days=days, trees=trees, order_value_level=float(level))


def again(rows: ValueRows, card: Card) -> CustomerValue:
    """What a stored version's recipe makes of what was known before the test."""
    candidate = card.candidate if card.candidate in (*candidates(rows), *plain(rows)) else HABITS
    return fit(rows, candidate, card.seed)


def compared(workspace: Workspace, models: Mapping[str, CustomerValue], rows: ValueRows) -> Comparison:
    """Models and baselines on the test customers, the first model against each other one."""
    settings = workspace.settings
    test = _drawn(rows.test, MAX_JUDGED, settings.training.seed)
    n, resamples = len(test.money), settings.training.bootstrap
    worth = {name: model.predict(test.features) for name, model in models.items()}
    money = {name: found.value for name, found in worth.items()} | baselines(rows, test)
    first = next(iter(models))

    def judged(name: str) -> Judged:
        metrics = {
            measure: bootstrap(statistic(test.money, money[name]), n, resamples=resamples)
            for measure, statistic in MEASURES.items()
        }
        # Every row has every figure, so that they stand in one table.
        metrics |= dict.fromkeys(("coverage", "orders_mae", "mae_gain", "rmse_gain"), Interval.around(np.nan))
        if name in worth:
            found = worth[name]
            metrics["coverage"] = bootstrap(coverage(test.money, found.low, found.high), n, resamples=resamples)
            metrics["orders_mae"] = bootstrap(mae(test.orders, found.orders), n, resamples=resamples)
        gain = None
        if name != first:
            own, theirs = ({one: MEASURES[one](test.money, money[who]) for one in GAINS} for who in (first, name))
            gain = bootstrap(difference_of(own[METRIC], theirs[METRIC]), n, resamples=resamples)
            for error in GAINS[1:]:  # the smaller, the better
                metrics[f"{error}_gain"] = bootstrap(difference_of(theirs[error], own[error]), n, resamples=resamples)
        recipe = _recipe(models[name]) if name in models else name
        return Judged(name, recipe, recipe in BASELINES, metrics, gain)

    until = rows.split.test + timedelta(days=rows.split.horizon_days)
    when = f"from {rows.split.test:%Y-%m-%d} to {until:%Y-%m-%d}"
    notes = [
        f"{settings.shop.currency} after discounts and returns, {when}, of everybody who had ordered before",
        f"coverage is of the {LEVEL:.0%} interval",
    ]
    if not rows.ended(rows.split.test, rows.split.seen):
        notes.append(
            "the history is too short for a horizon before the test: the intervals are the models' own, and the "
            "baselines know part of the answer"
        )
    elif len(candidates(rows)) == 1:
        notes.append("the history is too short to tell whether trees help; three horizons are needed")
    notes += [f"{doubt} (the parameters, not the forecasts, are in doubt)" for doubt in models[first].habits.doubts]
    found = Comparison(NAME, METRIC, n, tuple(judged(name) for name in money), tuple(notes))
    if models[first].trees is None and not found.beats_baselines:  # then it is one plain rule among others
        found = replace(found, rows=(replace(found.rows[0], is_baseline=True), *found.rows[1:]))
    return found


def baselines(rows: ValueRows, asked: Customers) -> dict[str, np.ndarray]:
    """Money expected by the honest baselines, which learn from the same cutoffs; in the order of `BASELINES`."""
    days = rows.split.horizon_days
    cutoffs = rows.ended(rows.split.test, rows.split.seen) or rows.split.seen
    window = min(SPEND_WINDOWS, key=lambda one: abs(np.log(one / days)))
    found = {LAST_PERIOD: np.maximum(asked.features[f"spend_{window}d"].to_numpy(np.float64), 0) * days / window}
    if not cutoffs:
        return found
    said = {name: _means(rows, name, cutoffs).expect(asked.features)[0] for name in MEANS}
    return {MEAN: said[MEAN], **found, RFM_AVERAGE: said[RFM_AVERAGE]}


def _means(rows: ValueRows, name: str, taught: Sequence[datetime]) -> CellMeans:
    """One of `MEANS`, learnt from cutoffs."""
    came = [rows.by_cutoff[cutoff] for cutoff in taught]
    alike = pd.concat([customers.features[list(MEANS[name])] for customers in came], ignore_index=True)
    money, orders = (np.concatenate([getattr(customers, of) for customers in came]) for of in ("money", "orders"))
    return CellMeans.fit(alike, money, orders)


def _customers(tables: Tables, frame: pd.DataFrame, cutoff: datetime, horizon_days: int | None) -> Customers:
    """The people of a snapshot who had ordered, with what came of them in the horizon, if it is asked for."""
    features = frame.drop(columns="user_id").reset_index(drop=True)
    if horizon_days is None:
        return Customers(features, np.zeros(0), np.zeros(0))
    later = purchases(tables.as_of(FOREVER))
    until = cutoff_literal(cutoff + timedelta(days=horizon_days))
    later = later.filter(~later.user_id.isnull(), later["at"] >= cutoff_literal(cutoff), later["at"] < until)
    came = later.group_by("user_id").agg(
        orders=later.order_id.nunique(where=later.quantity > 0), money=total(later.money)
    )
    told = came.execute().set_index("user_id").reindex(frame["user_id"]).fillna(0.0)
    return Customers(features, told["orders"].to_numpy(np.float64), np.maximum(told["money"].to_numpy(np.float64), 0.0))


def _recipe(model: CustomerValue) -> str:
    """How a model is made, whatever the data: two of one recipe differ in these only."""
    if model.means is not None:
        return next(name for name, reads in MEANS.items() if set(reads) == set(model.means.edges))
    trees = model.trees[0].params if model.trees else "no trees"
    return f"buying and leaving over {model.horizon_days} days, {trees}"


def _parameters(habits: Habits) -> dict[str, Any]:
    told = habits.as_json()
    flat_ = {f"{part}.{name}": value for part in ("frequency", "spend") for name, value in told[part].items()}
    return {**flat_, "doubts": "; ".join(habits.doubts)}


def _draw(model: CustomerValue, rows: ValueRows, currency: str) -> None:
    """Pictures, kept with the open run: value by decile, calibration, and what the trees lean on."""
    test, days = rows.test, rows.split.horizon_days
    expected = model.predict(test.features).value
    what = f"{currency} within {days} days"
    with pictures() as pages:
        plots.value_by_decile_chart(pages / "value_by_decile.png", value_by_decile(test.money, expected), what=what)
        twenty = value_by_decile(test.money, expected, groups=20)
        plots.value_calibration(pages / "value_calibration.png", twenty, what=what)
    told = {"features": model.features, "importance": model.importance().to_dict()}
    mlflow.log_dict(told, "features.json")


def _drawn(customers: Customers, most: int, seed: int) -> Customers:
    """The customers, or a seeded draw of them where they are many."""
    return customers.of(some_rows(len(customers.features), most, seed=seed))
