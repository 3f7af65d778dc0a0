"""The rows a propensity learns from: people of its population at each cutoff, and what they then did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from data.chance import some_rows
from data.errors import DataError, WorkspaceError, meant
from data.progress import track
from data.settings import Propensity as Declaration
from data.settings import Training
from data.workspace import Workspace
from features.expressions import parse
from features.labels import SPEND, read
from features.labels import label as labels
from features.snapshots import Snapshot, build, fixed_categories, lacking, span
from training.splits import PropensitySplit, first_of_value, propensity_split


@dataclass(frozen=True, eq=False)
class Rows:
    """People at one or more cutoffs, and what they then did.

    Attributes:
        features: One row per person and cutoff.
        label: 0 or 1, int64 of shape (n,).
        user: Ids, shape (n,).
        age_days: Days from the row's cutoff to the newest of them, shape (n,).
    """

    features: pd.DataFrame
    label: np.ndarray
    user: np.ndarray
    age_days: np.ndarray

    def of(self, kept: np.ndarray) -> Rows:
        """Only the rows of these places."""
        frame = self.features.iloc[kept].reset_index(drop=True)
        return Rows(frame, self.label[kept], self.user[kept], self.age_days[kept])

    def drawn(self, n: int, seed: int) -> Rows:
        """All of them, or a seeded draw of `n` where they are more."""
        return self.of(some_rows(len(self.label), n, seed=seed))


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The rows of one label, by cutoff.

    Attributes:
        by_cutoff: The rows.
        split: Which cutoff is for what.
        definitions_hash: Of the features.
        monotone: Feature -> +1 where it may only raise the probability, -1 where it may only lower it.
    """

    by_cutoff: Mapping[datetime, Rows]
    split: PropensitySplit
    definitions_hash: str
    monotone: Mapping[str, int]

    def together(self, cutoffs: Sequence[datetime]) -> Rows:
        """The rows of several cutoffs, in their order."""
        found = [self.by_cutoff[cutoff] for cutoff in cutoffs]
        ages = [np.full(len(self.by_cutoff[cutoff].label), (max(cutoffs) - cutoff).days) for cutoff in cutoffs]
        return Rows(
            pd.concat([rows.features for rows in found], ignore_index=True),
            np.concatenate([rows.label for rows in found]),
            np.concatenate([rows.user for rows in found]),
            np.concatenate(ages),
        )

    @property
    def test(self) -> Rows:
        """The rows that are judged on."""
        return self.by_cutoff[self.split.test]


def labelled_rows(workspace: Workspace, label: str, *, end: datetime | None = None) -> LabelledRows:
    """The rows of a label at every cutoff of its split, built where they are not there yet.

    Args:
        workspace: Checked.
        label: Its name in the settings.
        end: Split as if the data ended then; by default where the last day that is over does.

    Raises:
        WorkspaceError: no such label, it is no yes or no, or a feature that it names is none.
        DataError: a history too short for the horizon, nobody is asked about, or too few of a class (`gaps`).
    """
    declaration, split = declared(workspace, label), split_of(workspace, label, end=end)
    population = parse(declaration.population, place=f"propensity.{label}.population")
    snapshots, tables = snapshots_of(workspace, split.cutoffs), workspace.checked
    monotone = _directions(workspace, label, declaration, snapshots[split.test].columns)
    population.check(snapshots[split.test].columns, lacking=lacking(tables, workspace.settings.features))
    by_cutoff = {}
    for cutoff in track(split.cutoffs, f"labels of {label}"):
        frame = snapshots[cutoff].frame()
        frame = frame[population.mask(frame)]
        did = labels(tables, cutoff, declaration).execute().set_index("user_id")["label"]
        by_cutoff[cutoff] = Rows(
            frame.drop(columns="user_id").reset_index(drop=True),
            did.reindex(frame["user_id"]).to_numpy(np.int64),
            frame["user_id"].to_numpy(object),
            np.zeros(len(frame), dtype=np.int64),
        )
        if not len(frame):
            raise DataError(
                f"propensity.{label}.population {declaration.population!r} holds for nobody on {cutoff:%Y-%m-%d}. "
                "Widen it in attune.toml, or bring the orders or events that it asks about."
            )
    rows = LabelledRows(by_cutoff, split, snapshots[split.test].definitions_hash, monotone)
    if missing := gaps(rows, workspace.settings.training):
        raise DataError(
            f"propensity.{label} cannot be learnt from these data: {'; '.join(missing)}. Bring more customers or a "
            f"longer history, widen its population {declaration.population!r}, choose another horizon_days than "
            f"{declaration.horizon_days}, or lower the limit in [training] of attune.toml."
        )
    return rows


def gaps(rows: LabelledRows, settings: Training) -> list[str]:
    """What is too little to learn from and to judge on, in words with what is needed; nothing where it is enough."""
    found = []
    for answer, did in ((1, "did it"), (0, "did not")):
        counts = {cutoff: int((rows.by_cutoff[cutoff].label == answer).sum()) for cutoff in rows.split.cutoffs}
        learnt = sum(counts[cutoff] for cutoff in rows.split.seen)
        if learnt < settings.min_of_a_class:
            found.append(f"{learnt} {did} over all cutoffs before the test, min_of_a_class = {settings.min_of_a_class}")
        cutoff = min(counts, key=lambda cutoff: counts[cutoff])
        if counts[cutoff] < settings.min_of_a_class_per_cutoff:
            found.append(
                f"{counts[cutoff]} of {len(rows.by_cutoff[cutoff].label)} {did} within the horizon from "
                f"{cutoff:%Y-%m-%d}, min_of_a_class_per_cutoff = {settings.min_of_a_class_per_cutoff}"
            )
    return found


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
    if read(known[label].event, place=f"propensity.{label}.event").what == SPEND:
        raise WorkspaceError(
            f"propensity.{label}.event is {known[label].event!r}, an amount; a propensity is of a yes or a no. "
            "Say 'order', 'no order', 'click', or another event."
        )
    return known[label]


def split_of(workspace: Workspace, label: str, *, end: datetime | None = None) -> PropensitySplit:
    """The cutoffs of a label.

    Raises:
        DataError: the history is too short for its horizon.
    """
    return split_over(workspace, declared(workspace, label).horizon_days, end=end)


def split_over(workspace: Workspace, horizon_days: int, *, end: datetime | None = None) -> PropensitySplit:
    """The cutoffs for a horizon; arguments and errors as of `split_of`."""
    known, training = span(workspace.checked), workspace.settings.training
    return propensity_split(
        known.first,
        known.over if end is None else end,
        horizon_days=horizon_days,
        cutoffs=training.cutoffs,
        step_days=training.step_days,
        min_history_days=training.min_history_days,
    )


def snapshots_of(workspace: Workspace, asked: Sequence[datetime]) -> dict[datetime, Snapshot]:
    """The snapshots asked for and those of every label: built together, so that all labels see the same columns.

    First the list of categories is settled for the earliest cutoff of all trainings, so that none of them draws it up
    again when another one has learnt from its columns.
    """
    cutoffs = set(asked)
    for label in workspace.settings.propensity:
        try:
            cutoffs |= set(split_of(workspace, label).cutoffs)
        except (DataError, WorkspaceError):
            continue  # it is refused when it is itself trained
    for moment in sorted({*sorted(cutoffs)[:1], *_earliest_others(workspace)}):
        if fixed_categories(workspace, workspace.checked, before=moment):
            break
    return {snapshot.cutoff: snapshot for snapshot in build(workspace, sorted(cutoffs))}


def _earliest_others(workspace: Workspace) -> list[datetime]:
    """Of the trainings that learn from no label (value, offers, variants): not after the first cutoffs they look at."""
    tables, first = workspace.checked, span(workspace.checked).first
    found = []
    if tables.has("orders", "unit_price"):
        horizon_days = workspace.settings.value.horizon_days
        with suppress(DataError):  # it is refused when it is itself trained
            found.append(max(split_over(workspace, horizon_days).cutoffs[0], first_of_value(first, horizon_days)))
    if "decisions" in tables.brought:
        decisions = tables["decisions"]
        made = decisions.filter(decisions.kind.isin(("offer", "variant")))["at"].min().execute()
        if pd.notna(made):
            found.append(max(made.floor("D").to_pydatetime(), first + timedelta(days=1)))
    return found


@dataclass(frozen=True, eq=False)
class FeaturesBefore:
    """What was known of people just before something happened to them.

    Attributes:
        table: A row for each; missing of whom nothing was known yet.
        definitions_hash: Of the features.
    """

    table: pd.DataFrame
    definitions_hash: str


def features_before(workspace: Workspace, happened: pd.DataFrame, *, most_cutoffs: int) -> FeaturesBefore:
    """The features of people at the last midnight looked at before each row, from the second day of the data on.

    Args:
        workspace: Checked.
        happened: `user_id` and `at`, a row each.
        most_cutoffs: Midnights to look at, at the most; with more days than these, several days share one.
    """
    day = timedelta(days=1)
    first = pd.Timestamp(span(workspace.checked).first + day)  # before, nothing was known of anybody
    days = happened["at"].dt.floor("D")
    start = max(days.min(), first)
    step = max(1, -(-((days.max() - start) // day + 1) // most_cutoffs))
    cutoffs = start + ((days - start) // day // step) * step * day
    known = cutoffs >= first
    snapshots = snapshots_of(workspace, sorted({cutoff.to_pydatetime() for cutoff in cutoffs[known]}))
    parts = [pd.DataFrame(index=happened.index[~known])]
    for cutoff, rows in happened[known].groupby(cutoffs[known]):
        features = snapshots[cutoff.to_pydatetime()].frame().set_index("user_id")
        parts.append(features.reindex(rows["user_id"]).set_index(rows.index))
    table = pd.concat([part for part in parts if len(part)]).sort_index()
    return FeaturesBefore(table, next(iter(snapshots.values())).definitions_hash if snapshots else "")


def _directions(workspace: Workspace, label: str, declaration: Declaration, columns: Sequence[str]) -> dict[str, int]:
    """The declared directions of the features that this shop has.

    Raises:
        WorkspaceError: a name that no shop has as a feature, or one that is said to do both.
    """
    found = dict.fromkeys(declaration.rises_with, 1)
    if both := set(found) & set(declaration.falls_with):
        raise WorkspaceError(f"propensity.{label}: {min(both)!r} is in rises_with and in falls_with. Leave it in one.")
    found |= dict.fromkeys(declaration.falls_with, -1)
    off = lacking(workspace.checked, workspace.settings.features)
    for name in found:
        if name not in columns and name not in off:
            hint = meant(name, columns, "; docs/features.md names them all.")
            raise WorkspaceError(f"propensity.{label}: {name!r} of rises_with or falls_with is no feature{hint}")
    return {name: direction for name, direction in found.items() if name in columns}
