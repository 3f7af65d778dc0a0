"""`attune check`: audit the tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption

if TYPE_CHECKING:
    from data.audit import Audit


def check(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Part good rows from bad and say how fit the tables are to train on; exit 1 when they are not.

    Good rows go to `checked/`, bad ones to `quarantine/` with the reasons, the whole audit to `reports/audit.md`.

    Example: `attune check --workspace shop`
    """
    from data.checks import check as check_tables
    from data.workspace import Workspace

    opened = Workspace.open(workspace)
    audit = check_tables(opened)
    _print(audit, opened.reports_dir / "audit.md")
    if not audit.fit:
        raise typer.Exit(1)


def _print(audit: Audit, page: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from data.audit import notes

    console = Console(highlight=False)
    tables = Table("table", box=None, header_style="bold")
    for title in ("good rows", "bad rows", "bad share", "newest", "age in days"):
        tables.add_column(title, justify="right")
    for table in audit.tables:
        newest = f"{table.newest:%Y-%m-%d}" if table.newest else ""
        age = "" if table.age_days is None else f"{table.age_days:,.1f}"
        tables.add_row(table.name, f"{table.good:,}", f"{table.bad:,}", f"{table.bad_share:.2%}", newest, age)
    console.print(tables)
    if audit.findings:
        wrong = Table("column", "what is wrong", box=None, header_style="bold")
        wrong.add_column("rows", justify="right")
        wrong.add_column("first value")
        wrong.add_column("at row", justify="right")
        wrong.add_column("now in")
        for f in audit.findings:
            row = f"{f.first_row:,}" if f.first_row else ""
            now_in = "quarantine" if f.refused else "checked"
            wrong.add_row(f"{f.table}.{f.column}", f.reason, f"{f.rows:,}", escape(f.first_value or ""), row, now_in)
        console.print("\n[bold]What is wrong[/bold]", wrong, sep="\n")
    parts = (
        ("Worth knowing", notes(audit)),
        ("What is missing, and what goes without it", [str(gap) for gap in audit.gaps]),
    )
    for title, lines in parts:
        if lines:
            console.print(f"\n[bold]{title}[/bold]")
        for line in lines:
            console.print(f"- {escape(line)}")
    verdict = (
        "[green]The data is fit to train on.[/green]" if audit.fit else "[red]The data is not fit to train on:[/red]"
    )
    console.print(f"\n{verdict}")
    for failure in audit.failures:
        console.print(f"- {escape(failure)}")
    console.print(f"Every column's age and completeness: {escape(str(page))}")
