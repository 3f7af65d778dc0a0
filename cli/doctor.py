"""`attune doctor`: is this machine and this workspace fit to run, and what to do if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption, option_of

if TYPE_CHECKING:
    from data.workspace import Workspace


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, whether it is well, what was seen, and the remedy when it is not."""

    what: str
    well: bool
    seen: str
    remedy: str = ""


def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Look at the machine, the packages and a workspace; say what is wrong and how to mend it.

    Exit status 1 when something must be mended. Example: `attune doctor -w shop`
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    well = True
    for finding in findings(workspace):
        mark = "[green]ok[/]   " if finding.well else "[red]mend[/] "
        console.print(f"{mark}{escape(finding.what)}: {escape(finding.seen)}", soft_wrap=True)
        if not finding.well:
            well = False
            console.print(f"     {escape(finding.remedy)}", soft_wrap=True)
    if not well:
        raise typer.Exit(1)


def findings(workspace: Path) -> Iterator[Finding]:
    """Everything that is looked at, in the order it is shown."""
    looks: tuple[Callable[[Path], Iterator[Finding]], ...] = (_machine, _packages, _workspace)
    for look in looks:
        yield from look(workspace)


def _machine(workspace: Path) -> Iterator[Finding]:
    import os
    import shutil
    import sys

    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "Use Python 3.11 or newer.")
    yield Finding("processors", True, f"{os.cpu_count()} (all of them are used for training)")
    near = next(folder for folder in (workspace.absolute(), *workspace.absolute().parents) if folder.exists())
    free_gb = shutil.disk_usage(near).free / 1e9
    yield Finding("disk", free_gb > 2, f"{free_gb:.0f} GB free at {near}", "Free at least 2 GB.")


def _packages(_: Path) -> Iterator[Finding]:
    import re
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement
    from packaging.version import Version

    sides: dict[str, list[str]] = {"base": [], "train": [], "serve": []}
    seen: dict[str, list[str]] = {side: [] for side in sides}
    for line in requires("attune") or ():
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker or ""))
        side = extra[1] if extra else "base"
        if side not in sides:
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            sides[side].append(f"{requirement.name} is missing")
            continue
        seen[side].append(f"{requirement.name} {found}")
        if not requirement.specifier.contains(Version(found), prereleases=True):
            sides[side].append(f"{requirement.name} is {found}, wanted {requirement.specifier}")
    for side, wrong in sides.items():
        needed = f".[{side}]" if side != "base" else "."
        yield Finding(
            f"packages ({side})",
            not wrong,
            "; ".join(wrong) or f"{len(seen[side])} as wanted",
            f"pip install --constraint constraints.txt --editable '{needed}'",
        )


def _workspace(path: Path) -> Iterator[Finding]:
    from data.errors import AttuneError
    from data.workspace import Workspace

    try:
        workspace = Workspace.open(path)
        brought = sorted(workspace.tables.brought)
    except AttuneError as error:
        yield Finding("workspace", False, "not usable", str(error))
        return
    try:
        yield Finding("settings", True, f"{workspace.settings_file} ({workspace.settings.shop.name})")
    except AttuneError as error:
        yield Finding("settings", False, "not usable", str(error))
        return
    yield Finding("tables", bool(brought), ", ".join(brought) or "none", "Bring some: `attune import --help`.")
    yield Finding(
        "checked",
        workspace.is_checked,
        "up to date" if workspace.is_checked else "older than the tables",
        f"Run `attune check {option_of(path)}`.",
    )
    snapshots = len(list(workspace.snapshots_dir.rglob("*.parquet"))) if workspace.snapshots_dir.is_dir() else 0
    yield Finding("snapshots", snapshots > 0, f"{snapshots} files", f"Run `attune features {option_of(path)}`.")
    yield from _registry(workspace)


def _registry(workspace: Workspace) -> Iterator[Finding]:
    from registry.versions import CHAMPION, Registry

    registry = Registry.of(workspace)
    champions = [version for name in registry.names() if (version := registry.version(name, CHAMPION))]
    yield Finding(
        "champions",
        bool(champions),
        ", ".join(map(str, champions)) or "none",
        f"Run `attune train all` and `attune promote --all` with `{option_of(workspace.path)}`.",
    )
