"""Fixtures that every room's tests may use."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.postgres import Cluster, cluster
from data.errors import DataError
from data.state import State, schema

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data; tests that need it are skipped where it is not."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the public data sets are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL that was really started; tests that need it are skipped where it is not installed."""
    running = cluster()
    try:
        started = running.__enter__()
    except DataError as error:
        pytest.skip(str(error))
    yield started
    running.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, one of each kind that a state may have."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    return str(request.getfixturevalue("postgres").new_database())


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> Callable[[State], None]:
    """Makes a state's SQLite take 200 values in a statement; ten are given at once."""
    monkeypatch.setattr(schema, "AT_ONCE", 10)

    def limit(raw: sqlite3.Connection, *_: object) -> None:
        raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 200)

    return lambda state: sa.event.listen(state.engine, "checkout", limit)
