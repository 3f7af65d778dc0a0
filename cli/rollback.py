"""`attune rollback`: the previous champion again."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def rollback(
    name: Annotated[str, typer.Argument(help="recommender, propensity-churn, ...")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make the previous champion the champion again; a running service swaps within seconds. Twice undoes it.

    Example: `attune rollback recommender`
    """
    from data.workspace import Workspace
    from training.jobs import rollback as run

    typer.echo(f"{run(Workspace.open(workspace), name)} is the champion again.")
