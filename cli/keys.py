"""`attune keys`: make, list and revoke the keys that apps send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption

if TYPE_CHECKING:
    from data.state import State

app = typer.Typer(help="Make, list and revoke API keys: `attune keys create --role app`.", no_args_is_help=True)


@app.command()
def create(
    *,
    role: Annotated[str, typer.Option(help="`app` asks and sends events; `admin` also changes tables, erases people.")],
    name: Annotated[str, typer.Option(help="What the key is for, to know it by later.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make a key and print it, once: only its hash is stored.

    Example: `attune keys create --role app --name webshop`
    """
    from data.state import keys

    typer.echo(keys.create(_state(workspace), role=role, name=name))


@app.command("list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Show the keys: id, role, name, when made and when revoked."""
    from data.state import keys

    for key in keys.listed(_state(workspace)):
        revoked = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else "in force"
        typer.echo(f"{key.key_id}  {key.role:5}  {key.created_at:%Y-%m-%d}  {revoked:18}  {key.name}")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, the middle part of the key; see `attune keys list`.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make a key worthless; a running service knows within seconds.

    Example: `attune keys revoke 1f2e3d4c5b6a`
    """
    from data.state import keys

    keys.revoke(_state(workspace), key_id)
    typer.echo(f"{key_id} is revoked.")


def _state(workspace: Path) -> State:
    from data.state import State
    from data.workspace import Workspace

    return State.open(Workspace.open(workspace).state_url)
