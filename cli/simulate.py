"""`attune simulate`: a simulated shop, with the truth kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def simulate(
    *,
    users: Annotated[int, typer.Option(help="Customers.", min=1)] = 20_000,
    days: Annotated[int, typer.Option(help="Days, up to the world's end.", min=30)] = 180,
    seed: Annotated[int, typer.Option(help="Another seed, another shop; the same seed, the same rows.", min=0)] = 0,
    world: Annotated[
        Path | None, typer.Option(help="A TOML file laid over the default world (docs/simulation.md).")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make a simulated shop: tables to work with, and apart from them the truth.

    The truth (tastes, hazards, effects of offers) goes to `truth/`, which no model reads.

    Example: `attune simulate --users 20000 --days 180 --seed 1 --workspace shop`, then `attune check -w shop`.
    """
    from simulation.shop import simulate as make
    from simulation.world import World

    made = make(workspace, users=users, days=days, seed=seed, world=World.load(world))
    for name, rows in made.rows.items():
        typer.echo(f"{name:12} {rows:>12,}")
    typer.echo(
        f"{made.users:,} users from {made.start:%Y-%m-%d} to {made.end:%Y-%m-%d} are in {workspace}/tables. "
        f"Next: attune check --workspace {workspace}"
    )
