"""`attune report`: pages for people who decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption

app = typer.Typer(help="Write reports: `attune report audience --where 'churn > .6'`.", no_args_is_help=True)


@app.callback()
def reports() -> None:
    """Write reports."""


@app.command()
def audience(
    *,
    where: Annotated[str, typer.Option(help="Who: an expression over scores, lifecycle, segments and features.")],
    models: Annotated[str | None, typer.Option(help="Labels, with commas; empty = all that have a champion.")] = None,
    to: Annotated[Path | None, typer.Option(help="A file, .html or .json; empty = reports/audience.html.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Say who an audience is: its size, what it is expected to do, its lifecycle stages, beside everybody.

    Example: `attune report audience --where 'churn > .6 and spend_365d > 200'`
    """
    from data.workspace import Workspace
    from evaluation.audience import text, write
    from training.scoring import audience_of

    shop = Workspace.open(workspace)
    path = to or shop.reports_dir / "audience.html"
    found = audience_of(shop, where=where, labels=None if models is None else [m.strip() for m in models.split(",")])
    write(found, path)
    typer.echo(text(found))
    typer.echo(f"The page: {path}")
