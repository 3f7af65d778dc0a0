"""`python -m benchmarks NAME [--data PATH] [--size S]`: prints a table, and as its last line one JSON object.

A benchmark is a file of this folder with `run(*, data: Path | None, size: str | None) -> Result`.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.result import as_json, measured
from data.errors import AttuneError

NAMES = ("churn", "demo", "features", "recommend-time-split", "simulate")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, help="a folder or file laid out like the one in ../shared/data")
    parser.add_argument("--size", help="how large, where a benchmark makes its own data (2M, 20M, 100M)")
    options = parser.parse_args()
    benchmark = importlib.import_module(f"benchmarks.{options.name.replace('-', '_')}")
    try:
        with measured() as usage:
            result = benchmark.run(data=options.data, size=options.size)
    except AttuneError as error:
        parser.exit(1, f"{options.name}: {error}\n")
    print(as_json(options.name, result, usage))


if __name__ == "__main__":
    main()
