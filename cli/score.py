"""`attune score`: everybody's scores as a file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def score(
    *,
    to: Annotated[Path, typer.Option(help="The file to write, .parquet or .csv.")],
    where: Annotated[
        str, typer.Option(help="Only people for whom this holds, over scores, lifecycle, segments and features.")
    ] = "True",
    models: Annotated[
        str | None, typer.Option(help="Labels, value, send-time, with commas; empty = all that have a champion.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Score everybody with the champions: probabilities, value, the hour to write at, lifecycle stage, segments.

    Example: `attune score --where 'churn > .6 and value > 200' --to audience.parquet`
    """
    from data.workspace import Workspace
    from training.scoring import score as run

    labels = None if models is None else [label.strip() for label in models.split(",")]
    found = run(Workspace.open(workspace), to, where=where, labels=labels)
    typer.echo(
        f"{found.rows:,} of {found.everybody:,} people, as known up to {found.at:%Y-%m-%d}, are in {found.path}."
    )
    for label, count in found.expected.items():
        typer.echo(f"  {label}: {count:,.0f} are expected to do it")
    if found.spend:
        typer.echo(f"  value: {found.spend} are expected of them")
    typer.echo(f"Scored by {', '.join(found.versions)}.")
    typer.echo(f"More of them: attune report audience --where {shlex.quote(where)}")
