"""The simulated shop: `simulate` writes its tables, and apart from them the truth behind them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError, WorkspaceError
from data.files import replacing
from data.progress import track
from data.workspace import Workspace
from simulation.browsing import browse, identities_table, make_visits
from simulation.catalogue import Items, items_table, offers_table, variants_table
from simulation.dirt import soil
from simulation.messaging import (
    consents_table,
    decisions_table,
    messages_table,
    outcomes_table,
    plan,
    preferences_table,
    send,
)
from simulation.people import draw_people, truth_table, users_table
from simulation.scene import Scene, make_scene
from simulation.world import World

BATCH = 8_000
"""Customers simulated at a time: bounds memory, and is part of what a seed means."""
WORKERS = 2
UNIQUE = {"event_id", "order_id", "message_id", "decision_id", "outcome_id", "occurred_at", "received_at", "at"}
"""Columns whose values hardly repeat: Parquet's dictionaries would only cost time."""
TRUTH = "truth"
"""The folder of a workspace that only tests, benchmarks and the simulation read."""

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class SimulationSummary:
    """What was simulated.

    Attributes:
        users: Customers.
        days: Days.
        seed: The seed.
        start: The first midnight.
        end: Nothing happens at or after it.
        rows: Rows of each table.
    """

    users: int
    days: int
    seed: int
    start: datetime
    end: datetime
    rows: dict[str, int]


def simulate(
    workspace: Workspace | Path | str,
    *,
    users: int = 20_000,
    days: int = 180,
    seed: int = 0,
    world: World | None = None,
) -> SimulationSummary:
    """Write `tables/` and `truth/` of a workspace; the same arguments give the same rows.

    Args:
        workspace: A workspace, or the folder to make one in.
        users: Customers.
        days: Days, up to the world's end.
        seed: Another seed, another shop.
        world: The parameters; None is the default world.

    Raises:
        WorkspaceError: the workspace holds tables that were not simulated.
        DataError: fewer than one user or 30 days.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     simulate(folder, users=50, days=30).rows["items"] > 1500
        True
    """
    if users < 1 or days < 30:
        raise DataError(f"users = {users}, days = {days}: a shop needs at least 1 user and 30 days.")
    world = world or World.load()
    if not isinstance(workspace, Workspace):
        workspace = Workspace.create(workspace)
    truth_dir = workspace.path / TRUTH
    if workspace.tables_dir.is_dir() and any(workspace.tables_dir.iterdir()) and not truth_dir.is_dir():
        raise WorkspaceError(
            f"{workspace.tables_dir} holds tables that were not simulated; they would be lost. "
            "Choose another folder with --workspace."
        )
    scene = make_scene(world, _stream(seed, 0), days=days)

    def batch(number: int) -> Rows:
        count = min(BATCH, users - number * BATCH)
        return _batch(scene, _stream(seed, 1, number), number=number, count=count)

    with replacing(workspace.tables_dir) as tables, replacing(truth_dir) as truth:
        with _Writer(tables) as table_writer, _Writer(truth) as truth_writer:
            catalogue = {
                "items": items_table(world, scene.items, start_us=scene.calendar.start_us),
                "offers": offers_table(world),
                "variants": variants_table(world),
            }
            catalogue, dirty = soil(catalogue, _stream(seed, 2), share=world.dirt.share, batch="c")
            table_writer.write(catalogue)
            truth_writer.write({"items": _items_truth(scene.items), "dirty": dirty})
            batches = range(-(-users // BATCH))
            for _, rows in zip(track(batches, "simulating customers"), _in_order(batch, batches), strict=True):
                table_writer.write(rows.tables)
                truth_writer.write(rows.truth)
        (truth / "world.json").write_text(world.model_dump_json(indent=1), encoding="utf-8")
        summary = SimulationSummary(
            users=users,
            days=days,
            seed=seed,
            start=world.time.end - timedelta(days=days),
            end=world.time.end,
            rows=table_writer.rows,
        )
        (truth / "summary.json").write_text(json.dumps(asdict(summary), default=str, indent=1), encoding="utf-8")
    return summary


@dataclass(frozen=True)
class Rows:
    """Rows of one batch: those a shop sees, and the truth behind them, by table."""

    tables: dict[str, pa.Table]
    truth: dict[str, pa.Table]


def _batch(scene: Scene, rng: np.random.Generator, *, number: int, count: int) -> Rows:
    """Play out one batch of customers, from who they are to what became of it."""
    people = draw_people(scene, rng, first=number * BATCH, count=count)
    sent = send(scene, people, rng)
    offers = plan(scene, people, sent)
    visits = make_visits(scene, people, sent, offers, rng)
    browsed = browse(scene, people, visits, offers, rng, batch=number)
    tables = {
        "users": users_table(scene, people, rng),
        "identities": identities_table(scene, people, rng, batch=number),
        "events": browsed.events,
        "orders": browsed.orders,
        "messages": messages_table(scene, people, sent, batch=number),
        "consents": consents_table(scene, people, sent, rng),
        "preferences": preferences_table(scene, people, rng),
        "decisions": decisions_table(scene, people, sent, batch=number),
        "outcomes": outcomes_table(scene, sent, browsed.conversions, batch=number),
    }
    tables, dirty = soil(tables, rng, share=scene.world.dirt.share, batch=str(number))
    return Rows(tables=tables, truth={"people": truth_table(scene, people), "dirty": dirty})


def _items_truth(items: Items) -> pa.Table:
    return pa.table(
        {
            "item_id": items.ids,
            "log_popularity": pa.array(items.log_popularity),
            "rebuy": pa.array(items.rebuy),
            "factors": pa.FixedSizeListArray.from_arrays(pa.array(items.factors.ravel()), items.factors.shape[1]),
        }
    )


def _stream(*key: int) -> np.random.Generator:
    """Random numbers that depend on the key alone."""
    return np.random.default_rng(key)


def _in_order(make: Callable[[S], T], steps: Sequence[S]) -> Iterator[T]:
    """`make(step)` for each step, in order, a few ahead of the reader."""
    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[Future[T]] = deque()
        for step in steps:
            ahead.append(pool.submit(make, step))
            if len(ahead) > WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Writer:
    """Parquet files of a folder, each written batch by batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, int] = {}
        self._open: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._open.values():
            writer.close()

    def write(self, tables: dict[str, pa.Table]) -> None:
        """Append rows; the first batch of a table makes its file."""
        for name, table in tables.items():
            if name not in self._open:
                repeated = [column for column in table.column_names if column not in UNIQUE]
                self._open[name] = pq.ParquetWriter(
                    self.folder / f"{name}.parquet", table.schema, compression="snappy", use_dictionary=repeated
                )
            self._open[name].write_table(table)
            self.rows[name] = self.rows.get(name, 0) + len(table)
