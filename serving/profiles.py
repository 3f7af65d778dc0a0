"""Feature rows of customers: the newest snapshot's, and for those touched since, computed anew from the same SQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from ibis.expr import types as ir

from data.contract import TABLES
from data.errors import DataError
from data.sql import literal, pointer, quoted
from data.state import State
from data.state.arrow import EXTRA, SEQ, batches, schema
from data.state.reads import Watermarks
from data.state.schema import APPENDED, AT_ONCE, slices
from data.state.schema import tables as state_tables
from data.tables import Tables
from data.vocabulary import Vocabulary
from data.workspace import Workspace
from features.hours import Habits
from features.online import OnlineFeatures, OnlineHabits
from features.snapshots import definitions_hash, features, stored_categories, until

log = logging.getLogger("attune")

PERSONAL = ("users", "events", "orders", "messages", "identities")
CHOSEN = ("preferences",)
"""What they chose themselves: no feature, but what is sent to them goes by it."""
OF_PEOPLE = (*PERSONAL, *CHOSEN, "consents", "decisions")
"""Every table that names people."""
TOUCHING = ("events", "orders", "identities", "users", "messages")


@dataclass(frozen=True)
class Row:
    """Where a customer's features are: a row of a frame that many share."""

    frame: pd.DataFrame
    position: int


@lru_cache
def _since(name: str) -> sa.Select[Any]:
    """Who has rows in a table of the state after `seen`, with their newest."""
    table = state_tables[name].c
    order = table.seq if name in APPENDED else table.changed_at
    whose = [table.user_id, table.anonymous_id] if name == "events" else [table.user_id]
    seen: sa.BindParameter[Any] = sa.bindparam("seen", type_=order.type)
    return sa.select(sa.func.max(order), *whose).where(order > seen).group_by(*whose)


def _newer() -> sa.CompoundSelect[Any]:
    """Ids of users and of visitors of whom the state has rows beyond the checked tables."""
    events, orders, identities, users, messages = (state_tables[name].c for name in TOUCHING)
    user_ids: sa.BindParameter[Any] = sa.bindparam("user_ids", expanding=True)
    visitors: sa.BindParameter[Any] = sa.bindparam("visitors", expanding=True)
    appended = ((events, "events"), (orders, "orders"), (identities, "identities"))
    parts = [
        *(sa.select(of.user_id).where(of.user_id.in_(user_ids), of.seq > sa.bindparam(name)) for of, name in appended),
        *(sa.select(of.user_id).where(of.user_id.in_(user_ids)) for of in (users, messages)),
        *(
            sa.select(of.anonymous_id).where(of.anonymous_id.in_(visitors), of.seq > sa.bindparam(name))
            for of, name in ((events, "events"), (identities, "identities"))
        ),
    ]
    return sa.union(*parts)


NEWER = _newer()


class ByUser:
    """Rows of a table in memory, found by user; texts are kept once."""

    def __init__(self, rows: ir.Table) -> None:
        """Read them all; each has a `user_id`."""
        told = rows.order_by("user_id").to_pyarrow().combine_chunks()
        self._rows = told.to_pandas(strings_to_categorical=True)
        self._texts = [name for name, kind in self._rows.dtypes.items() if isinstance(kind, pd.CategoricalDtype)]
        users = self._rows["user_id"].cat
        self._users = Vocabulary(users.categories)
        self._indptr = np.searchsorted(users.codes.to_numpy(), np.arange(len(self._users) + 1))

    def of(self, user_ids: Sequence[str]) -> pd.DataFrame:
        """The rows of these users, in any order."""
        codes = self._users.codes(user_ids)
        spans = [np.arange(*self._indptr[[code, code + 1]]) for code in codes[codes >= 0]]
        found = self._rows.iloc[np.concatenate([np.zeros(0, int), *spans])]
        return found.astype(dict.fromkeys(self._texts, object)).reset_index(drop=True)


class Profiles:
    """The features of every customer, kept up with the state by `refresh`, which one thread at a time may call.

    Attributes:
        columns: Names of the features.
        trouble: Why nobody but who did something lately is known, if so.
        unread: Attributes with values in the state that are not of the kind of the checked column, which is told too;
            they read as missing.
        about: What each says, and its unit.
        example: One row with a value of its kind in each feature, by which conditions are read before anybody is known.
    """

    def __init__(self, workspace: Workspace, tables: Tables, state: State, since: Watermarks) -> None:
        """Open the newest snapshot; who was touched since its tables were synced is computed by the first refresh."""
        categories = stored_categories(workspace)
        settings = workspace.settings.features
        self._state = state
        self._folder = workspace.checked_dir
        self._online = OnlineFeatures(tables, settings, categories=categories)
        self._habits = _habits(tables)
        self._items = tables["items"].to_pyarrow()
        self._since = since
        self._visitors = ByUser(tables["identities"].select("user_id", "anonymous_id"))
        self.columns = self._online.columns
        told = features(tables, settings, categories=categories)
        self.about = {feature.name: (feature.about, feature.unit) for feature in told}
        self._snapshots, self._opened = workspace.snapshots_dir, _newest(workspace.snapshots_dir)
        folder = workspace.snapshots_dir / definitions_hash(tables, settings, categories=categories)[:12]
        newest = max(folder.glob("cutoff=*.parquet"), default=None)
        self.unread: dict[str, str] = {}
        self.trouble = "" if newest else "there is no snapshot of these features; `attune features` makes one"
        if newest is None:
            log.warning(self.trouble)
        nobody = self._online.compute({}, datetime.now(UTC))
        self.example = pd.DataFrame({
            name: [0.0 if pd.api.types.is_numeric_dtype(nobody[name].dtype) else ""] for name in self.columns
        })  # fmt: skip
        frame = pd.read_parquet(newest, partitioning=None) if newest else nobody
        frame = frame.set_index(frame.pop("user_id").astype(object))
        self._users = Vocabulary(frame.index)
        self._snapshot = frame
        self._touched: dict[str, Row] = {}
        self._waiting: dict[str, None] = {}
        self._forgotten = 0
        self._seen: dict[str, Any] = {
            **asdict((newest and until(newest)) or since),
            **dict.fromkeys(("users", "messages"), datetime(1970, 1, 1, tzinfo=UTC)),
        }
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone='UTC'")
        self._connection.execute("SET threads=1")
        self._kinds = {
            name: {
                field: str(kind)
                for field, kind, *_ in self._connection.execute(f"DESCRIBE {self._checked(name)}").fetchall()
            }
            for name in OF_PEOPLE
            if name in tables.brought
        }

    @property
    def outdated(self) -> bool:
        """Whether a snapshot of a newer cutoff, or this one anew, was written since."""
        return _newest(self._snapshots) != self._opened

    @property
    def frames(self) -> list[pd.DataFrame]:
        """In which `row` finds people, by id: the snapshot's, and those of who was touched since."""
        return list(
            {id(frame): frame for frame in (self._snapshot, *(r.frame for r in [*self._touched.values()]))}.values()
        )

    def row(self, user_id: str) -> Row | None:
        """Where somebody's features are; None if nobody knows them, or they were erased."""
        if self._state.tombstones.holds(user_id):  # tables and snapshots may still have them for a moment
            return None
        row = self._touched.get(user_id)
        if row is None and (code := self._users.code(user_id)) >= 0:
            row = Row(self._snapshot, code)
        return row

    def of(self, user_ids: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """The features of those who are known, and their ids in the same order."""
        rows: dict[int, tuple[pd.DataFrame, list[int], list[str]]] = {}
        for user_id in dict.fromkeys(user_ids):
            if (row := self.row(user_id)) is not None:
                _, positions, ids = rows.setdefault(id(row.frame), (row.frame, [], []))
                positions.append(row.position)
                ids.append(user_id)
        if not rows:
            return self._snapshot.iloc[:0], []
        found = pd.concat([frame.iloc[positions] for frame, positions, _ in rows.values()], ignore_index=True)
        return found, [user_id for _, _, ids in rows.values() for user_id in ids]

    def there(self, user_ids: Sequence[str]) -> list[str]:
        """Each once, but for who was erased: tables and snapshots may still have them for a moment."""
        return [user_id for user_id in dict.fromkeys(user_ids) if not self._state.tombstones.holds(user_id)]

    @property
    def everybody(self) -> list[str]:
        """The ids of all who are known."""
        return self.there([*self._users.all_ids, *self._touched])

    def habits(self, user_ids: Sequence[str]) -> Habits | None:
        """When these customers answer and are in the shop, as of now; None where no message told of an open.

        Raises:
            StateUnavailableError: the state cannot be read.
        """
        if self._habits is None:
            return None
        return self._habits.compute(self.rows(user_ids, (*PERSONAL, *CHOSEN)), datetime.now(UTC))

    def refresh(self) -> int:
        """Compute the features of those touched since the last time; of how many. Whoever was erased is forgotten."""
        erased = self._state.tombstones
        if len(erased.hashes) != self._forgotten:
            self._touched = {user_id: row for user_id, row in self._touched.items() if not erased.holds(user_id)}
            self._forgotten = len(erased.hashes)
        for name in TOUCHING:
            self._waiting.update(dict.fromkeys(self._touched_in(name)))
        done = 0
        while self._waiting:
            batch = list(self._waiting)[:AT_ONCE]
            self._touched.update(self._computed(batch))
            for user_id in batch:
                del self._waiting[user_id]
            done += len(batch)
        return done

    def _computed(self, user_ids: Sequence[str]) -> dict[str, Row]:
        """Rows by id. Somebody whose rows cannot be computed keeps the old one, and does not keep others waiting."""
        try:
            frame = self._online.compute(self.rows(user_ids), datetime.now(UTC))
        except (duckdb.Error, DataError) as error:
            if len(user_ids) == 1:
                # Whose they are, and the values in the error, are not for every log.
                log.error("the features of a customer cannot be computed: %s", type(error).__name__)  # noqa: TRY400
                log.debug("they are those of %r", user_ids[0], exc_info=error)
                return {}
            half = len(user_ids) // 2
            return self._computed(user_ids[:half]) | self._computed(user_ids[half:])
        asked = set(user_ids)
        frame = frame.set_index("user_id")
        return {user_id: Row(frame, position) for position, user_id in enumerate(frame.index) if user_id in asked}

    def _touched_in(self, name: str) -> list[str]:
        """Who has rows in a table of the state that were not looked at yet; a visitor's are of whom they became."""
        with self._state.reading() as connection:
            found = connection.execute(_since(name), {"seen": self._seen[name]}).all()
        visitors = [row.anonymous_id for row in found if row.user_id is None and name == "events"]
        became = self._became(visitors)
        if found:  # once nothing of it can get lost any more
            self._seen[name] = max(newest for newest, *_ in found)
        return [row.user_id for row in found if row.user_id is not None] + became

    def _became(self, visitors: Sequence[str]) -> list[str]:
        """The users whom visitors became, in the checked tables or in the state."""
        found: list[str] = []
        if visitors:
            with self._reading() as connection:
                for some in slices(visitors):
                    found += self._known(connection, "identities", "anonymous_id", some)["user_id"].to_pylist()
        return found

    def newer(self, user_ids: Sequence[str]) -> set[str]:
        """Of whom the state has rows that are not in the checked tables, or that may have changed since.

        Raises:
            StateUnavailableError: the state cannot be read.
        """
        visitors = self._visitors.of(user_ids)
        ids = visitors["anonymous_id"].unique().tolist()
        found: set[str] = set()
        with self._state.reading() as connection:
            for users, others in zip_longest(slices(user_ids), slices(ids), fillvalue=()):
                values = {**asdict(self._since), "user_ids": list(users), "visitors": list(others)}
                found |= set(connection.scalars(NEWER, values))
        became = visitors.loc[visitors["anonymous_id"].isin(found), "user_id"]
        return found.union(became).intersection(user_ids)

    def rows(self, user_ids: Sequence[str], names: Sequence[str] = PERSONAL) -> dict[str, pa.Table]:
        """All that is known of these customers, in the checked tables and in the state, and the items; in any thread.

        Args:
            user_ids: Of whom.
            names: Of which tables.
        """
        user_ids = self.there(user_ids)
        with self._reading() as connection:
            rows = {name: self._known(connection, name, "user_id", user_ids) for name in names}
            visitors = rows["identities"]["anonymous_id"].unique().to_pylist() if "identities" in rows else []
            if visitors:
                # Whole, because a visitor's events join whom they became first, who may be somebody else.
                rows["identities"] = self._known(connection, "identities", "anonymous_id", visitors)
                theirs = self._known(connection, "events", "anonymous_id", visitors)
                anonymous = theirs.filter(pc.is_null(theirs["user_id"]))
                rows["events"] = pa.concat_tables([rows["events"], anonymous], promote_options="permissive")
        return {**rows, "items": self._items}

    def visits(self, anonymous_id: str) -> pa.Table:
        """What a visitor did who was not known then; in any thread."""
        with self._reading() as connection:
            did = self._known(connection, "events", "anonymous_id", self.there([anonymous_id]))
        return did.filter(pc.is_null(did["user_id"]))

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of this thread's own."""
        with self._connection.cursor() as connection:
            connection.execute("SET TimeZone='UTC'")
            yield connection

    def _known(self, connection: duckdb.DuckDBPyConnection, name: str, column: str, ids: Sequence[str]) -> pa.Table:
        """The rows of a table with one of `ids`; a row that both have as the state has it."""
        state = state_tables[name]
        with self._state.reading() as reading:
            queries = (sa.select(state).where(state.c[column].in_(some)) for some in slices(ids))
            found = chain.from_iterable(batches(reading, query, name) for query in queries)
            live = pa.Table.from_batches(found, schema(name))
        kinds = self._kinds.get(name, {})
        parts = [live.drop_columns([EXTRA, SEQ])]
        extra = {field: kind for field, kind in kinds.items() if field not in schema(name).names}
        if live.num_rows:  # what is there for nobody need not be planned
            connection.register("live", live)
        if live.num_rows and extra:
            parts = [self._cast(connection, name, extra)]
        if column in kinds:  # else the tables have none such
            connection.register("wanted", pa.table({"id": pa.array(ids, pa.string())}))
            query_checked = f"SELECT * FROM ({self._checked(name)}) WHERE {column} IN (SELECT id FROM wanted)"
            if live.num_rows:
                key = ", ".join(f'"{field}"' for field in TABLES[name].key if field in kinds)
                query_checked = f"SELECT * FROM ({query_checked}) ANTI JOIN live USING ({key})"
            parts.append(connection.sql(query_checked).to_arrow_table())
        return pa.concat_tables(parts, promote_options="permissive")

    def _cast(self, connection: duckdb.DuckDBPyConnection, name: str, kinds: Mapping[str, str]) -> pa.Table:
        """The rows of `live` with its attributes as columns of these kinds; what does not fit is noted as unread."""
        told = {field: f"(extra ->> {literal(pointer(field))})" for field in kinds}
        values = {field: f"TRY_CAST({told[field]} AS {kind})" for field, kind in kinds.items()}
        columns = ", ".join(f"{value} AS {quoted(field)}" for field, value in values.items())
        lost = ", ".join(f"{told[field]} IS NOT NULL AND {value} IS NULL" for field, value in values.items())
        sql = f"SELECT * EXCLUDE ({EXTRA}, {SEQ}), {columns}, [{lost}] AS {EXTRA} FROM live"
        rows = connection.sql(sql).to_arrow_table()
        for found in set(map(tuple, rows[EXTRA].to_pylist())):
            for field, unread in zip(kinds, found, strict=True):
                if unread and f"{name}.{field}" not in self.unread:
                    log.warning("%s.%s: values in the live state are no %s: read as missing", name, field, kinds[field])
                    self.unread = {**self.unread, f"{name}.{field}": kinds[field]}
        return rows.drop_columns([EXTRA])

    def _checked(self, name: str) -> str:
        return f"SELECT * FROM read_parquet({literal(self._folder / f'{name}.parquet')})"


def _habits(tables: Tables) -> OnlineHabits | None:
    try:
        return OnlineHabits(tables)
    except DataError as error:
        log.info("nobody's hour can be told: %s", error)
        return None


def _newest(snapshots: Path) -> tuple[str, int] | None:
    """By what the newest snapshot is known again, whatever its definitions: the first build settles the categories."""
    return max(((file.name, file.stat().st_mtime_ns) for file in snapshots.glob("*/cutoff=*.parquet")), default=None)
