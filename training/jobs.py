"""The jobs behind `attune train`, `compare`, `promote`, `rollback` and `retrain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.checks import check
from data.errors import DataError, ModelFileError, WorkspaceError
from data.state import State
from data.state.sync import sync
from data.workspace import Workspace
from models.kinds import PROPENSITY, load_answering
from registry.versions import CHALLENGER, CHAMPION, Registry, Version
from training.compare import compare
from training.gate import Verdict, decide
from training.kinds import KINDS, Search, kind_of
from training.lock import only_one
from training.propensity import PREFIX
from training.results import TrainingResult
from training.tracking import FINGERPRINT, log_verdict, logged_comparison


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        results: A challenger each.
        left_out: By registered name, why a model could not be trained on this data.
    """

    results: tuple[TrainingResult, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Retrained:
    """What a retraining left.

    Attributes:
        trained: The challengers.
        verdicts: What the gate said of each.
    """

    trained: Trained
    verdicts: tuple[Verdict, ...]


def train(
    workspace: Workspace,
    what: Literal["recommender", "propensity", "value", "send-time", "offers", "variants", "all"] = "all",
    *,
    label: str | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
) -> Trained:
    """Train the recommender, the propensities of the settings (or one label), value, hours, offers, variants, or all.

    Of several models those that the data cannot carry are left out, with the reason; alone, such a model is an error.
    `trials` and `minutes` bound the search for each of them; with neither there is none.

    Raises:
        DataError: nothing could be trained.
        WorkspaceError: the tables are not checked, another training runs here, or no such label.
    """
    tables = workspace.checked
    names = []
    for called, kind in KINDS.items():
        if what == called or (what == "all" and kind.carried(tables)):
            names += [f"{PREFIX}{label}"] if label and called == PROPENSITY else kind.names(workspace.settings)
    results, left_out = [], {}
    with only_one(workspace, "train"):
        for name in names:
            try:
                results.append(kind_of(name).train(workspace, name, Search(trials, minutes, seed)))
            except (DataError, WorkspaceError) as error:
                if len(names) == 1:
                    raise
                left_out[name] = str(error)
    if not results:
        raise DataError("nothing could be trained. " + " ".join(f"{name}: {why}" for name, why in left_out.items()))
    return Trained(tuple(results), left_out)


def promote(workspace: Workspace, name: str) -> Verdict:
    """Make the challenger the champion, if the gate lets it pass.

    Raises:
        ModelFileError: there is no challenger, or its files are damaged.
        DataError: the data cannot carry the comparison.
    """
    registry = Registry.of(workspace)
    challenger = registry.version(name, CHALLENGER)
    if challenger is None:
        raise ModelFileError(f"{name} has no challenger; {registry.told()}. Train one with `attune train`.")
    champion = registry.version(name, CHAMPION)
    if champion is None and challenger.tags[FINGERPRINT] == workspace.fingerprint():
        comparison = logged_comparison(registry, challenger.run_id)  # measured anew, it would be the same
    else:
        comparison = compare(workspace, name)
    verdict = decide(
        challenger,
        comparison,
        same_data=champion is not None and champion.tags[FINGERPRINT] == challenger.tags[FINGERPRINT],
        broken=_broken(name, registry.fetch(challenger, workspace.models_dir)),
    )
    log_verdict(registry, comparison, verdict)
    if verdict.passed:
        registry.crown(challenger)
    return verdict


def retrain(workspace: Workspace) -> Retrained:
    """Sync the live state, check, train everything, and let pass what the gate lets pass: safe to run from cron.

    What was done before stays done, so that the next run goes on from there. Only one runs at a time.

    Raises:
        WorkspaceError: another one runs.
        DataError: the tables are not fit to train on, or nothing could be trained.
    """
    with only_one(workspace, "retrain"):
        sync(workspace, State.of(workspace))
        audit = check(workspace)
        if not audit.fit:
            raise DataError(f"not fit to train on: {'; '.join(audit.failures)}. See {workspace.reports_dir}.")
        trained = train(workspace)
        return Retrained(trained, tuple(promote(workspace, result.version.name) for result in trained.results))


def challengers(workspace: Workspace) -> list[str]:
    """Registered models that have a challenger, sorted."""
    registry = Registry.of(workspace)
    return [name for name in registry.names() if registry.version(name, CHALLENGER) is not None]


def rollback(workspace: Workspace, name: str) -> Version:
    """Make the previous champion the champion again; returns it.

    Raises:
        ModelFileError: there is no previous champion.
    """
    return Registry.of(workspace).rollback(name)


def _broken(name: str, folder: Path) -> str:
    """Why a version does not answer its stored examples as when it was saved; empty if it does."""
    try:
        load_answering(name, folder)
    except ModelFileError as error:
        return str(error)
    return ""
