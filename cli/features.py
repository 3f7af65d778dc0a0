"""`attune features`: build snapshots."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of

FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


def features(
    at: Annotated[
        list[datetime] | None,
        typer.Option("--at", formats=FORMATS, help="A cutoff, in UTC; may be given several times."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Write one row of features per customer for each cutoff; what is there already is kept.

    Nothing at or after a cutoff is in its snapshot. Without `--at`: the end of the data, and for each label of
    `[propensity]` one every `training.step_days` that leaves its horizon. Training adds what else it needs.

    Example: `attune features --at 2026-01-01 --at 2026-02-01`
    """
    from rich.console import Console
    from rich.table import Table

    from data.workspace import Workspace
    from features.snapshots import build, lacking

    opened = Workspace.open(workspace)
    snapshots = build(opened, None if at is None else [cutoff.replace(tzinfo=UTC) for cutoff in at])
    console = Console(highlight=False)
    table = Table("cutoff (UTC)", box=None, header_style="bold")
    for title in ("customers", "features"):
        table.add_column(title, justify="right")
    for snapshot in snapshots:
        table.add_row(f"{snapshot.cutoff:%Y-%m-%d %H:%M}", f"{snapshot.rows:,}", str(len(snapshot.columns)))
    console.print(table)
    console.print(f"They are in {snapshots[0].path.parent}.", soft_wrap=True)
    for needed, count in Counter(lacking(opened.checked, opened.settings.features).values()).items():
        features = "1 feature goes" if count == 1 else f"{count} features go"
        console.print(f"- {features} without {needed}, which this shop did not bring", soft_wrap=True)
    console.print(f"Next: `attune train {option_of(workspace)}`", soft_wrap=True)
