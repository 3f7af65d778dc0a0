"""Options that several verbs share, and how a verb opens the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="ATTUNE_WORKSPACE", help="Folder with attune.toml and tables/."),
]
DEFAULT_WORKSPACE = Path("workspace")
