"""Champion, challenger and baselines on the same rows: nobody is judged on what they learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data.errors import ModelFileError
from data.workspace import Workspace
from features.snapshots import span
from models.recommenders import load
from models.stored import load_propensity
from models.timing import Timing
from models.worth import CustomerValue
from registry.folder import size_bytes
from registry.versions import CHALLENGER, CHAMPION, Registry
from training import judging, propensity, send_time, value
from training.judging import Contestant, JudgedRows
from training.labelled import labelled_rows
from training.propensity import PREFIX
from training.recipes import BASELINES, Card
from training.recommender import NAME as RECOMMENDER
from training.recommender import fitted
from training.results import Comparison
from training.splits import recommender_split


def compare(workspace: Workspace, name: str) -> Comparison:
    """The challenger (or, without one, the champion) against the champion and the baselines, on the latest rows.

    A version that learnt from rows at or after the test cutoff is not judged itself: what its recipe makes of the
    rows before the cutoff stands for it. So both are judged on rows that they have not seen.

    Raises:
        ModelFileError: no version of that name, or one whose files are damaged.
        DataError: the data cannot carry the comparison.
    """
    registry = Registry.of(workspace)
    found = {alias: registry.version(name, alias) for alias in (CHALLENGER, CHAMPION)}
    versions = {f"{alias} {version.number}": version for alias, version in found.items() if version is not None}
    if not versions:
        raise ModelFileError(
            f"{name} has neither challenger nor champion; registered are {', '.join(registry.names()) or 'no models'}. "
            "Train it with `attune train`."
        )
    folders = {who: registry.fetch(version, workspace.models_dir) for who, version in versions.items()}
    judges = {RECOMMENDER: _recommenders, send_time.NAME: _send_times, value.NAME: _values}
    judge = judges.get(name, _propensities)
    comparison = judge(workspace, name, folders)
    sizes = {who: size_bytes(folder) for who, folder in folders.items()}
    return replace(comparison, rows=tuple(replace(row, size_bytes=sizes.get(row.name)) for row in comparison.rows))


def _recommenders(workspace: Workspace, _name: str, folders: dict[str, Path]) -> Comparison:
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
    baselines = fitted(BASELINES, rows.known, settings.training.seed)
    return judging.compared(rows, [*contestants, *baselines], settings)


def _propensities(workspace: Workspace, name: str, folders: dict[str, Path]) -> Comparison:
    rows = labelled_rows(workspace, name.removeprefix(PREFIX))
    models, refitted = {}, []
    for who, folder in folders.items():
        card, model = propensity.Card.load(folder), load_propensity(folder)
        if card.fitted_until > rows.split.test:
            model = propensity.again(rows, card, like=model)
            refitted.append(f"{who} has seen these rows: judged is what its recipe makes of the rows before them")
        models[who] = model
    found = propensity.compared(workspace, name, models, rows)
    return replace(found, notes=(*found.notes, *refitted))


def _values(workspace: Workspace, _name: str, folders: dict[str, Path]) -> Comparison:
    models, rows = {}, None
    for who, folder in folders.items():
        card, model = value.Card.load(folder), CustomerValue.load(folder)
        rows = rows or value.value_rows(workspace, seed=card.seed)
        models[who] = model if card.fitted_until <= rows.split.test else value.again(rows, card)
    assert rows is not None  # noqa: S101 - `compare` found a version
    return value.compared(workspace, models, rows)


def _send_times(workspace: Workspace, _name: str, folders: dict[str, Path]) -> Comparison:
    rows = send_time.send_rows(workspace)
    models = {}
    for who, folder in folders.items():
        card, model = send_time.Card.load(folder), Timing.load(folder)
        if card.fitted_until > rows.test or model.channels != rows.told.channels:
            model = Timing(**model.params).fit(rows.known, seed=card.seed)
        models[who] = model
    return send_time.compared(workspace, models, rows)
