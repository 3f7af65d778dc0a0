"""`attune erase`: remove a person, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="The person's user_id.")],
    *,
    keep_orders: Annotated[
        bool,
        typer.Option("--keep-orders", help="Leave their orders as a guest's, for shops that must keep their books."),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Remove a person from the state, the tables and everything made from them. It cannot be undone.

    Their anonymous history goes too. They cannot come back by an import or an app: what names them is left out. Safe
    to run while the service runs, and again after an interruption. `docs/privacy.md` tells what is reached.

    Example: `attune erase 17850 --keep-orders`
    """
    from data.erasing import erase as run
    from data.state import State
    from data.workspace import Workspace

    opened = Workspace.open(workspace)
    receipt = run(opened, State.of(opened), user, keep_orders=keep_orders)
    for place, rows in {**receipt.state, **receipt.files}.items():
        what = f"{rows:,} {'row' if rows == 1 else 'rows'}" if not place.startswith("reports/") else "whole"
        typer.echo(f"{place:40} {what:>17} removed")
    if receipt.orders_kept:
        typer.echo(f"{receipt.orders_kept:,} order lines stay, without the person.")
    if not receipt.rows:
        typer.echo("Nothing was known of this person; whatever comes of them from now on is left out.")
    typer.echo(f"Receipt: {opened.erasures_dir / receipt.erasure_id}.json")
    typer.echo(f"Not reached: {receipt.outside}.")
