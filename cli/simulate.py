"""`attune simulate`: a simulated shop with its truth apart; with `--weeks`, one that a running service decides in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of

if TYPE_CHECKING:
    from data.workspace import Workspace
    from simulation.loop import Loop
    from simulation.world import World

USERS, DAYS = 20_000, 180
LOOP_USERS, LOOP_DAYS = 1_500, 120


def simulate(
    *,
    users: Annotated[
        int | None, typer.Option(help=f"Customers; by default {USERS:,}, with --weeks {LOOP_USERS:,}.", min=1)
    ] = None,
    days: Annotated[
        int | None, typer.Option(help=f"Days of history; by default {DAYS}, with --weeks {LOOP_DAYS}.", min=30)
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another shop; the same seed, the same rows.", min=0)] = 0,
    weeks: Annotated[
        int | None,
        typer.Option(
            help="Go on for so many weeks: a service decides about offers and is trained anew.", min=1, max=104
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="With --weeks: of a service that runs on this workspace; empty = start one.")
    ] = None,
    world: Annotated[
        Path | None, typer.Option(help="A TOML file laid over the default world (docs/simulation.md).")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make a simulated shop: tables to work with, and apart from them the truth.

    The truth (tastes, hazards, effects of offers) goes to `truth/`, which no model reads.

    Example: `attune simulate --users 20000 --days 180 --seed 1 --workspace shop`, then `attune check -w shop`;
    or `attune simulate --weeks 12 --workspace loop`.
    """
    from simulation.world import World

    parameters = World.load(world)
    if weeks is not None:
        _live(parameters, workspace, users=users or LOOP_USERS, days=days or LOOP_DAYS, weeks=weeks, seed=seed, url=url)
        return
    if url is not None:
        raise typer.BadParameter("only with --weeks", param_hint="--url")
    from simulation.shop import simulate as make

    made = make(workspace, users=users or USERS, days=days or DAYS, seed=seed, world=parameters)
    for name, rows in made.rows.items():
        typer.echo(f"{name:12} {rows:>12,}")
    typer.echo(
        f"{made.users:,} users from {made.start:%Y-%m-%d} to {made.end:%Y-%m-%d} are in {workspace}/tables. "
        f"Next: attune check {option_of(workspace)}"
    )


def _live(parameters: World, folder: Path, *, users: int, days: int, weeks: int, seed: int, url: str | None) -> None:
    """Make a shop and let its weeks pass beside a running service; end with the report."""
    from contextlib import nullcontext
    from datetime import UTC, datetime

    from data.workspace import Workspace
    from serving.server import started
    from simulation.loop import Loop, best_rule
    from simulation.loop_http import known_of, prepare, refuse_tables
    from simulation.loop_inside import shop_of

    refuse_tables(Workspace(folder))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    world = Loop(parameters, users=users, days=days, weeks=weeks, seed=seed, begin=midnight)
    shop = shop_of(folder, world=parameters)
    typer.echo(f"{users:,} customers, {days} days of history. Checking, features, training ...")
    typer.echo(f"before the first week: {prepare(world, shop)}")
    asked = world.asked(0)
    rule = best_rule(
        known_of(shop).reindex([world.user_ids[row] for row in asked]), world.profit(0)[asked], world.offers
    )
    shop = shop_of(folder, world=parameters, usual=rule)
    typer.echo(f"the usual rule, the best that looks at one feature: {rule}")
    with started(shop) if url is None else nullcontext(url) as address:
        typer.echo(f"the service answers at {address}")
        _weeks(world, shop, address)
    _report(shop, weeks=weeks)


def _weeks(world: Loop, shop: Workspace, address: str) -> None:
    from simulation.loop_http import drive

    for week in drive(world, shop, url=address):
        share = f"{week.model / week.oracle:.0%} of what knowing all would" if week.oracle > 0 else "nothing to be had"
        typer.echo(
            f"week {week.number}: {week.asked:,} asked; the model arm truly earned {week.model:.2f} a person, {share}; "
            f"{week.unsubscribed:,} have unsubscribed. {week.learnt}"
        )


def _report(shop: Workspace, *, weeks: int) -> None:
    """What `attune report uplift --decisions --kind offer --since ...` says of these weeks."""
    from datetime import timedelta

    from evaluation.uplift_report import text, write
    from features.snapshots import span
    from training.campaign_report import campaign_report

    since = span(shop.checked).end - timedelta(weeks=weeks)
    report = campaign_report(shop, kinds=("offer",), since=since)
    for name in ("decisions.html", "decisions.json"):
        write(report, shop.reports_dir / name)
    typer.echo(text(report))
    typer.echo(f"The page: {shop.reports_dir / 'decisions.html'}")
    typer.echo(f"The same again: attune report uplift --decisions --kind offer --since {since:%Y-%m-%d} -w {shop.path}")
