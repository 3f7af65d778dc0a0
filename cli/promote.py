"""`attune promote`: the gate between a challenger and the public."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of


def promote(
    name: Annotated[str | None, typer.Argument(help="recommender, propensity-churn, ...")] = None,
    *,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    everything: Annotated[bool, typer.Option("--all", help="Every model that has a challenger.")] = False,
) -> None:
    """Let a challenger take the champion's place, if it passes the gate; exit 1 with the reasons if it does not.

    It must answer its stored examples, be calibrated, and be better than the champion on the paired interval, or
    as good and lighter. A first champion must beat the best baseline, or be that baseline.

    Example: `attune promote --all`
    """
    from data.workspace import Workspace
    from training import jobs

    if (name is None) != everything:
        raise typer.BadParameter("say either the name of one model or --all.")
    shop = Workspace.open(workspace)
    names = [name] if name else jobs.challengers(shop)
    if not names:
        typer.echo("No model has a challenger. Train one with `attune train`.")
        raise typer.Exit(1)
    verdicts = [jobs.promote(shop, one) for one in names]
    for verdict in verdicts:
        typer.echo(str(verdict))
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)
    typer.echo(f"Next: attune serve {option_of(workspace)}")
