"""Champion, challenger and baselines on the same rows: nobody is judged on what they learnt from."""

from __future__ import annotations

from dataclasses import replace

from data.errors import ModelFileError
from data.workspace import Workspace
from registry.folder import size_bytes
from registry.versions import CHALLENGER, CHAMPION, Registry
from training.kinds import kind_of
from training.results import Comparison


def compare(workspace: Workspace, name: str) -> Comparison:
    """The challenger (or, without one, the champion) against the champion and the baselines, on the latest rows.

    A version that learnt from rows at or after the test cutoff is not judged itself: what its recipe makes of the
    rows before the cutoff stands for it. So both are judged on rows that they have not seen.

    Raises:
        ModelFileError: no version of that name, or one whose files are damaged.
        DataError: the data cannot carry the comparison.
    """
    registry = Registry.of(workspace)
    found = {alias: registry.version(name, alias) for alias in (CHALLENGER, CHAMPION)}
    versions = {f"{alias} {version.number}": version for alias, version in found.items() if version is not None}
    if not versions:
        raise ModelFileError(
            f"{name} has neither challenger nor champion; {registry.told()}. Train it with `attune train`."
        )
    folders = {who: registry.fetch(version, workspace.models_dir) for who, version in versions.items()}
    comparison = kind_of(name).compare(workspace, name, folders)
    sizes = {who: size_bytes(folder) for who, folder in folders.items()}
    return replace(comparison, rows=tuple(replace(row, size_bytes=sizes.get(row.name)) for row in comparison.rows))
