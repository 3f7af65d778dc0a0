"""`attune import`: a shop's files become tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of


def import_(
    source: Annotated[str, typer.Argument(help="What kind of data it is.")],
    path: Annotated[Path, typer.Argument(help="The file or folder.")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    mapping: Annotated[
        Path | None, typer.Option(help="TOML file for `tables`: which column is what; docs/importing.md shows one.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace tables that are there already.")] = False,
) -> None:
    """Import a shop's data into the workspace, which is made if it is not there.

    SOURCE is **segment** (Segment or RudderStack JSON lines), **online-retail**, **retailrocket**,
    **complete-journey**, **movielens**, **hillstrom**, **starbucks-offers**, or **tables** (any CSV, Parquet or JSON
    lines, with --mapping).

    Files are streamed, so they may be larger than memory. Importing twice never doubles a row: tables that are there
    stay untouched unless you say --replace, and the same file gives the same rows with the same ids.

    Example: `attune import online-retail lines.parquet`, `attune import tables exports/ --mapping mapping.toml`
    """
    from data.sources import import_source

    done = import_source(source, path, workspace, mapping=mapping, replace=replace)
    for table, rows in done.rows.items():
        typer.echo(f"{table:<12}{rows:>14,} {'row' if rows == 1 else 'rows'}")
    for reason, rows in done.refused.items():
        typer.echo(f"{'left out':<12}{rows:>14,} {'row' if rows == 1 else 'rows'}: {reason}")
    if done.refused_file:
        typer.echo(f"The rows left out are in {done.refused_file}.")
    for note in done.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Next: attune check {option_of(workspace)}")
