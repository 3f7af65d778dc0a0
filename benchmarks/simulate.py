"""How long and how large the simulated shop is: 500,000 users and 20 million events in 90 s and 4 GB on two cores."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

from benchmarks.result import KIB_PER_GB, Result, measured
from data.errors import DataError
from simulation.shop import simulate

USERS = {"20k": 20_000, "100k": 100_000, "500k": 500_000}
DAYS = 110
"""So many that 500,000 users leave a little more than 20 million events."""
LIMITS = {"seconds": 90.0, "peak_gb": 4.0, "events": 20_000_000}


def run(*, data: Path | None, size: str | None) -> Result:
    """Simulate `size` users (20k, 100k or 500k; by default 500k) into a temporary folder.

    Raises:
        DataError: another size, or a folder of data: this benchmark makes its own.
    """
    size = size or "500k"
    if size not in USERS or data is not None:
        raise DataError(f"simulate makes its own data: leave --data out and choose --size from {', '.join(USERS)}.")
    with tempfile.TemporaryDirectory(prefix="attune-simulate-") as folder:
        with measured() as usage:
            made = simulate(folder, users=USERS[size], days=DAYS)
        on_disk = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet")) / 1e9
    metrics = {
        "users": made.users,
        "events": made.rows["events"],
        "rows": sum(made.rows.values()),
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GB,
        "disk_gb": on_disk,
    }
    limits = LIMITS if size == "500k" else {}
    print(f"{'measure':<14}{'found':>14}{'limit':>14}")
    for name, value in metrics.items():
        print(f"{name:<14}{value:>14,.2f}{limits.get(name, ''):>14}")
    return Result(metrics=metrics, peers={"limits": limits})
