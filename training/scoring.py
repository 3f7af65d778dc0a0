"""Everybody scored by the champions, in bulk: the rows behind an audience, and the file that holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.chance import some_rows
from data.errors import DataError, WorkspaceError
from data.files import check_suffix, writing_rows
from data.progress import track
from data.workspace import Workspace
from evaluation.audience import Audience, Reason, Spend, audience
from features.expressions import Expression, parse
from features.reach import reach
from features.segments import STAGES, lifecycle_of
from features.segments import parsed as segments_of
from features.snapshots import Snapshot, build, lacking, span
from models.stored import StoredPropensity, load_propensity
from models.worth import CustomerValue
from registry.versions import Registry, Version
from training.propensity import PREFIX, Card
from training.send_time import NAME as SEND_TIME
from training.sending import COLUMNS as SEND_COLUMNS
from training.sending import SendTimeChampion
from training.tracking import logged_comparison
from training.value import NAME as VALUE
from training.value import Card as ValueCard

USER, LIFECYCLE = "user_id", "lifecycle"
VALUES = (VALUE, f"{VALUE}_low", f"{VALUE}_high")
"""Expected money, and between what it will lie; nothing of who never ordered."""
HOURS = frozenset({SEND_TIME, *SEND_COLUMNS.names})
OTHERS = HOURS.union(VALUES)
EVERYBODY = "True"
MOST_EXPLAINED, MOST_REASONS = 2_000, 5
"""People whose reasons are looked at, a seeded draw of more; reasons told of a label."""


@dataclass(frozen=True, eq=False)
class LabelChampion:
    """The champion of one label, ready to score.

    Attributes:
        label: Its name in the settings.
        version: Of the registry.
        folder: Its files.
        card: What it says of itself.
        model: What scores.
        population: Who is asked about; of all others nothing is said.
    """

    label: str
    version: Version
    folder: Path
    card: Card
    model: StoredPropensity
    population: Expression

    @property
    def horizon_days(self) -> int:
        """How far it looks."""
        return self.card.declaration.horizon_days

    def asked(self, features: pd.DataFrame) -> np.ndarray:
        """Who is in the population, bool of shape (n,).

        Raises:
            WorkspaceError: a feature that says so is not there.
        """
        self.population.check(features.columns)
        return self.population.mask(features)

    def score(self, people: pd.DataFrame) -> np.ndarray:
        """Probabilities of people in the population, float64 of shape (n,)."""
        return self.model.predict(people)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Probabilities, float64 of shape (n,); NaN outside of the population."""
        inside = self.population.mask(features)
        found = np.full(len(features), np.nan)
        found[inside] = self.score(features[inside])
        return found


@dataclass(frozen=True, eq=False)
class ValueChampion:
    """The champion of the value model, ready to score.

    Attributes:
        version: Of the registry.
        folder: Its files.
        card: What it says of itself.
        model: What scores.
    """

    label: ClassVar[str] = VALUE
    version: Version
    folder: Path
    card: ValueCard
    model: CustomerValue

    @property
    def horizon_days(self) -> int:
        """How far it looks."""
        return self.card.horizon_days

    def asked(self, features: pd.DataFrame) -> np.ndarray:
        """Who ordered before, bool of shape (n,)."""
        return (features["orders_life"] > 0).to_numpy(dtype=bool, na_value=False)

    def score(self, people: pd.DataFrame) -> np.ndarray:
        """Expected money of people who ordered before, float64 of shape (n,)."""
        return self.model.predict(people).value

    def predict(self, features: pd.DataFrame) -> dict[str, np.ndarray]:
        """The columns `VALUES`, float64 of shape (n,) each."""
        worth = self.model.predict(features)
        return dict(zip(VALUES, (worth.value, worth.low, worth.high), strict=True))


@dataclass(frozen=True, eq=False)
class Bulk:
    """Everybody at the end of the data, to be scored a batch at a time.

    Attributes:
        snapshot: Their features.
        champions: By label, what scores them.
        value: What says what they are worth; None where nothing does or it is not asked for.
        hours: What says when and where to write to them; None where nothing does or it is not asked for.
        segments: Named segments of the settings.
        where: Who is asked for.
    """

    snapshot: Snapshot
    champions: Mapping[str, LabelChampion]
    value: ValueChampion | None
    hours: SendTimeChampion | None
    segments: Mapping[str, Expression]
    where: Expression

    @classmethod
    def of(cls, workspace: Workspace, *, where: str = EVERYBODY, labels: Sequence[str] | None = None) -> Bulk:
        """Everybody of a workspace.

        Args:
            workspace: Checked.
            where: An expression over scores (by label, and `VALUES`), `lifecycle`, named segments and features.
            labels: Score these (`value` and `send-time` too), and those that `where` names; None = all with a champion.

        Raises:
            WorkspaceError: an expression that cannot be read or names what is not there; no such label; a name that
                means two things.
            DataError: a label without a champion, or none at all.
        """
        condition = parse(where, place="--where")
        declared = workspace.settings.propensity
        end = span(workspace.checked).so_far
        if labels is not None:
            labels = [*labels, *(name for name in condition.names if name in declared or name in OTHERS)]
        value = value_champion(workspace) if labels is None or not set(VALUES).isdisjoint(labels) else None
        hours = SendTimeChampion.of(workspace, end) if labels is None or not HOURS.isdisjoint(labels) else None
        asked = {*(labels or ()), *condition.names}
        if not value and not asked.isdisjoint(VALUES):
            raise DataError(_without_value())
        if not hours and not asked.isdisjoint(HOURS):
            raise DataError(_without_hours())
        if labels is not None:
            labels = [label for label in labels if label not in OTHERS]
        champions = label_champions(workspace, labels, none_will_do=bool(value or hours))
        [snapshot] = build(workspace, [end])
        bulk = cls(snapshot, champions, value, hours, segments_of(workspace.settings.segments), condition)
        bulk._check(workspace)
        return bulk

    @property
    def at(self) -> datetime:
        """The moment up to which the features know everybody."""
        return self.snapshot.cutoff

    @property
    def columns(self) -> list[str]:
        """What a scored row has: the id, probabilities, what they are worth, when to write, the stage, the segments."""
        return self.schema.names

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        return pa.schema([
            (USER, pa.string()),
            *((name, pa.float64()) for name in self.scores),
            *(SEND_COLUMNS if self.hours else ()),
            (LIFECYCLE, pa.string()),
            *((name, pa.bool_()) for name in self.segments),
        ])  # fmt: skip

    @property
    def scores(self) -> list[str]:
        """The columns that are numbers: the labels, and `VALUES` where there is a champion."""
        return [*self.champions, *(VALUES if self.value else ())]

    @property
    def versions(self) -> list[str]:
        """What scores."""
        return [str(one.version) for one in (*self.champions.values(), self.value, self.hours) if one]

    def batches(self) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """Scored rows (`columns`) with, for each, whether `where` holds: bool (n,). Memory is bounded by a batch."""
        file = pq.ParquetFile(self.snapshot.path)
        needed = [USER, *(name for name in self.snapshot.columns if name in self._needed())]
        for number in track(range(file.num_row_groups), "scoring"):
            features = file.read_row_group(number, columns=needed).to_pandas()
            rows = pd.DataFrame({
                USER: features[USER].astype("str"),
                **{label: champion.predict(features) for label, champion in self.champions.items()},
                **(self.value.predict(features) if self.value else {}),
                **(self.hours.predict(features[USER].astype("str")) if self.hours else {}),
                LIFECYCLE: pd.Series(lifecycle_of(features), dtype="str"),
                **{name: condition.mask(features) for name, condition in self.segments.items()},
            })  # fmt: skip
            named = {name: (rows if name in rows else features)[name] for name in self.where.names}
            held = self.where.mask(pd.DataFrame(named, index=rows.index))
            yield rows, held

    def frame(self) -> tuple[pd.DataFrame, np.ndarray]:
        """All batches together."""
        parts = list(self.batches())
        rows = pd.concat([rows for rows, _ in parts], ignore_index=True)
        return rows, np.concatenate([held for _, held in parts])

    def _needed(self) -> set[str]:
        """Features that anything reads."""
        conditions = [self.where, *self.segments.values(), *(stage for _, stage in STAGES)]
        conditions += [champion.population for champion in self.champions.values()]
        asked = {name for condition in conditions for name in condition.names}
        return asked.union(*(one.model.features for one in (*self.champions.values(), self.value) if one))

    def _check(self, workspace: Workspace) -> None:
        for champion in self.champions.values():
            champion.population.check(self.snapshot.columns)
        twice = [n for n, times in Counter([*self.columns, *self.snapshot.columns]).items() if times > 1]
        if twice:
            raise WorkspaceError(
                f"{twice[0]!r} is the name of two things among labels, segments and features. "
                f"Rename the label or the segment in {workspace.settings_file}."
            )
        for name in self.where.names:
            if name in workspace.settings.propensity and name not in self.champions:
                raise DataError(_without_champion(name))
        lacks = lacking(workspace.checked, workspace.settings.features)
        for segment in self.segments.values():
            segment.check(self.snapshot.columns, lacking=lacks)
        told = f"There are {', '.join(self.columns[1:])}, and the features of docs/features.md."
        self.where.check(
            [*self.columns[1:], *self.snapshot.columns],
            called="column",
            told=told,
            lacking=lacks,
        )


@dataclass(frozen=True)
class Scored:
    """What a bulk scoring left.

    Attributes:
        path: The file.
        rows: People in it.
        everybody: People looked at.
        versions: What scored them.
        at: The moment up to which the features know everybody.
        expected: By label, how many of those in the file are expected to do it: the sum of their probabilities.
        spend: What they are expected to spend, in words; empty where nothing tells it.
    """

    path: Path
    rows: int
    everybody: int
    versions: tuple[str, ...]
    at: datetime
    expected: Mapping[str, float]
    spend: str = ""


def score(workspace: Workspace, to: Path, *, where: str = EVERYBODY, labels: Sequence[str] | None = None) -> Scored:
    """Write everybody for whom `where` holds, with their scores, to a CSV or Parquet file: whole or not at all.

    Args:
        workspace: Checked, with champions.
        to: The file; its suffix says which kind.
        where: An expression over scores (by label), `lifecycle`, named segments and features.
        labels: Score these (`value` and `send-time` too), and those that `where` names; None = all with a champion.

    Raises:
        WorkspaceError: a suffix that is neither, or as `Bulk.of`.
        DataError: as `Bulk.of`.
    """
    check_suffix(to)
    bulk = Bulk.of(workspace, where=where, labels=labels)
    kept, everybody, expected = 0, 0, dict.fromkeys((*bulk.champions, *((VALUE,) if bulk.value else ())), 0.0)
    with writing_rows(to, bulk.schema) as write:
        for rows, held in bulk.batches():
            chosen = rows[held]
            write(chosen)
            kept, everybody = kept + len(chosen), everybody + len(rows)
            for label in expected:
                expected[label] += float(chosen[label].sum())
    spend = ""
    if bulk.value:
        card = bulk.value.card
        spend = f"{expected.pop(VALUE):,.0f} {card.currency} within {card.horizon_days} days"
    return Scored(to, kept, everybody, tuple(bulk.versions), bulk.at, expected, spend)


def audience_of(workspace: Workspace, *, where: str, labels: Sequence[str] | None = None) -> Audience:
    """Those for whom `where` holds beside everybody: size, expected outcomes, composition.

    Raises:
        WorkspaceError: as `Bulk.of`.
        DataError: as `Bulk.of`.
    """
    bulk, registry = Bulk.of(workspace, where=where, labels=labels), Registry.of(workspace)
    rows, held = bulk.frame()
    judged = {name: logged_comparison(registry, c.version.run_id).rows[0] for name, c in bulk.champions.items()}
    return audience(
        rows,
        held,
        labels=list(bulk.champions),
        segments=list(bulk.segments),
        calibration_error={name: row.metrics["calibration_error"].estimate for name, row in judged.items()},
        meanings={
            name: f"{told.event} within {told.horizon_days} days"
            for name, told in workspace.settings.propensity.items()
        },
        where=bulk.where.text,
        at=f"{bulk.at:%Y-%m-%d}",
        versions=bulk.versions,
        spend=_spend(bulk, rows, held),
        reasons=_reasons(bulk, rows, held),
        reach=reach(workspace.checked, bulk.at, assumed=workspace.settings.rules.assumed).reindex(
            rows[USER], fill_value=False
        ),
    )


def _reasons(bulk: Bulk, rows: pd.DataFrame, held: np.ndarray) -> list[Reason]:
    """What sets the audience apart by each label's model: where its contributions differ most from everybody's."""
    found: list[Reason] = []
    if not held.any() or held.all():
        return found
    for label, champion in bulk.champions.items():
        names = list(champion.model.features)
        features = bulk.snapshot.frame(names).set_index(USER).loc[rows[USER]]
        asked = rows[label].notna().to_numpy()
        inside, everybody = (
            features.iloc[np.flatnonzero(who)[some_rows(int(who.sum()), MOST_EXPLAINED, seed=0)]]
            for who in (held & asked, asked)
        )
        if inside.empty:
            continue
        more = [champion.model.contributions(frame).mean(axis=0) for frame in (inside, everybody)]
        apart = more[0] - more[1]
        found += [
            Reason(label, names[j], _usual(inside[names[j]]), _usual(everybody[names[j]]), float(np.exp(apart[j])))
            for j in np.argsort(-np.abs(apart), kind="stable")[:MOST_REASONS]
            if apart[j]
        ]
    return found


def _usual(values: pd.Series) -> float | str:
    """The mean of numbers, the most frequent of words."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return float(values.astype("float64").mean())
    frequent = values.dropna().mode()
    return str(frequent.iloc[0]) if len(frequent) else "–"


def _spend(bulk: Bulk, rows: pd.DataFrame, held: np.ndarray) -> Spend | None:
    """What the audience and everybody are expected to spend; None where nothing tells it."""
    if bulk.value is None:
        return None
    card, value = bulk.value.card, rows[VALUE].to_numpy()
    return Spend.of(
        value[held], value, currency=card.currency, horizon_days=card.horizon_days, off=card.came_per_expected[1:]
    )


def value_champion(workspace: Workspace) -> ValueChampion | None:
    """The champion of the value model, fetched and verified; None where there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    found = Registry.of(workspace).champion(VALUE, workspace.models_dir)
    if found is None:
        return None
    version, folder = found
    return ValueChampion(version, folder, ValueCard.load(folder), CustomerValue.load(folder))


def label_champions(
    workspace: Workspace, labels: Sequence[str] | None = None, *, none_will_do: bool = False
) -> dict[str, LabelChampion]:
    """The champions of labels, fetched and verified, in the order of the settings.

    Args:
        workspace: Whose registry.
        labels: Of these; None = all that have one.
        none_will_do: Whether to find none is no error.

    Raises:
        WorkspaceError: no such label.
        DataError: a label without a champion, or none at all.
        ModelFileError: a version that is damaged.
    """
    registry, declared = Registry.of(workspace), workspace.settings.propensity
    for label in labels or ():
        if label not in declared:
            raise WorkspaceError(f"{label!r} is no label of this workspace; there are {', '.join(declared)}.")
    found = {}
    for label, declaration in declared.items():
        if labels is not None and label not in labels:
            continue
        champion = registry.champion(f"{PREFIX}{label}", workspace.models_dir)
        if champion is None:
            if labels is not None:
                raise DataError(_without_champion(label))
            continue
        version, folder = champion
        population = parse(declaration.population, place=f"propensity.{label}.population")
        found[label] = LabelChampion(label, version, folder, Card.load(folder), load_propensity(folder), population)
    if not found and not none_will_do:
        raise DataError(
            "no label has a champion. Train with `attune train propensity`, then `attune promote --all`: "
            "where it refuses, it says why."
        )
    return found


def _without_value() -> str:
    return "value has no champion to score with. Train one with `attune train value` and `attune promote value`."


def _without_hours() -> str:
    return "send-time has no champion. Train one with `attune train send-time` and `attune promote send-time`."


def _without_champion(label: str) -> str:
    return (
        f"{label!r} has no champion to score with. Train one with `attune train propensity --label {label}` "
        f"and `attune promote {PREFIX}{label}`."
    )
