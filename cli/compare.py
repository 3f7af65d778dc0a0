"""`attune compare`: champion, challenger and baselines on the same rows."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def compare(
    name: Annotated[str, typer.Argument(help="recommender, propensity-churn, offers, ...")],
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Champion, challenger and baselines on the same people: figures and paired gains, with intervals.

    A version that has seen the test rows is judged by what its recipe makes of the rows before them.

    Example: `attune compare recommender`
    """
    from cli.comparisons import show
    from data.workspace import Workspace
    from training.compare import compare as run

    show(run(Workspace.open(workspace), name), name)
