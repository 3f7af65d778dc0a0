"""What holds for every import: whole or not at all, never twice, clear when it cannot, and never all in memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

import data.sources.write
from cli.main import app
from data.errors import DataError
from data.sources import SOURCES, import_source
from data.workspace import Workspace

EVENTS = "user,item,event,timestamp\n1,7,view,1430623510\n2,7,buy,1430623535\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path / "events.csv"


def test_importing_twice_does_not_double_a_row(file: Path, tmp_path: Path) -> None:
    import_source("retailrocket", file, tmp_path / "shop")
    with pytest.raises(DataError, match=r"has events already. Add --replace"):
        import_source("retailrocket", file, tmp_path / "shop")
    import_source("retailrocket", file, tmp_path / "shop", replace=True)
    assert Workspace.open(tmp_path / "shop").tables["events"].count().execute() == 2


def test_replacing_takes_the_place_of_a_table_in_another_format(file: Path, tmp_path: Path) -> None:
    shop = Workspace.create(tmp_path / "shop")
    (shop.tables_dir / "events.csv").write_text("event_id\n1\n")
    import_source("retailrocket", file, shop.path, replace=True)
    assert [path.name for path in shop.tables_dir.iterdir()] == ["events.parquet"]


def test_replacing_leaves_what_was_synced(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop/tables/events"
    folder.mkdir(parents=True)
    (folder / "imported.parquet").write_text("old")
    (folder / "state.parquet").write_text("live")
    with pytest.raises(DataError, match="has events already"):
        import_source("retailrocket", file, tmp_path / "shop")
    import_source("retailrocket", file, tmp_path / "shop", replace=True)
    assert (folder / "state.parquet").read_text() == "live"
    assert pd.read_parquet(folder / "imported.parquet")["event"].tolist() == ["product_viewed", "order_completed"]
    assert [path.name for path in folder.parent.iterdir()] == ["events"]


def test_an_import_that_fails_leaves_everything_as_it_was(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = tmp_path / "shop"
    import_source("retailrocket", file, shop)
    before = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}

    def full(*_: object) -> Iterator[None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data.sources.write, "_write", full)
    with pytest.raises(DataError, match="No space left"):
        import_source("retailrocket", file, shop, replace=True)
    assert {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()} == before
    assert not list(shop.glob(".import-*"))


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "tables"])
def test_a_missing_file_an_empty_one_and_one_of_another_kind_are_told_apart(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist. Check the path"):
        import_source(source, tmp_path / "nowhere", tmp_path / "shop")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is an empty folder|has no"):
        import_source(source, tmp_path / "empty", tmp_path / "shop")
    (tmp_path / "noise.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"missing|nothing in|has the columns|has no"):
        import_source(source, tmp_path / "noise.csv", tmp_path / "shop")
    (tmp_path / "void.csv").write_text("")
    with pytest.raises(DataError, match=r"void.csv"):
        import_source(source, tmp_path / "void.csv", tmp_path / "shop")


def test_missing_columns_and_no_rows_are_named(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,what,event,timestamp\n1,2,view,3\n")
    with pytest.raises(DataError, match=r"\['item'\] are missing; it has \['user', 'what', 'event', 'timestamp'\]"):
        import_source("retailrocket", tmp_path / "events.csv", tmp_path / "shop")
    (tmp_path / "events.csv").write_text("user,item,event,timestamp\n")
    with pytest.raises(DataError, match="has no rows"):
        import_source("retailrocket", tmp_path / "events.csv", tmp_path / "shop")


def test_a_file_that_is_not_what_its_name_says_is_told(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").write_text("this is no Parquet")
    with pytest.raises(DataError, match=r"events.parquet could not be imported"):
        import_source("retailrocket", tmp_path / "events.parquet", tmp_path / "shop")


def test_an_unknown_source_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'shopify' is no source. Known: segment"):
        import_source("shopify", tmp_path, tmp_path / "shop")


def test_another_currency_than_the_workspace_says_is_noted(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "shop", currency="EUR")
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    (tmp_path / "lines.csv").write_text(f"{header}\n1,22139,CUP,1,2011-07-01 10:00:00,2.5,17850,France\n")
    done = import_source("online-retail", tmp_path / "lines.csv", tmp_path / "shop")
    assert "amounts are in GBP" in done.notes[0]


def test_the_command_says_what_came_in_and_what_comes_next(file: Path, tmp_path: Path) -> None:
    file.write_text(EVENTS + "3,7,view,later\n")
    said = CliRunner().invoke(app, ["import", "retailrocket", str(file), "--workspace", str(tmp_path / "shop")])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert lines[0].split() == ["events", "2", "rows"]
    assert "1 row: timestamp is not a time" in lines[1]
    assert lines[-1] == f"Next: attune check --workspace {tmp_path / 'shop'}"


def test_the_help_names_every_source() -> None:
    said = CliRunner().invoke(app, ["import", "--help"], terminal_width=200).output
    assert all(name in said for name in SOURCES)


@pytest.mark.slow
def test_a_file_larger_than_memory_imports(tmp_path: Path) -> None:
    """630 MB of calls, in a process whose DuckDB may use 300 MB."""
    calls, rows = tmp_path / "calls.jsonl", 1_300_000
    duckdb.sql(f"""
        COPY (
            SELECT 'track' AS type, 'Product Viewed' AS event, md5(i::VARCHAR) AS messageId,
                'u' || i % 50000 AS userId, (TIMESTAMP '2026-01-01' + to_seconds(i))::VARCHAR AS timestamp,
                {{'product_id': 'p' || i % 5000, 'price': i % 90, 'category': 'c' || i % 20}} AS properties,
                {{'userAgent': repeat(md5(i::VARCHAR), 8)}} AS context
            FROM range({rows}) AS t(i)
        ) TO '{calls}' (FORMAT json)
    """)
    assert calls.stat().st_size > 2 * 300e6
    script = (
        "from pathlib import Path; from data.sources import import_source\n"
        f"done = import_source('segment', {str(calls)!r}, {str(tmp_path / 'shop')!r})\n"
        "peak = Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]\n"
        "print(done.rows['events'], int(peak) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"ATTUNE_DATA__MEMORY_LIMIT_GB": "0.3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported, peak_mb = map(int, done.stdout.split())
    assert imported == rows
    assert peak_mb < 600
