"""The kinds of models that are trained here: what each asks of the data, how it learns and how it is compared.

Whatever a verb does for one kind it does through `KINDS`; `models.kinds` has what serving needs of each too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data.settings import Settings
from data.tables import Tables
from data.workspace import Workspace
from features.snapshots import span
from models.kinds import PROPENSITY
from models.offers import OfferModel
from models.recommenders import load
from models.stored import load_propensity
from models.timing import Timing
from models.variants import VariantModel
from models.worth import CustomerValue
from training import judging, offers, propensity, recommender, send_time, value, variants
from training.judging import Contestant, JudgedRows
from training.labelled import labelled_rows
from training.offer_rows import offer_rows
from training.recipes import BASELINES, Card
from training.results import Comparison, TrainingResult
from training.splits import recommender_split


@dataclass(frozen=True)
class Search:
    """How hard a training tries.

    Attributes:
        trials: Of a search, at most so many.
        minutes: Of a search, about so long; with neither there is none.
        seed: By default `training.seed`.
    """

    trials: int | None = None
    minutes: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Kind:
    """What the verbs need to know of one kind of model.

    Attributes:
        train: Of a workspace, under a registered name: leaves a challenger.
        compare: Versions in their folders, by what they are called, beside the baselines, on rows that none has seen.
        names: Registered names that a workspace's settings ask for.
        carried: Whether tables are such that `attune train all` should try.
    """

    train: Callable[[Workspace, str, Search], TrainingResult]
    compare: Callable[[Workspace, str, Mapping[str, Path]], Comparison]
    names: Callable[[Settings], list[str]]
    carried: Callable[[Tables], bool] = lambda _: True


def kind_of(name: str) -> Kind:
    """The kind of a registered model."""
    return KINDS.get(name, KINDS[PROPENSITY])


def _recommender(workspace: Workspace, _name: str, search: Search) -> TrainingResult:
    return recommender.train_recommender(workspace, trials=search.trials, minutes=search.minutes, seed=search.seed)


def _recommenders(workspace: Workspace, _name: str, folders: Mapping[str, Path]) -> Comparison:
    settings, tables = workspace.settings, workspace.checked
    known = span(tables)
    split = recommender_split(known.first, known.end, horizon_days=settings.recommender.horizon_days)
    cards = {who: Card.load(folder) for who, folder in folders.items()}
    rows = JudgedRows.at(tables, settings, split.test, next(iter(cards.values())).seed)
    contestants = []
    for who, card in cards.items():
        if card.fitted_until <= split.test:
            contestants.append(Contestant(who, card.recipe, load(folders[who])))
        else:
            contestants.append(Contestant(who, card.recipe, card.recipe.fit(rows.known, card.seed)))
    baselines = recommender.fitted(BASELINES, rows.known, settings.training.seed)
    return judging.compared(rows, [*contestants, *baselines], settings)


def _propensity(workspace: Workspace, name: str, search: Search) -> TrainingResult:
    return propensity.train_propensity(
        workspace,
        name.removeprefix(propensity.PREFIX),
        trials=search.trials,
        minutes=search.minutes,
        seed=search.seed,
    )


def _propensities(workspace: Workspace, name: str, folders: Mapping[str, Path]) -> Comparison:
    rows = labelled_rows(workspace, name.removeprefix(propensity.PREFIX))
    models, refitted = {}, []
    for who, folder in folders.items():
        card, model = propensity.Card.load(folder), load_propensity(folder)
        if card.fitted_until > rows.split.test:
            model = propensity.again(rows, card, like=model)
            refitted.append(f"{who} has seen these rows: judged is what its recipe makes of the rows before them")
        models[who] = model
    found = propensity.compared(workspace, name, models, rows)
    return replace(found, notes=(*found.notes, *refitted))


def _values(workspace: Workspace, _name: str, folders: Mapping[str, Path]) -> Comparison:
    cards = {who: value.Card.load(folder) for who, folder in folders.items()}
    rows = value.value_rows(workspace, seed=next(iter(cards.values())).seed)
    models = {
        who: CustomerValue.load(folders[who]) if card.fitted_until <= rows.split.test else value.again(rows, card)
        for who, card in cards.items()
    }
    return value.compared(workspace, models, rows)


def _send_times(workspace: Workspace, _name: str, folders: Mapping[str, Path]) -> Comparison:
    rows = send_time.send_rows(workspace)
    models = {}
    for who, folder in folders.items():
        card, model = send_time.Card.load(folder), Timing.load(folder)
        if card.fitted_until > rows.test or model.channels != rows.told.channels:
            model = Timing(**model.params).fit(rows.known, seed=card.seed)
        models[who] = model
    return send_time.compared(workspace, models, rows)


def _offers(workspace: Workspace, _name: str, folders: Mapping[str, Path]) -> Comparison:
    cards = {who: offers.Card.load(folder) for who, folder in folders.items()}
    judged_on = offers.judge(offer_rows(workspace), seed=next(iter(cards.values())).seed)
    contestants = {
        who: offers.again(workspace, judged_on, OfferModel.load(folders[who]), card) for who, card in cards.items()
    }
    return offers.compared(workspace, judged_on, contestants)


def _variants(workspace: Workspace, _name: str, folders: Mapping[str, Path]) -> Comparison:
    rows = variants.variant_rows(workspace)
    models = {
        who: variants.again(workspace, rows, VariantModel.load(folder), variants.Card.load(folder))
        for who, folder in folders.items()
    }
    return variants.compared(workspace, models, rows)


KINDS: Mapping[str, Kind] = {
    recommender.NAME: Kind(_recommender, _recommenders, lambda _: [recommender.NAME]),
    PROPENSITY: Kind(
        _propensity, _propensities, lambda settings: [f"{propensity.PREFIX}{label}" for label in settings.propensity]
    ),
    value.NAME: Kind(
        lambda workspace, _, search: value.train_value(workspace, seed=search.seed),
        _values,
        lambda _: [value.NAME],
        lambda tables: tables.has("orders", "unit_price"),
    ),
    send_time.NAME: Kind(
        lambda workspace, _, search: send_time.train_send_time(workspace, seed=search.seed),
        _send_times,
        lambda _: [send_time.NAME],
        lambda tables: tables.has("messages", "opened_at"),  # who sends nothing has no hour to choose
    ),
    offers.NAME: Kind(
        lambda workspace, _, search: offers.train_offers(workspace, seed=search.seed),
        _offers,
        lambda _: [offers.NAME],
        lambda tables: "decisions" in tables.brought,
    ),
    variants.NAME: Kind(
        lambda workspace, _, search: variants.train_variants(workspace, seed=search.seed),
        _variants,
        lambda _: [variants.NAME],
        lambda tables: "decisions" in tables.brought and "variants" in tables.brought,
    ),
}
"""By what `attune train` calls them, in the order in which they are trained."""
