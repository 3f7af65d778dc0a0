"""`attune retrain`: everything from the live state to the gate, for cron."""

from __future__ import annotations

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def retrain(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Sync, check, train, compare, and promote what passes the gate; a champion that is not beaten stays.

    Safe to run from cron: only one runs at a time, and one that was cut off leaves nothing half done. Exit 0 also
    when nothing was promoted, for a champion that stays is no failure.

    Example: `attune retrain`
    """
    from cli.comparisons import show
    from data.workspace import Workspace
    from training.jobs import retrain as run

    done = run(Workspace.open(workspace))
    for result in done.trained.results:
        show(result.test, f"{result.version} · {result.chosen}")
    for name, reason in done.trained.left_out.items():
        typer.echo(f"{name} is left out: {reason}")
    for verdict in done.verdicts:
        typer.echo(str(verdict))
