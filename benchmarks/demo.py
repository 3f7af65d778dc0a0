"""The two-command promise: `attune demo` from nothing to a live answer, under 4 minutes and 4 GB on two cores."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.result import KIB_PER_GB, Result, measured
from data.errors import DataError

LIMITS = {"seconds": 240.0, "peak_gb": 4.0}


def run(*, data: Path | None, size: str | None) -> Result:
    """Run the command as a person would and show what it shows.

    Raises:
        DataError: data or a size was named, or the demo failed.
    """
    if data is not None or size is not None:
        raise DataError("demo makes its own shop of its usual size: leave --data and --size out.")
    with tempfile.TemporaryDirectory(prefix="attune-demo-") as folder, measured() as usage:
        done = subprocess.run([sys.executable, "-m", "cli.main", "demo", "--workspace", f"{folder}/shop"], check=False)
    if done.returncode:
        raise DataError(f"attune demo ended with {done.returncode}; what it printed tells why.")
    metrics = {
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / KIB_PER_GB,
    }
    print(f"\n{'measure':<14}{'found':>10}{'limit':>10}")
    for name, value in metrics.items():
        print(f"{name:<14}{value:>10.2f}{LIMITS.get(name, ''):>10}")
    return Result(metrics=metrics, peers={"limits": LIMITS})
