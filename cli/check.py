"""`attune check`: audit the tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption

if TYPE_CHECKING:
    from data.audit import Audit
    from training.drift import DriftReport


def check(
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    drift: Annotated[
        bool, typer.Option("--drift", help="Compare everybody now with those that the champions learnt from, too.")
    ] = False,
) -> None:
    """Part good rows from bad and say how fit the tables are to train on; exit 1 when they are not.

    Good rows go to `checked/`, bad ones to `quarantine/` with the reasons, the whole audit to `reports/audit.md`.

    With --drift also exit 1 when a feature or a score moved by more than `drift.alarm`, or a model is stale; all of
    it goes to `reports/drift.json`.

    Example: `attune check --workspace shop`
    """
    from data.checks import check as check_tables
    from data.workspace import Workspace

    opened = Workspace.open(workspace)
    audit = check_tables(opened)
    _print(audit, opened.reports_dir / "audit.md")
    if not audit.fit:
        raise typer.Exit(1)
    if drift:
        from training.drift import REPORT, check_drift

        report = check_drift(opened)
        _print_drift(report, opened.reports_dir / REPORT)
        if report.alarms:
            raise typer.Exit(1)


def _print(audit: Audit, page: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cli.comparisons import WIDTH
    from data.audit import notes

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    tables = Table("table", box=None, header_style="bold")
    for title in ("good rows", "bad rows", "bad share", "newest", "age in days"):
        tables.add_column(title, justify="right")
    for table in audit.tables:
        newest = f"{table.newest:%Y-%m-%d}" if table.newest else ""
        age = "" if table.age_days is None else f"{table.age_days:,.1f}"
        tables.add_row(table.name, f"{table.good:,}", f"{table.bad:,}", f"{table.bad_share:.2%}", newest, age)
    console.print(tables)
    if audit.findings:
        wrong = Table(box=None, header_style="bold")
        wrong.add_column("column", overflow="fold")
        wrong.add_column("what is wrong")
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


def _print_drift(report: DriftReport, page: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from cli.comparisons import WIDTH

    colours = {"steady": "", "warn": "[yellow]", "alarm": "[red]"}
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for model in report.models:
        moved = [one for one in model.features if one.verdict != "steady"]
        table = Table("column", box=None, header_style="bold")
        for title in ("stability index", "chance", "missing before", "now"):
            table.add_column(title, justify="right")
        table.add_column("categories")
        table.add_column("verdict")
        for one in ([model.score] if model.score else []) + moved:
            words = [f"new: {', '.join(one.new)}"] * bool(one.new) + [f"gone: {', '.join(one.gone)}"] * bool(one.gone)
            table.add_row(
                escape("the score" if one is model.score else one.name),
                "" if one.note else f"{one.psi:.3f}",
                "" if one.note else f"{one.chance:.3f}",
                f"{one.missing_before:.1%}",
                f"{one.missing_now:.1%}",
                escape("; ".join(words)),
                colours[one.verdict] + escape(one.note or one.verdict),
            )
        console.print(
            f"\n[bold]{model.version}[/bold] · {model.people:,} people on {report.at:%Y-%m-%d}", table, sep="\n"
        )
        console.print(f"{len(model.features) - len(moved)} of {len(model.features)} features are steady.")
        stale = " [red]It is stale.[/red]" if model.stale else ""
        console.print(
            f"What it learnt from ended {model.age_horizons:.1f} horizons before the data do.{stale} "
            f"The newest complete label is {model.label_delay_days:,.0f} days old."
        )
        for note in model.notes:
            console.print(f"- {escape(note)}")
    alarms = len(report.alarms)
    verdict = (
        f"[red]{alarms} alarms[/red]: train anew, or look into the data." if alarms else "[green]No alarm.[/green]"
    )
    console.print(
        f"\n{verdict} Thresholds: {report.warn:g} warns, {report.alarm:g} alarms. All of it: {escape(str(page))}"
    )
