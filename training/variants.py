"""Train the variants' model on decisions and what came of them, and judge the variants it would show on later ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import mlflow
import numpy as np
import pandas as pd

from data.errors import DataError
from data.progress import timed
from data.workspace import Workspace
from evaluation.off_policy import Logged, PolicyValue, difference, doubly_robust
from features.decided import context_of
from features.snapshots import span
from features.variants import answered, discount, situation
from models.variants import Context, Evidence, Variant, VariantModel, shown
from training import cards
from training.examples import write_variant_examples
from training.labelled import features_before
from training.results import Comparison, Judged, TrainingResult
from training.tracking import child_run, log_comparison, training

NAME, METRIC = "variants", "reward"
JUDGED_DAYS, JUDGED_SHARE = 42, 0.25
"""The newest decisions are judged on: so many days, of a short history at most this share."""
MAX_CUTOFFS = 6
"""Moments at which people are looked at: what variants go by changes slowly."""
DAY = timedelta(days=1)
UNIFORM, USUAL, SO_FAR = "even", "usual: the oldest", "best so far"
MAX_TOLD = 8
"""Of a single slot with at most so many variants each is shown in the comparison, as if it went to all."""


class Card(cards.Card):
    """Of a variants' version. Decisions from `fitted_until` on serving learns from itself."""

    retrain = NAME


@dataclass(frozen=True, eq=False)
class VariantRows:
    """Decisions about one variant each, in the order of time.

    Attributes:
        made: A row per decision, with the columns of `decisions`; `chosen` and `probability` are of the one variant.
        outcomes: What came of them.
        situation: Of each decision.
        variants: By id, the oldest first: those of the table, and those that only decisions know.
        live: Ids of those that have not ended.
        test: From then on decisions are judged on.
        settled: Before it the outcomes of all decisions are known.
        end: Just after the last row of the tables.
        notes: What was left out.
    """

    made: pd.DataFrame
    outcomes: pd.DataFrame
    situation: pd.DataFrame
    variants: Mapping[str, Variant]
    live: frozenset[str]
    test: datetime
    settled: datetime
    end: datetime
    notes: tuple[str, ...]


def train_variants(workspace: Workspace, *, seed: int | None = None) -> TrainingResult:
    """Fit on earlier decisions, judge what would have been shown later on, refit on all and register.

    Raises:
        DataError: no decisions about variants with outcomes, or a history too short to judge on.
    """
    seed = workspace.settings.training.seed if seed is None else seed
    rows = variant_rows(workspace)
    params = {"test_cutoff": f"{rows.test:%Y-%m-%d}", "reward": workspace.settings.variants.reward}
    with training(workspace, NAME, seed=seed, params=params) as run:
        with timed("fitting and judging the variants"):
            model = fitted(workspace, rows, until=rows.test, known=rows.test)
            test = compared(workspace, {VariantModel.name: model}, rows)
        for row in test.rows:
            child_run(row.name, params=model.spread if row.name == VariantModel.name else {}, metrics=row.metrics)
        log_comparison(test)
        with timed("refitting the variants on all decisions"):
            final = fitted(workspace, rows, until=rows.settled, known=rows.end)
            final.save(run.folder)
            Card(seed, rows.settled, JUDGED_DAYS).save(run.folder)
            write_variant_examples(final, list(rows.variants.values()), run.folder)
        mlflow.log_params({f"spread_{group}": value for group, value in final.spread.items()})
        return run.challenger(
            test,
            chosen=VariantModel.name,
            pyfunc="variants.py",
            packages=("mlflow", "numpy", "pandas", "scipy"),
        )


def fitted(workspace: Workspace, rows: VariantRows, *, until: datetime, known: datetime) -> VariantModel:
    """The model of the decisions before a moment.

    Args:
        workspace: With the settings.
        rows: The decisions.
        until: The moment.
        known: Only what came of them until then.

    Raises:
        DataError: hardly anything came of them.
    """
    settings, moment = workspace.settings.variants, pd.Timestamp(until)
    before = rows.made["at"] < moment
    told = _answered(workspace, rows, rows.made[before], known)
    context = Context.learn(rows.situation[before])
    codes = context.codes(rows.situation.loc[told["row"]])
    weight = discount(told["at"], until=moment, half_life_days=settings.half_life_days)
    evidence = Evidence(
        variant_id=told["chosen"].to_numpy(dtype=object),
        codes=codes,
        shown=told["shown"].to_numpy() * weight,
        reward=told["reward"].to_numpy() * weight,
    )
    money = settings.reward == "value"
    model = VariantModel(family="linear" if money else "logistic")
    return model.fit(list(rows.variants.values()), evidence, context=context, keep=rows.live)


def compared(workspace: Workspace, models: Mapping[str, VariantModel], rows: VariantRows) -> Comparison:
    """What models and rules would have brought on the later decisions, the first model in question.

    Doubly robust (Dudik, Langford, Li 2011), with the first model's expectation and the logged chances; the same
    decisions for all, so that differences are paired. A model is judged as it is served, with its floor, but without
    what serving goes on to learn in those weeks.
    """
    later = rows.made["at"].between(pd.Timestamp(rows.test), pd.Timestamp(rows.settled), inclusive="left")
    told = _answered(workspace, rows, rows.made[later], rows.end)
    asked = rows.situation.loc[told["row"]].reset_index(drop=True)
    first = next(iter(models.values()))
    ids = pd.Index(list(rows.variants))
    logged = Logged(ids.get_indexer(told["chosen"]), told["reward"].to_numpy(), told["probability"].to_numpy())
    candidates: dict[tuple[str, ...], list[int]] = {}
    for row, names in enumerate(told["candidates"]):
        candidates.setdefault(names, []).append(row)
    expected = _expected(first, rows, asked)
    policies = {name: _policy(model, rows, asked, candidates, workspace) for name, model in models.items()}
    policies |= _rules(workspace, rows, candidates)
    values = {name: doubly_robust(logged, policy, expected) for name, policy in policies.items()}
    best = next(iter(values.values()))
    judged = tuple(
        Judged(
            name,
            NAME if name in models else name,
            name in {UNIFORM, USUAL, SO_FAR},
            {METRIC: value.value},
            None if value is best else difference(best, value),
        )
        for name, value in values.items()
    )
    return Comparison(
        NAME, METRIC, len(told), judged, _notes(workspace.settings.variants.reward, rows, values, len(told))
    )


def variant_rows(workspace: Workspace) -> VariantRows:
    """The decisions of a workspace that variants can be learnt from.

    Raises:
        DataError: there are none, or too short a time of them.
    """
    tables = workspace.checked
    if "decisions" not in tables.brought:
        raise DataError("there is no table decisions. Ask /v1/variants and log what came of it, then `attune sync`.")
    decisions = tables["decisions"]
    one = decisions.filter(decisions.kind == "variant", decisions.chosen.length() == 1, ~decisions.slot.isnull())
    plain = ["decision_id", "user_id", "at", "slot", "candidates", "context"]
    made = one.select(*plain, chosen=one.chosen[0], probability=one.probability[0]).execute()
    if made.empty:
        raise DataError("no decision was about variants. Ask /v1/variants and log what came of it, then `attune sync`.")
    made = made.sort_values(["at", "decision_id"], ignore_index=True)
    outcomes = tables["outcomes"]
    came = outcomes.semi_join(one, "decision_id").select("decision_id", "kind", "at", "value").execute()
    covered = span(tables)
    end = covered.end
    variants, live = _variants(workspace, made, end)
    stays = [variants[chosen].slot == slot for chosen, slot in zip(made["chosen"], made["slot"], strict=True)]
    moved, made = made[~np.array(stays)], made[stays].reset_index(drop=True)
    notes = tuple(
        f"{times:,} decisions about {name} are left out: it stands in another slot now"
        for name, times in moved["chosen"].value_counts(sort=False).items()
    )
    if made.empty:
        raise DataError(
            f"no decision is about a variant that still stands in its slot: {'; '.join(notes)}. Give a wording that "
            "goes to another slot an id of its own, ask /v1/variants, and log what came of it."
        )
    in_slot: dict[str, list[str]] = {}
    for variant in variants.values():
        in_slot.setdefault(variant.slot, []).append(variant.variant_id)
    made["candidates"] = [
        _candidates(names, in_slot[slot], chosen)
        for names, slot, chosen in zip(made["candidates"], made["slot"], made["chosen"], strict=True)
    ]
    settled = covered.over - timedelta(hours=workspace.settings.variants.window_hours)
    days = (pd.Timestamp(settled) - made["at"].min()) / pd.Timedelta(DAY)
    test = (pd.Timestamp(settled) - min(JUDGED_DAYS, JUDGED_SHARE * days) * DAY).floor("D").to_pydatetime()
    if not (made["at"] < test).any() or not made["at"].between(test, settled, inclusive="left").any():
        raise DataError(
            f"decisions about variants reach from {made['at'].min():%Y-%m-%d} to {made['at'].max():%Y-%m-%d}, and "
            f"what comes of them is known {workspace.settings.variants.window_hours:g} hours later: too short a time."
        )
    known = features_before(workspace, made, most_cutoffs=MAX_CUTOFFS)
    seen = situation(known.table, [context_of(told).get("channel") for told in made["context"]])
    return VariantRows(made, came, seen, variants, live, test, settled, end, notes)


def _candidates(names: object, slot: list[str], chosen: str) -> tuple[str, ...]:
    """What a decision chose from, the oldest first; where that was not logged, all of the slot."""
    among = set(names) if isinstance(names, (list, np.ndarray)) and len(names) else set(slot)
    return tuple(name for name in slot if name in among or name == chosen)


def _answered(workspace: Workspace, rows: VariantRows, made: pd.DataFrame, known: datetime) -> pd.DataFrame:
    """What came of some decisions, with `row`, which of all they are."""
    settings, numbered = workspace.settings.variants, made.rename_axis("row").reset_index()
    return answered(
        numbered,
        rows.outcomes,
        reward=settings.reward,
        window_hours=settings.window_hours,
        until=pd.Timestamp(known),
    )


def _variants(workspace: Workspace, made: pd.DataFrame, end: datetime) -> tuple[dict[str, Variant], frozenset[str]]:
    """All variants, the oldest first, and the ids of those that have not ended."""
    table = workspace.checked["variants"]
    names = ["variant_id", "slot", "campaign_id", "text", "attributes", "starts_at", "ends_at"]
    told = table.select(*names).execute().sort_values(["starts_at", "variant_id"], na_position="first")
    words = told.astype(object).where(told.notna(), None).to_dict("records")
    found = {
        row["variant_id"]: Variant(
            row["variant_id"], row["slot"], row["campaign_id"] or "", row["text"] or "", row["attributes"] or ""
        )
        for row in words
    }
    slots = made.drop_duplicates("chosen", keep="last").set_index("chosen")["slot"]
    gone = {name: Variant(str(name), str(slot)) for name, slot in slots.items() if name not in found}
    live = frozenset(row["variant_id"] for row in words if row["ends_at"] is None or row["ends_at"] > end)
    return {**found, **gone}, live


def _of_slots(rows: VariantRows) -> dict[str, list[int]]:
    """Places of each slot's variants."""
    found: dict[str, list[int]] = {}
    for place, variant in enumerate(rows.variants.values()):
        found.setdefault(variant.slot, []).append(place)
    return found


def _expected(model: VariantModel, rows: VariantRows, asked: pd.DataFrame) -> np.ndarray:
    """What each variant is expected to bring with each decision's person, (n, V)."""
    variants = list(rows.variants.values())
    codes = model.context.codes(asked)
    expected = np.zeros((len(asked), len(variants)))
    for slot, places in _of_slots(rows).items():
        scores = model.scores(slot, [variants[place] for place in places])
        expected[:, places] = model.expected(scores, codes)
    return expected


def _policy(
    model: VariantModel,
    rows: VariantRows,
    asked: pd.DataFrame,
    candidates: Mapping[tuple[str, ...], list[int]],
    workspace: Workspace,
) -> np.ndarray:
    """The chances with which the model would have shown each variant, (n, V)."""
    settings, ids = workspace.settings.variants, pd.Index(list(rows.variants))
    codes = model.context.codes(asked)
    policy = np.zeros((len(asked), len(ids)))
    for names, here in candidates.items():
        variants = [rows.variants[name] for name in names]
        draws = model.draws(model.scores(variants[0].slot, variants), n=settings.draws)
        policy[np.ix_(np.array(here), ids.get_indexer(names))] = shown(
            draws.best_of_many(codes[here]), floor=settings.floor
        )
    return policy


def _rules(
    workspace: Workspace, rows: VariantRows, candidates: Mapping[tuple[str, ...], list[int]]
) -> dict[str, np.ndarray]:
    """What the model is held against: even chances, the oldest, the best until then; and each of a few for all."""
    ids = pd.Index(list(rows.variants))
    told = _answered(workspace, rows, rows.made[rows.made["at"] < pd.Timestamp(rows.test)], rows.test)
    counts = told.groupby("chosen")[["shown", "reward"]].sum().reindex(ids, fill_value=0.0)
    rate = float(told["reward"].sum() / told["shown"].sum())
    smoothed = ((counts["reward"] + 10 * rate) / (counts["shown"] + 10)).to_numpy()  # ten impressions of the mean
    n, V = sum(map(len, candidates.values())), len(ids)
    policies = {name: np.zeros((n, V)) for name in (UNIFORM, USUAL, SO_FAR)}
    told_apart = list(ids) if len(ids) <= MAX_TOLD and len(_of_slots(rows)) == 1 else []
    policies |= {f"always {name}": np.zeros((n, V)) for name in told_apart}
    for names, here in candidates.items():
        places = np.sort(ids.get_indexer(names))
        policies[UNIFORM][np.ix_(np.array(here), places)] = 1 / len(places)
        policies[USUAL][here, places[0]] = 1
        policies[SO_FAR][here, places[smoothed[places].argmax()]] = 1
        for place, name in enumerate(told_apart):
            policies[f"always {name}"][here, place if place in places else places[0]] = 1
    return policies


def _notes(reward: str, rows: VariantRows, values: Mapping[str, PolicyValue], judged: int) -> tuple[str, ...]:
    """What a reader must know."""
    what = "money of conversions" if reward == "value" else f"share with {'an' if reward == 'open' else 'a'} {reward}"
    judged_on = f"{what} of {judged:,} decisions from {rows.test:%Y-%m-%d}, had they been made by these rules"
    refused = {name: value.weights.refused for name, value in values.items() if value.weights.refused}
    return (judged_on, *rows.notes, *(f"{name} cannot be judged: {why}" for name, why in refused.items()))


def again(workspace: Workspace, rows: VariantRows, model: VariantModel, card: Card) -> VariantModel:
    """The model itself, or what its recipe makes of the decisions before the test where it has seen later ones."""
    return model if card.fitted_until <= rows.test else fitted(workspace, rows, until=rows.test, known=rows.test)
