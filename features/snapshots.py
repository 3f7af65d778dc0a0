"""Snapshots: one row of features per customer as of a cutoff, and Parquet partitions of many cutoffs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import pandas as pd
import pyarrow.parquet as pq
from ibis.expr import types as ir
from sqlglot import expressions as sql

from data import settings as config
from data.errors import DataError, meant
from data.files import alone, replacing
from data.progress import track
from data.sql import literal
from data.state.reads import Watermarks
from data.tables import Tables, cutoff_literal
from data.workspace import Workspace
from features import behaviour, engagement, profile, tastes, transactions
from features.definitions import Feature, Group, Moment
from features.purchases import with_category

PEOPLE = ("users", "events", "orders", "messages")
"""Who has a row in one of these is known."""

CATEGORIES_FILE = "categories.json"
VARIABLE = "cutoff"


@dataclass(frozen=True)
class Snapshot:
    """The features of everybody known at one cutoff, on disk.

    Attributes:
        cutoff: Nothing at or after it is in here.
        path: The Parquet file.
        definitions_hash: Of the features' SQL: two snapshots of one hash have the same columns with the same meaning.
        fingerprint: Of the tables it was made from.
        rows: Number of customers.
        columns: Names of the features in their order, without `user_id`.
    """

    cutoff: datetime
    path: Path
    definitions_hash: str
    fingerprint: str
    rows: int
    columns: tuple[str, ...]

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """`user_id` and the features (all, or those named), sorted by `user_id`."""
        names = self.columns if columns is None else columns
        frame = pq.read_table(self.path, columns=["user_id", *names], partitioning=None).to_pandas()
        return frame.sort_values("user_id", ignore_index=True)


@dataclass(frozen=True)
class Span:
    """From the first to the last time of a shop's events, orders and messages, as whole days `[first, end)`."""

    first: datetime
    end: datetime

    @property
    def over(self) -> datetime:
        """The end, or the last midnight where the last day is still under way: what people will do on it is not known.

        Example:
            >>> Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)).over <= datetime.now(UTC)
            True
        """
        return min(self.end, datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))

    @property
    def so_far(self) -> datetime:
        """The end, or that of this hour where the last day is still under way.

        At the midnight to come a window would hold the hours that are still to come, in which nobody did anything.

        Example:
            >>> Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)).so_far.day
            1
        """
        return min(self.end, datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1))


def snapshot(
    tables: Tables,
    cutoff: datetime | ir.TimestampScalar,
    settings: config.Features,
    *,
    categories: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> ir.Table:
    """One row per customer known at the cutoff: `user_id` and the features in their fixed order.

    Known is who has a row in users, events, orders or messages before the cutoff. Features whose table or column the
    shop did not bring are left out (`unavailable` lists them).

    Args:
        tables: All that is known; rows at or after the cutoff are left out here.
        cutoff: A datetime with its time zone, or a timestamp expression.
        settings: Which attributes may be used.
        categories: Categories that get shares of their own (see `top_categories`).
        columns: Only these features, in this order.

    Raises:
        DataError: a naive cutoff, or a column that is no feature here.
        WorkspaceError: settings that name a sensitive attribute without a reason.

    Example:
        >>> shop = Tables.from_frames(events=pd.DataFrame({
        ...     "event_id": ["1", "2"], "user_id": ["ann", "ann"], "event": ["product_viewed"] * 2,
        ...     "occurred_at": pd.to_datetime(["2026-01-01", "2026-03-01"], utc=True)}))
        >>> row = snapshot(shop, datetime(2026, 1, 2, tzinfo=UTC), config.Features())
        >>> row.select("user_id", "product_viewed_7d", "orders_life").execute().to_dict("records")
        [{'user_id': 'ann', 'product_viewed_7d': 1, 'orders_life': 0}]
    """
    groups = _available(tables, cutoff, settings, categories)
    names = [feature.name for group in groups for feature in group.features]
    if columns is not None:
        for unknown in set(columns) - set(names):
            raise DataError(f"{unknown!r} is no feature of this shop{meant(unknown, names, '.')}")
        groups = [group.only(columns) for group in groups]
        names = list(columns)
    people = [group.by_user for group in groups if group.whole]
    if not people:
        raise DataError("There is no table of users, events, orders or messages: bring at least events or orders.")
    details = [group.by_user for group in groups if group.features and not group.whole]
    everybody = reduce(_either, people)
    everybody = reduce(_beside, details, everybody)
    empty = {feature.name: feature.empty for group in groups for feature in group.features}
    return everybody.select("user_id", **{name: _filled(everybody[name], empty[name]) for name in names})


def known_people(tables: Tables, cutoff: datetime | ir.TimestampScalar) -> ir.Table:
    """`user_id` of everybody who has a row in users, events, orders or messages before the cutoff."""
    known = tables.as_of(cutoff)
    found = [known[name].select("user_id") for name in PEOPLE if name in tables.brought]
    everybody = reduce(lambda a, b: a.union(b), found)
    return everybody.filter(~everybody.user_id.isnull()).distinct()


def feature_names(tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns that a snapshot of these tables has, in their order, without `user_id`."""
    return tuple(feature.name for feature in features(tables, settings, categories=categories))


def steady_features(tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> tuple[str, ...]:
    """Those of `feature_names` that say what people are like, rather than what they did lately."""
    return tuple(feature.name for feature in features(tables, settings, categories=categories) if feature.steady)


def features(tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> list[Feature]:
    """The features that a snapshot of these tables has, in their order."""
    return [feature for group in _available(tables, _no_moment(), settings, categories) for feature in group.features]


def unavailable(tables: Tables, settings: config.Features) -> list[Feature]:
    """The features that this shop's tables are too poor for; `feature.lacks(tables)` says what is missing."""
    groups = _groups(tables, _no_moment(), settings, ())
    return [feature for group in groups for feature in group.features if feature.lacks(tables)]


def lacking(tables: Tables, settings: config.Features) -> dict[str, str]:
    """The features that this shop's tables are too poor for, and what each lacks, such as `orders.discount`."""
    return {f.name: f.lacks(tables)[0].replace("|", " or ") for f in unavailable(tables, settings)}


def definitions_hash(tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> str:
    """SHA-256 of the features' SQL over these tables' columns: another definition, another hash.

    It does not depend on the cutoff, nor on where the tables lie.
    """
    return hashlib.sha256(symbolic_sql(tables, settings, categories=categories).encode()).hexdigest()


def symbolic_sql(tables: Tables, settings: config.Features, *, categories: Sequence[str] = ()) -> str:
    """The snapshot's SQL over tables named like the contract's, with DuckDB's variable `cutoff` as the cutoff."""
    unbound, cutoff = symbolic(tables)
    return compiled(snapshot(unbound, cutoff, settings, categories=categories), tables)


def symbolic(tables: Tables) -> tuple[Tables, ir.TimestampScalar]:
    """Tables named like the contract's, with the columns of `tables`, and DuckDB's variable `cutoff`."""
    named = {name: ibis.table(tables[name].schema(), name=name) for name in sorted(tables.brought)}
    unbound = Tables(backend=tables.backend, conformed={**tables.conformed, **named}, brought=tables.brought)
    return unbound, _cutoff_variable(VARIABLE)


def compiled(table: ir.Table, tables: Tables) -> str:
    """DuckDB SQL of an expression over `tables`.

    Ibis shares a filtered table among the groups as a common table expression, which DuckDB would write out
    in full before reading it again; told not to, it reads only the columns that each group needs.
    """
    tree = tables.backend.compiler.to_sqlglot(table)
    for shared in tree.find_all(sql.CTE):
        shared.set("materialized", False)
    return str(tree.sql("duckdb"))


def set_cutoff(cutoff: datetime) -> str:
    """The statement that makes `cutoff` the one of a SQL compiled for any (see `symbolic_sql`)."""
    return f"SET VARIABLE {VARIABLE} = TIMESTAMPTZ '{cutoff.isoformat()}'"


def write(query: str, tables: Tables, path: Path, **told: str) -> None:
    """Write what a query over `tables` gives as one Parquet file, whole or not at all, without reading it into memory.

    What is `told` is kept in the file's metadata.
    """
    with replacing(path) as beside:
        kept = ", ".join(f"{name}: {literal(text)}" for name, text in told.items())
        options = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{kept}}}"
        tables.backend.raw_sql(f"COPY ({query}) TO {literal(beside)} ({options})")


def build(workspace: Workspace, cutoffs: Sequence[datetime] | None = None) -> list[Snapshot]:
    """Write a snapshot per cutoff (by default `default_cutoffs`), oldest first; those that are there already are kept.

    Raises:
        DataError: a cutoff that is naive, before the data or in the future.
        WorkspaceError: the tables are not checked, or the settings cannot be used.
    """
    tables = workspace.checked
    cutoffs = default_cutoffs(workspace) if cutoffs is None else _possible(cutoffs, span(tables))
    if not cutoffs:
        return []
    settings = workspace.settings.features
    categories = fixed_categories(workspace, tables, before=cutoffs[0])
    hashed = definitions_hash(tables, settings, categories=categories)
    fingerprint, until = workspace.fingerprint(), json.dumps(asdict(Watermarks.of(tables)))
    folder = workspace.snapshots_dir / hashed[:12]
    query = compiled(snapshot(tables, _cutoff_variable(VARIABLE), settings, categories=categories), tables)
    found = []
    for cutoff in track(cutoffs, "features"):
        path = folder / f"cutoff={cutoff.astimezone(UTC):%Y-%m-%dT%H%M%SZ}.parquet"
        if not path.is_file() or _told(path).get("fingerprint") != fingerprint:
            tables.backend.raw_sql(set_cutoff(cutoff))
            with alone(workspace.path):  # not while somebody's rows are being removed
                write(query, tables, path, fingerprint=fingerprint, until=until)
        found.append(_read(path, cutoff, hashed, fingerprint))
    return found


def default_cutoffs(workspace: Workspace) -> list[datetime]:
    """The end of the data, and for every label of the settings the cutoffs that leave it a full horizon."""
    settings, known = workspace.settings, span(workspace.checked)
    horizons = {label.horizon_days for label in settings.propensity.values()}
    rolling = {cutoff for days in horizons for cutoff in training_cutoffs(known, settings.training, horizon_days=days)}
    return sorted({known.end, *rolling})


def training_cutoffs(known: Span, settings: config.Training, *, horizon_days: int) -> list[datetime]:
    """Rolling cutoffs, oldest first: the newest leaves a full horizon, each has `step_days` of history before it."""
    newest, step = known.over - timedelta(days=horizon_days), timedelta(days=settings.step_days)
    rolling = [newest - step * number for number in range(settings.cutoffs)]
    return sorted(cutoff for cutoff in rolling if cutoff >= known.first + step)


def span(tables: Tables) -> Span:
    """The whole days that the events, orders and messages cover.

    Raises:
        DataError: there are none.
    """
    ends = []
    for name, column in (("events", "occurred_at"), ("orders", "occurred_at"), ("messages", "sent_at")):
        if tables.has(name, column):
            when = tables[name][column]
            ends.append(tables[name].aggregate(first=when.min(), last=when.max()))
    found = [row for table in ends for row in table.execute().dropna().itertuples()]
    if not found:
        raise DataError("There are no events, orders or messages with a time: bring at least events or orders.")
    day = pd.Timedelta(days=1)
    first, last = min(row.first for row in found), max(row.last for row in found)
    return Span(first=first.floor("D").to_pydatetime(), end=(last.floor("D") + day).to_pydatetime())


def top_categories(tables: Tables, before: datetime, count: int) -> list[str]:
    """The categories with most events and order lines before a moment, most first.

    Example:
        >>> shop = Tables.from_frames(events=pd.DataFrame({
        ...     "event_id": ["1", "2"], "user_id": ["ann", "bob"], "event": ["product_viewed"] * 2,
        ...     "category": ["tea", "cups"], "occurred_at": pd.to_datetime(["2026-01-01", "2026-03-01"], utc=True)}))
        >>> top_categories(shop, datetime(2026, 2, 1, tzinfo=UTC), 8)
        ['tea']
    """
    known = tables.as_of(before)
    rows = [
        with_category(known[name].select("item_id", *(["category"] if name == "events" else [])), known).select(
            "category"
        )
        for name in ("events", "orders")
        if name in tables.brought
    ]
    if not rows:
        return []
    told = reduce(lambda a, b: a.union(b), rows).filter(lambda t: ~t.category.isnull())
    counted = told.group_by("category").agg(rows=told.count())
    ordered = counted.order_by([ibis.desc("rows"), "category"]).limit(count)
    return [str(category) for category in ordered.execute()["category"]]


def fixed_categories(workspace: Workspace, tables: Tables, *, before: datetime) -> list[str]:
    """The workspace's list of top categories, which every snapshot shares so that columns stay the same.

    It is drawn up once, from what was known before the first cutoff, and again only for an earlier cutoff before which
    a category was known, another `features.top_categories` or if nothing was found. Before a category was known the
    columns of any list say nothing.
    """
    path, count = workspace.snapshots_dir / CATEGORIES_FILE, workspace.settings.features.top_categories
    kept: list[str] = []
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        kept = list(stored["categories"]) if stored["count"] == count else []
        if kept and datetime.fromisoformat(stored["before"]) <= before:
            return kept
    categories = top_categories(tables, before, count)
    if kept and not categories:
        return kept
    with replacing(path) as beside:
        beside.write_text(
            json.dumps({"before": before.isoformat(), "count": count, "categories": categories}, indent=1),
            encoding="utf-8",
        )
    return categories


def stored_categories(workspace: Workspace) -> list[str]:
    """The list that `fixed_categories` drew up; empty before the first snapshot."""
    path = workspace.snapshots_dir / CATEGORIES_FILE
    return list(json.loads(path.read_text(encoding="utf-8"))["categories"]) if path.is_file() else []


@ibis.udf.scalar.builtin(name="getvariable")
def _cutoff_variable(variable: str) -> dt.Timestamp(timezone="UTC"):  # type: ignore[valid-type]
    """DuckDB's session variable: SQL compiled once runs for every cutoff."""


def _no_moment() -> ir.TimestampScalar:
    return ibis.null("timestamp('UTC')")


def _groups(
    tables: Tables, cutoff: datetime | ir.TimestampScalar, settings: config.Features, categories: Sequence[str]
) -> Iterator[Group]:
    at = Moment(cutoff_literal(cutoff))
    known = tables.as_of(at.cutoff)
    named = {name: known[name].filter(~known[name].user_id.isnull()) for name in PEOPLE}
    known = replace(known, conformed={**known, **named})
    yield from behaviour.groups(known, at, categories)
    yield from transactions.groups(known, at, categories)
    yield from tastes.groups(known, categories)
    yield from engagement.groups(known, at)
    yield from profile.groups(known, at, settings)


def _available(
    tables: Tables, cutoff: datetime | ir.TimestampScalar, settings: config.Features, categories: Sequence[str]
) -> list[Group]:
    """The groups of the tables that were brought, with the features that can be told."""
    groups = _groups(tables, cutoff, settings, categories)
    return [group.told(tables) for group in groups if group.table in tables.brought]


def _filled(column: ir.Value, empty: int | None) -> ir.Value:
    """The column with its value for nobody's rows; one that may be missing is no whole number, in any snapshot."""
    if empty is not None:
        return column.fill_null(empty)
    return column.cast("float64") if column.type().is_integer() else column


def _either(left: ir.Table, right: ir.Table) -> ir.Table:
    """Everybody who is in either table."""
    joined = left.outer_join(right, "user_id", rname="{name}_right")
    return joined.mutate(user_id=ibis.coalesce(joined.user_id, joined.user_id_right)).drop("user_id_right")


def _beside(left: ir.Table, right: ir.Table) -> ir.Table:
    """Everybody in the left table, with what the right one says of them."""
    return left.left_join(right, "user_id", rname="{name}_right").drop("user_id_right")


def _possible(cutoffs: Sequence[datetime], known: Span) -> list[datetime]:
    """The cutoffs, each once, oldest first."""
    latest = max(known.end, datetime.now(UTC))
    for cutoff in cutoffs:
        if cutoff.tzinfo is None:
            raise DataError(f"cutoff {cutoff} has no time zone; say {cutoff:%Y-%m-%dT%H:%M:%S}+00:00.")
        if cutoff <= known.first:
            raise DataError(
                f"cutoff {cutoff} lies before the data, which begin on {known.first:%Y-%m-%d}. Say a later one."
            )
        if cutoff > latest:
            raise DataError(
                f"cutoff {cutoff} lies in the future: the data end on {known.end:%Y-%m-%d}. Say an earlier one."
            )
    return sorted(set(cutoffs))


def until(path: Path) -> Watermarks | None:
    """Up to which of the state's rows the tables went that a snapshot was made from; None where it does not say."""
    told = _told(path).get("until")
    return Watermarks(**json.loads(told)) if told else None


def _told(path: Path) -> dict[str, str]:
    metadata: Mapping[bytes, bytes] = pq.read_metadata(path).metadata or {}
    return {name.decode(): text.decode() for name, text in metadata.items() if name in (b"fingerprint", b"until")}


def _read(path: Path, cutoff: datetime, definitions: str, fingerprint: str) -> Snapshot:
    file = pq.ParquetFile(path)
    return Snapshot(
        cutoff=cutoff,
        path=path,
        definitions_hash=definitions,
        fingerprint=fingerprint,
        rows=file.metadata.num_rows,
        columns=tuple(name for name in file.schema_arrow.names if name != "user_id"),
    )
