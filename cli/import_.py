"""`attune import`: a shop's files become tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def import_(
    source: Annotated[str, typer.Argument(help="What kind of data it is.")],
    path: Annotated[Path, typer.Argument(help="The file or folder.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    mapping: Annotated[Path | None, typer.Option(help="TOML file for `tables`: which column is what.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace tables that are there already.")] = False,
) -> None:
    """Import a shop's data: **online-retail**.

    Files are streamed, so they may be larger than memory. An import never adds to a table: importing again needs
    --replace, and gives the same rows with the same ids.

    Example: `attune import online-retail lines.parquet`
    """
    from data.sources import import_source

    done = import_source(source, path, workspace, mapping=mapping, replace=replace)
    for table, rows in done.rows.items():
        typer.echo(f"{table:<12}{rows:>14,} rows")
    for reason, rows in done.refused.items():
        typer.echo(f"{'left out':<12}{rows:>14,} rows: {reason}")
    if done.refused_file:
        typer.echo(f"The rows left out are in {done.refused_file}.")
    for note in done.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Next: attune check --workspace {workspace}")
