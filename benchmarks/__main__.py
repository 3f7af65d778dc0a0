"""`python -m benchmarks NAME [--data PATH] [--size S] [--trials N] [--minutes M]`: a table, and as last line one JSON.

A benchmark is a file of this folder with `run(*, data: Path | None, size: str | None, ...) -> Result`; one that
searches takes `trials: int | None` and `minutes: float | None` too, one that can make other data `seed: int | None`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path

from benchmarks.result import as_json, measured
from data.errors import AttuneError

NAMES = (
    "churn",
    "classification",
    "collaborative",
    "coverage",
    "demo",
    "faults",
    "features",
    "latency",
    "lifetime-value",
    "loop",
    "next-purchase",
    "null",
    "off-policy",
    "offers",
    "propensity-scale",
    "recommend-time-split",
    "sequences",
    "serve",
    "simulate",
    "timing",
    "uplift",
    "variants",
)


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, help="a folder or file laid out like the one in ../shared/data")
    parser.add_argument("--target", help="the column to foresee, of two values")
    parser.add_argument("--treatment", metavar="COL", help="of an experiment: the column of arms")
    parser.add_argument("--control", help="of an experiment: which arm is the control")
    parser.add_argument("--outcome", nargs="+", action="extend", metavar="COL", help="what came of it")
    parser.add_argument(
        "--before", nargs="+", action="extend", metavar="COL", help="known before it; of null, without it all others"
    )
    parser.add_argument("--drop", nargs="+", action="extend", metavar="COL", help="columns to leave out, such as ids")
    parser.add_argument("--size", help="how large, where a benchmark makes its own data (2M, 20M, 100M)")
    parser.add_argument("--trials", type=int, help="of a search, at most so many")
    parser.add_argument("--minutes", type=float, help="of all searches; with the refit where one model wins")
    parser.add_argument("--seed", type=int, help="of a shop that the benchmark makes: another seed, another shop")
    parser.add_argument("--world", type=Path, help="of simulated shops: a TOML file laid over the default world")
    options = parser.parse_args()
    benchmark = importlib.import_module(f"benchmarks.{options.name.replace('-', '_')}")
    taken = inspect.signature(benchmark.run).parameters
    asked = {name: value for name, value in vars(options).items() if name != "name"}
    if strange := [name for name, value in asked.items() if name not in taken and value is not None]:
        parser.error(f"{options.name} takes no --{strange[0]}.")
    try:
        with measured() as usage:
            result = benchmark.run(**{name: value for name, value in asked.items() if name in taken})
    except AttuneError as error:
        parser.exit(1, f"{options.name}: {error}\n")
    print(as_json(options.name, result, usage))


if __name__ == "__main__":
    main()
