"""One small simulated shop for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data.audit import Audit
from data.checks import check
from data.workspace import Workspace
from simulation.shop import simulate

USERS, DAYS = 2000, 120


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder, users=USERS, days=DAYS, seed=3)
    return Workspace.open(folder)


@pytest.fixture(scope="session")
def audited(shop: Workspace) -> Audit:
    """What the check says of the shop; the shop is checked then."""
    return check(shop)


@pytest.fixture(scope="session")
def truth(shop: Workspace):
    """The truth about people, a pandas frame."""
    return pq.read_table(shop.path / "truth" / "people.parquet").to_pandas()


@pytest.fixture(scope="session")
def sql(shop: Workspace):
    """Run SQL over the shop's tables and `truth_people`, `truth_dirty`; gives a list of rows."""
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone='UTC'")
    for folder, prefix in ((shop.tables_dir, ""), (shop.path / "truth", "truth_")):
        for file in sorted(Path(folder).glob("*.parquet")):
            db.execute(f"CREATE VIEW {prefix}{file.stem} AS FROM read_parquet('{file}')")
    return lambda query: db.execute(query).fetchall()
