"""`attune score`: everybody's scores as a file, or the messages that are due."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of, refuse

MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def score(
    *,
    to: Annotated[Path, typer.Option(help="The file to write, .parquet or .csv.")],
    where: Annotated[
        str | None, typer.Option(help="Only people for whom this holds, over scores, lifecycle, segments and features.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Labels, value, send-time, with commas; empty = all that have a champion.")
    ] = None,
    actions: Annotated[
        bool, typer.Option("--actions", help="Instead of scores the messages that are due, for a sending tool.")
    ] = False,
    channel: Annotated[str | None, typer.Option(help="With --actions: only what goes out on it.")] = None,
    at: Annotated[
        datetime | None, typer.Option(help="With --actions: the moment, in UTC; now if left out.", formats=MOMENTS)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --actions: store no decision; the list is not to be sent.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Score everybody with the champions: probabilities, value, the hour to write at, lifecycle stage, segments.

    With --actions: the messages that are due, with offer, texts, items and hour, as /v1/actions would tell them.

    Example: `attune score --where 'churn > .6 and value > 200' --to audience.parquet`

    Example: `attune score --actions --channel email --to today.csv`
    """
    if actions:
        refuse({"--where": where, "--models": models}, "is of scores")
        _actions(workspace, to, channel=channel, at=at, dry_run=dry_run)
    else:
        refuse({"--channel": channel, "--at": at, "--dry-run": dry_run or None}, "goes with --actions")
        _scores(workspace, to, where=where, models=models)


def _scores(workspace: Path, to: Path, *, where: str | None, models: str | None) -> None:
    from data.workspace import Workspace
    from training.scoring import score as run

    labels = None if models is None else [label.strip() for label in models.split(",")]
    found = run(Workspace.open(workspace), to, where="True" if where is None else where, labels=labels)
    typer.echo(
        f"{found.rows:,} of {found.everybody:,} people, as known up to {found.at:%Y-%m-%d}, are in {found.path}."
    )
    for label, count in found.expected.items():
        typer.echo(f"  {label}: {count:,.0f} are expected to do it")
    if found.spend:
        typer.echo(f"  value: {found.spend} are expected of them")
    typer.echo(f"Scored by {', '.join(found.versions)}.")
    if where is not None:
        typer.echo(f"More of them: attune report audience --where {shlex.quote(where)} {option_of(workspace)}")


def _actions(workspace: Path, to: Path, *, channel: str | None, at: datetime | None, dry_run: bool) -> None:
    from datetime import UTC

    from data.workspace import Workspace
    from serving.sendlist import write_list

    now, opened = None if at is None else at.replace(tzinfo=UTC), Workspace.open(workspace)
    found = write_list(opened, to, channel=channel, now=now, dry_run=dry_run)
    typer.echo(f"{found.rows:,} messages for {found.everybody:,} people are in {found.path}.")
    for trigger, count in found.by_trigger.items():
        typer.echo(f"  {trigger}: {count:,}")
    if found.held_back:
        told = ", ".join(f"{rule} {count:,}" for rule, count in found.held_back.items())
        typer.echo(f"Held back, by rule: {told}.")
    if found.unnamed:
        typer.echo(f"Left out: {found.unnamed:,} people whose ids are too long for any request (see docs/contract.md).")
    for trigger, why in found.off.items():
        typer.echo(f"  {trigger} is off: {why}")
    if not opened.is_checked:
        typer.echo("The tables changed since they were checked, and count as they were then: run `attune check` first.")
    typer.echo(
        "Their decisions are stored: send each with its decision_id."
        if found.stored
        else "A dry run: no decision is stored, so this list is not to be sent."
    )
