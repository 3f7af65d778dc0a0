"""Options that several verbs share, and how a verb opens the workspace."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="ATTUNE_WORKSPACE", help="Folder with attune.toml and tables/."),
]
DEFAULT_WORKSPACE = Path("workspace")


def option_of(workspace: Path) -> str:
    """What a next command says for the workspace, to be copied into a shell."""
    return f"--workspace {shlex.quote(str(workspace))}"


def refuse(options: Mapping[str, object], why: str, remedy: str = "Leave one of the two out.") -> None:
    """Refuse options that do not go with the others, or do nothing alone, rather than leave them out in silence.

    Raises:
        WorkspaceError: one of them was given.
    """
    from data.errors import WorkspaceError

    for name, given in options.items():
        if given is not None:
            raise WorkspaceError(f"{name} {why}. {remedy}")
