"""25 named features of one cutoff over 20 million events, beside hand-written SQL and pandas for the same columns.

Each contestant runs in a process of its own, from Parquet files to a Parquet file; its CPU seconds (imports and all)
and its peak memory are what the operating system says of that process. Limits: CPU at most 1.3 times the SQL's, 1.5 GB,
equal checksums; ten times the events at most 12 times the CPU; all features at 12 cutoffs at most 12 times one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from benchmarks.result import Result
from data.errors import DataError
from data.workspace import Workspace

SIZES = {"2M": 2_000_000, "20M": 20_000_000, "100M": 100_000_000}
EVENTS_PER_USER = 40
CUTOFF = datetime(2025, 12, 1, tzinfo=UTC)
MEMORY_GB = {"2M": 0.9, "20M": 0.9, "100M": 3.0}
"""DuckDB's limit for Attune and the SQL alike; the rest of a process comes on top."""
LIMITS = {"cpu_ratio_to_sql": 1.3, "peak_gb": 1.5, "cpu_ratio_20M_to_2M": 12.0, "cpu_ratio_12_cutoffs_to_1": 12.0}
PEAK_GB_OF_100M = 4.0
COLUMNS = (
    "days_since_event", "days_since_first_event", "events_30d", "events_90d", "page_viewed_30d", "page_viewed_90d",
    "product_viewed_1d", "product_viewed_7d", "product_viewed_30d", "product_viewed_90d", "products_searched_30d",
    "product_added_7d", "product_added_30d", "product_removed_30d", "checkout_started_30d", "dwell_7d", "dwell_30d",
    "dwell_90d", "events_trend", "sessions_7d", "sessions_30d", "sessions_90d", "categories_90d",
    "category_top_share_90d", "tenure_days",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One contestant's process: CPU seconds (user and system), peak resident memory, and the sums of its columns."""

    cpu_seconds: float
    peak_gb: float
    checksum: tuple[float, ...] = ()


def run(*, data: Path | None, size: str | None) -> Result:
    """Measure at `size` (2M, 20M or 100M events; by default 20M) and, at 20M, at 2M as well.

    Raises:
        DataError: another size, or a folder of data: this benchmark makes its own.
    """
    size = size or "20M"
    if size not in SIZES or data is not None:
        raise DataError(f"features makes its own data: leave --data out and choose --size from {', '.join(SIZES)}.")
    folder = _made(size)
    runs = {name: _measured(name, folder, size) for name in ("attune", "sql")}
    if size != "100M":  # pandas would need all the memory there is
        runs["pandas"] = _measured("pandas", folder, size)
    if len({found.checksum for found in runs.values()}) > 1:
        raise DataError(f"the checksums differ: { {name: found.checksum for name, found in runs.items()} }")
    metrics = {
        "cpu_ratio_to_sql": runs["attune"].cpu_seconds / runs["sql"].cpu_seconds,
        "peak_gb": runs["attune"].peak_gb,
    }
    if "pandas" in runs:
        metrics["cpu_ratio_to_pandas"] = runs["attune"].cpu_seconds / runs["pandas"].cpu_seconds
    if size == "20M":
        runs["attune_2M"] = _measured("attune", _made("2M"), "2M")
        runs["all_features_1_cutoff"] = _measured("build-1", folder, size)
        runs["all_features_12_cutoffs"] = _measured("build-12", folder, size)
        metrics["cpu_ratio_20M_to_2M"] = runs["attune"].cpu_seconds / runs["attune_2M"].cpu_seconds
        cutoffs = runs["all_features_12_cutoffs"].cpu_seconds / runs["all_features_1_cutoff"].cpu_seconds
        metrics["cpu_ratio_12_cutoffs_to_1"] = cutoffs
    limits = {**LIMITS, "peak_gb": PEAK_GB_OF_100M if size == "100M" else LIMITS["peak_gb"]}
    _print(runs, metrics, limits)
    peers = {name: {"cpu_seconds": round(r.cpu_seconds, 1), "peak_gb": round(r.peak_gb, 2)} for name, r in runs.items()}
    return Result(metrics=metrics, peers={**peers, "limits": {k: v for k, v in limits.items() if k in metrics}})


def _print(runs: dict[str, Run], metrics: dict[str, float], limits: dict[str, float]) -> None:
    print(f"{'process':<26}{'CPU s':>10}{'peak GB':>10}")
    for name, found in runs.items():
        print(f"{name:<26}{found.cpu_seconds:>10.1f}{found.peak_gb:>10.2f}")
    print(f"\n{'measure':<26}{'found':>10}{'at most':>10}")
    for name, value in metrics.items():
        limit = f"{limits[name]:>10.1f}" if name in limits else f"{'':>10}"
        print(f"{name:<26}{value:>10.2f}{limit}{'  over' if value > limits.get(name, value) else ''}")


def _measured(name: str, folder: Path, size: str) -> Run:
    """Run a contestant in a fresh process and read what the system says it took."""
    with tempfile.TemporaryDirectory(prefix="attune-features-") as scratch:
        out = Path(scratch) / "out.parquet"
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.features", name, folder, out, str(MEMORY_GB[size])]
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise DataError(f"{name} ended with {process.returncode}; what it said is above.")
        return Run(
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_gb=usage.ru_maxrss * 1024 / 1e9,
            checksum=_checksum(out) if out.exists() else (),
        )


def _checksum(path: Path) -> tuple[float, ...]:
    """Of each column, the sum over everybody of its value by a weight that hangs on who it is."""
    weight = "(1 + hash(user_id) % 97)"
    sums = ", ".join(f"round(sum(coalesce({c}, -1)::DECIMAL(18, 6) * {weight}), 2)::DOUBLE" for c in COLUMNS)
    found = duckdb.execute(f"SELECT count(*), {sums} FROM read_parquet('{path}')").fetchone()
    return tuple(found or ())


def _made(size: str) -> Path:
    """A workspace with `events` and `users` of that many events, made once and kept in the temporary folder."""
    workspace = Workspace.create(Path(tempfile.gettempdir()) / f"attune-features-{size}")
    if workspace.is_checked:
        return workspace.path
    n_users = SIZES[size] // EVENTS_PER_USER
    start = "TIMESTAMPTZ '2025-01-01 00:00:00+00'"
    connection = duckdb.connect(config={"memory_limit": "2GB"})
    connection.execute(f"""
        COPY (
            SELECT
                'e' || i AS event_id,
                'u' || lpad((i // {EVENTS_PER_USER})::VARCHAR, 8, '0') AS user_id,
                ['page_viewed', 'page_viewed', 'page_viewed', 'product_viewed', 'product_viewed', 'products_searched',
                 'product_added', 'product_removed', 'checkout_started', 'order_completed'
                ][1 + (hash(i) % 10)::INT] AS event,
                {start} + to_seconds(happened) AS occurred_at,
                CASE WHEN hash(i, 1) % 10 > 0 THEN {start} + to_seconds(happened + late) END AS received_at,
                's' || (i // 5) AS session_id,
                'i' || (hash(i, 3) % 10000) AS item_id,
                'c' || (hash(i, 4) % 12) AS category,
                (hash(i, 5) % 3000) / 10.0 AS dwell_seconds
            FROM (
                SELECT i, (hash(i // 5, 6) % (365 * 86400) + (i % 5) * 60)::BIGINT AS happened,
                    (hash(i, 2) % 7200)::BIGINT AS late
                FROM range({SIZES[size]}) t(i)
            )
        ) TO '{workspace.tables_dir}/events.parquet' (FORMAT parquet)""")
    connection.execute(f"""
        COPY (
            SELECT 'u' || lpad(i::VARCHAR, 8, '0') AS user_id, born AS updated_at, born AS created_at
            FROM (SELECT i, {start} - to_seconds((hash(i) % (300 * 86400))::BIGINT) AS born FROM range({n_users}) t(i))
        ) TO '{workspace.tables_dir}/users.parquet' (FORMAT parquet)""")
    workspace.checked_dir.mkdir(exist_ok=True)
    for file in workspace.tables_dir.glob("*.parquet"):
        link = workspace.checked_dir / file.name
        link.unlink(missing_ok=True)
        link.hardlink_to(file)
    (workspace.checked_dir / "fingerprint.txt").write_text(workspace.fingerprint(), encoding="utf-8")
    return workspace.path


def attune(folder: Path, out: Path, memory_gb: float) -> None:
    """The columns by the snapshot's definitions."""
    from data.settings import Features
    from data.tables import Tables
    from features.snapshots import compiled, snapshot, write

    tables = Tables.open(folder / "checked", memory_limit_gb=memory_gb)
    write(compiled(snapshot(tables, CUTOFF, Features(), columns=COLUMNS), tables), tables, out)


def build(folder: Path, memory_gb: float, *, n_cutoffs: int) -> None:
    """Every feature there is, a partition per cutoff."""
    import shutil

    from features.snapshots import build as build_snapshots

    os.environ["ATTUNE_DATA__MEMORY_LIMIT_GB"] = str(memory_gb)
    workspace = Workspace.open(folder)
    shutil.rmtree(workspace.snapshots_dir, ignore_errors=True)
    build_snapshots(workspace, [CUTOFF - timedelta(days=7 * number) for number in range(n_cutoffs)])


def sql(folder: Path, out: Path, memory_gb: float) -> None:
    """The columns as an engineer would write them for DuckDB by hand, in one pass for each level of grouping."""
    connection = duckdb.connect(config={"memory_limit": f"{memory_gb}GB", "preserve_insertion_order": False})
    cutoff = f"TIMESTAMPTZ '{CUTOFF.isoformat()}'"
    within = {days: f"occurred_at >= {cutoff} - INTERVAL {days} DAY" for days in (1, 7, 30, 90)}

    def count(event: str, days: int) -> str:
        return f"count(*) FILTER (WHERE event = '{event}' AND {within[days]}) AS {event}_{days}d"

    counts = ", ".join(
        count(event, days)
        for event, windows in (
            ("page_viewed", (30, 90)), ("product_viewed", (1, 7, 30, 90)), ("products_searched", (30,)),
            ("product_added", (7, 30)), ("product_removed", (30,)), ("checkout_started", (30,)),
        )
        for days in windows
    )  # fmt: skip
    dwell = ", ".join(
        f"coalesce(sum(dwell_seconds) FILTER (WHERE {within[days]}), 0) AS dwell_{days}d" for days in (7, 30, 90)
    )
    filled = ", ".join(
        name if name in ("days_since_event", "days_since_first_event", "events_trend", "category_top_share_90d")
        else f"coalesce({name}, 0) AS {name}"
        for name in COLUMNS[:-1]
    )  # fmt: skip
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"""
        COPY (
            WITH known AS NOT MATERIALIZED (
                SELECT * FROM read_parquet('{folder}/checked/events.parquet')
                WHERE occurred_at < {cutoff} AND (received_at IS NULL OR received_at < {cutoff}) AND user_id IS NOT NULL
            ),
            activity AS (
                SELECT user_id,
                    (epoch({cutoff}) - epoch(max(occurred_at))) / 86400 AS days_since_event,
                    (epoch({cutoff}) - epoch(min(occurred_at))) / 86400 AS days_since_first_event,
                    count(*) FILTER (WHERE {within[30]}) AS events_30d,
                    count(*) FILTER (WHERE {within[90]}) AS events_90d,
                    {counts}, {dwell},
                    (count(*) FILTER (WHERE {within[30]}) + 1)
                        / (count(*) FILTER (WHERE {within[90]} AND NOT ({within[30]})) / 2 + 1) AS events_trend
                FROM known GROUP BY user_id
            ),
            visits AS (
                SELECT user_id,
                    count(*) FILTER (WHERE {within[7]}) AS sessions_7d,
                    count(*) FILTER (WHERE {within[30]}) AS sessions_30d,
                    count(*) AS sessions_90d
                FROM (
                    SELECT user_id, session_id, max(occurred_at) AS occurred_at
                    FROM known WHERE {within[90]} AND session_id IS NOT NULL GROUP BY user_id, session_id
                )
                GROUP BY user_id
            ),
            tastes AS (
                SELECT user_id, count(*) AS categories_90d, max(n) / sum(n) AS category_top_share_90d
                FROM (
                    SELECT user_id, category, count(*) AS n
                    FROM known WHERE {within[90]} AND category IS NOT NULL GROUP BY user_id, category
                )
                GROUP BY user_id
            ),
            people AS (
                SELECT user_id, (epoch({cutoff}) - epoch(created_at)) / 86400 AS tenure_days
                FROM read_parquet('{folder}/checked/users.parquet') WHERE updated_at < {cutoff}
                QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY updated_at DESC, created_at) = 1
            )
            SELECT user_id, {filled}, tenure_days
            FROM activity FULL JOIN people USING (user_id)
            LEFT JOIN visits USING (user_id) LEFT JOIN tastes USING (user_id)
        ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)""")


def pandas(folder: Path, out: Path, _memory_gb: float) -> None:
    """The columns with pandas, which knows no limit of memory, from categoricals and whole-column operations."""
    import pandas as pd
    import pyarrow.parquet as pq

    read = ["user_id", "event", "occurred_at", "received_at", "session_id", "category", "dwell_seconds"]
    texts = ["user_id", "event", "session_id", "category"]
    events = pq.read_table(folder / "checked/events.parquet", columns=read, read_dictionary=texts).to_pandas()
    known = (events["occurred_at"] < CUTOFF) & ~(events["received_at"] >= CUTOFF) & events["user_id"].notna()
    events = events.loc[known].drop(columns="received_at")
    users = pq.read_table(folder / "checked/users.parquet").to_pandas()
    users = users[users["updated_at"] < CUTOFF].sort_values("updated_at").drop_duplicates("user_id", keep="last")
    people = pd.Index(sorted(set(events["user_id"].unique()) | set(users["user_id"])), name="user_id")
    found = pd.DataFrame(index=people)

    def by_user(rows: pd.DataFrame) -> pd.api.typing.DataFrameGroupBy:
        return rows.groupby("user_id", observed=True, sort=False)

    def within(rows: pd.DataFrame, days: int) -> pd.DataFrame:
        return rows[rows["occurred_at"] >= CUTOFF - timedelta(days=days)]

    def days_since(times: pd.Series) -> pd.Series:
        return (CUTOFF - times).dt.total_seconds() / 86_400

    found["days_since_event"] = days_since(by_user(events)["occurred_at"].max())
    found["days_since_first_event"] = days_since(by_user(events)["occurred_at"].min())
    recent = {90: within(events, 90)}
    for days in (30, 7, 1):
        recent[days] = within(recent[90], days)
    for name in COLUMNS:
        stem, _, window = name.rpartition("_")
        if stem == "events" and window != "trend":
            found[name] = by_user(recent[int(window[:-1])]).size()
        elif stem == "dwell":
            found[name] = by_user(recent[int(window[:-1])])["dwell_seconds"].sum()
        elif stem in set(events["event"].cat.categories):
            rows = recent[int(window[:-1])]
            found[name] = by_user(rows[rows["event"] == stem]).size()
    newer, both = found["events_30d"].fillna(0), found["events_90d"].fillna(0)
    found["events_trend"] = ((newer + 1) / ((both - newer) / 2 + 1)).where(found["days_since_event"].notna())
    visits = recent[90].groupby(["user_id", "session_id"], observed=True, sort=False)["occurred_at"].max().reset_index()
    for days in (7, 30, 90):
        found[f"sessions_{days}d"] = by_user(within(visits, days)).size()
    tastes = recent[90].groupby(["user_id", "category"], observed=True, sort=False).size().rename("n").reset_index()
    found["categories_90d"] = by_user(tastes).size()
    found["category_top_share_90d"] = by_user(tastes)["n"].max() / by_user(tastes)["n"].sum()
    found["tenure_days"] = days_since(users.set_index("user_id")["created_at"])
    missing = {"days_since_event", "days_since_first_event", "events_trend", "category_top_share_90d", "tenure_days"}
    counts = [name for name in COLUMNS if name not in missing]
    found[counts] = found[counts].fillna(0)
    found.reset_index()[["user_id", *COLUMNS]].to_parquet(out, compression="zstd")


def main() -> None:
    """One contestant: NAME FOLDER OUT MEMORY_GB."""
    name, folder, out, memory_gb = sys.argv[1:]
    where = (Path(folder), Path(out), float(memory_gb))
    if name.startswith("build-"):
        build(where[0], where[2], n_cutoffs=int(name.removeprefix("build-")))
    else:
        {"attune": attune, "sql": sql, "pandas": pandas}[name](*where)


if __name__ == "__main__":
    main()
