"""Data laid out like a folder of `../shared/data`, as a workspace with checked tables."""

from __future__ import annotations

from pathlib import Path

from data.checks import check
from data.errors import DataError
from data.sources import import_source
from data.workspace import Workspace

SOURCES = {
    "lines": "online-retail",
    "ratings": "movielens",
    "transactions_sample": "complete-journey",
    "events": "retailrocket",
}
"""The file that gives a layout away -> its importer."""


def checked(data: Path, folder: Path) -> Workspace:
    """Import and check `data`, a file or folder, into a new workspace at `folder`.

    Raises:
        DataError: a layout that is not known, or data that is not fit to train on.
    """
    stems = [data.stem] if data.is_file() else sorted(file.stem for file in data.glob("*"))
    source = next((source for stem, source in SOURCES.items() if stem in stems), None)
    if source is None:
        raise DataError(f"{data} holds none of {', '.join(SOURCES)}; name data laid out like those in ../shared/data.")
    import_source(source, data, folder)
    workspace = Workspace.open(folder)
    audit = check(workspace)
    if not audit.fit:
        raise DataError(f"{data} is not fit to train on: {'; '.join(audit.failures)}.")
    return workspace
