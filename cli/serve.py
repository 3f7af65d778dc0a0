"""`attune serve`: answer apps over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def serve(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 = every one this machine has.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", min=1, max=65535)] = None,
) -> None:
    """Answer recommendations, scores and events over HTTP until Ctrl-C.

    New champions and newly checked tables are taken over while it runs. `docs/http.md` lists the routes.

    Example: `attune keys create --role app && attune serve`
    """
    from data.workspace import Workspace
    from serving.server import run

    opened = Workspace.open(workspace)
    settings = opened.settings.serving
    run(opened, host=host or settings.host, port=port or settings.port)
