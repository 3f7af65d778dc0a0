"""The rows a propensity learns from: people of its population at each cutoff, and what they then did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from data.errors import DataError, WorkspaceError
from data.progress import track
from data.settings import Propensity as Declaration
from data.workspace import Workspace
from features.expressions import parse
from features.labels import label as labels
from features.snapshots import Snapshot, build, span
from training.splits import PropensitySplit, propensity_split


@dataclass(frozen=True, eq=False)
class Rows:
    """People at one or more cutoffs, and what they then did.

    Attributes:
        features: One row per person and cutoff.
        label: 0 or 1, int64 of shape (n,).
    """

    features: pd.DataFrame
    label: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The rows of one label, by cutoff.

    Attributes:
        by_cutoff: The rows.
        split: Which cutoff is for what.
        definitions_hash: Of the features.
    """

    by_cutoff: Mapping[datetime, Rows]
    split: PropensitySplit
    definitions_hash: str

    def together(self, cutoffs: Sequence[datetime]) -> Rows:
        """The rows of several cutoffs, in their order."""
        found = [self.by_cutoff[cutoff] for cutoff in cutoffs]
        return Rows(
            pd.concat([rows.features for rows in found], ignore_index=True),
            np.concatenate([rows.label for rows in found]),
        )

    @property
    def seen(self) -> tuple[datetime, ...]:
        """The cutoffs before the test: what a model without early stopping learns from."""
        return (*self.split.train, self.split.later)

    @property
    def refit(self) -> tuple[datetime, ...]:
        """The same, moved on one step: what the model that goes live learns from."""
        train, later = self.split.refit
        return (*train, later)

    @property
    def test(self) -> Rows:
        """The rows that are judged on."""
        return self.by_cutoff[self.split.test]


def labelled_rows(workspace: Workspace, label: str) -> LabelledRows:
    """The rows of a label at every cutoff of its split, built where they are not there yet.

    Raises:
        WorkspaceError: no such label, or it is no yes or no.
        DataError: a history too short for the horizon, or nobody is asked about.
    """
    declaration, split = declared(workspace, label), split_of(workspace, label)
    population = parse(declaration.population, place=f"propensity.{label}.population")
    snapshots, tables = snapshots_of(workspace), workspace.checked
    by_cutoff = {}
    for cutoff in track(split.cutoffs, f"labels of {label}"):
        frame = snapshots[cutoff].frame()
        frame = frame[population.mask(frame)]
        did = labels(tables, cutoff, declaration).execute().set_index("user_id")["label"]
        by_cutoff[cutoff] = Rows(
            frame.drop(columns="user_id").reset_index(drop=True), did.reindex(frame["user_id"]).to_numpy(np.int64)
        )
        if not len(frame):
            raise DataError(
                f"propensity.{label}.population {declaration.population!r} holds for nobody on {cutoff:%Y-%m-%d}. "
                "Widen it in attune.toml, or bring the orders or events that it asks about."
            )
    return LabelledRows(by_cutoff, split, snapshots[split.test].definitions_hash)


def declared(workspace: Workspace, label: str) -> Declaration:
    """The label's declaration.

    Raises:
        WorkspaceError: there is none of that name, or it is no yes or no.
    """
    known = workspace.settings.propensity
    if label not in known:
        raise WorkspaceError(
            f"{label!r} is no label of this workspace; there are {', '.join(sorted(known))}. "
            f"Declare it as [propensity.{label}] in {workspace.settings_file}."
        )
    if known[label].event == "spend":
        raise WorkspaceError(
            f"propensity.{label}.event is 'spend', an amount; a propensity is of a yes or a no. "
            "Say 'order', 'no order', 'order in CATEGORY' or 'click'."
        )
    return known[label]


def split_of(workspace: Workspace, label: str) -> PropensitySplit:
    """The cutoffs of a label.

    Raises:
        DataError: the history is too short for its horizon.
    """
    known, training = span(workspace.checked), workspace.settings.training
    return propensity_split(
        known.first,
        known.end,
        horizon_days=declared(workspace, label).horizon_days,
        cutoffs=training.cutoffs,
        step_days=training.step_days,
    )


def snapshots_of(workspace: Workspace) -> dict[datetime, Snapshot]:
    """The snapshots of every label's cutoffs: built together, so that all labels see the same columns."""
    cutoffs: set[datetime] = set()
    for label in workspace.settings.propensity:
        try:
            cutoffs |= set(split_of(workspace, label).cutoffs)
        except (DataError, WorkspaceError):
            continue  # it is refused when it is itself trained
    return {snapshot.cutoff: snapshot for snapshot in build(workspace, sorted(cutoffs))}
