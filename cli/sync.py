"""`attune sync`: live state -> tables."""

from __future__ import annotations

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def sync(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Write what the service took in and decided to `tables/`, beside what was imported.

    Safe to run at any time and as often as you like: the same state gives the same tables, and nothing is doubled.

    Example: `attune sync && attune check`
    """
    from data.state import State
    from data.state.sync import sync as run
    from data.workspace import Workspace

    opened = Workspace.open(workspace)
    done = run(opened, State.of(opened))
    for name, count in done.rows.items():
        twice = done.already_imported[name]
        typer.echo(f"{name:12} {count:>12,} rows" + (f" ({twice:,} were imported already)" if twice else ""))
        if gone := done.gone.get(name):
            typer.echo(f"{'':12} {gone:>12,} rows of before are gone: a backup lacks them, or people were erased")
    if done.orders_left_out:
        typer.echo(
            f"{done.orders_left_out:,} order lines stay in the state: this shop's purchases are told by its events. "
            "To count money, import its earlier orders as a table."
        )
    if not done.rows:
        typer.echo("The state is empty: nothing to write.")
