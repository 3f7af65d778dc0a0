"""One job at a time in a workspace: a lock that the system frees however the job ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from data.errors import WorkspaceError
from data.workspace import Workspace


@contextmanager
def only_one(workspace: Workspace, what: str) -> Iterator[None]:
    """Hold the workspace's lock for the block.

    Raises:
        WorkspaceError: another process holds it; names that process.
    """
    path = workspace.path / f".{what}.lock"
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise WorkspaceError(
                f"{what} is already running in {workspace.path} (process {handle.read().strip() or 'unknown'}). "
                "Wait until it ends; nothing was changed."
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
