"""A version's folder and its seal: `checksums.json` tells a whole folder from a truncated or changed one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from data.errors import ModelFileError

CHECKSUMS = "checksums.json"

_PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth"}


def seal(folder: Path) -> dict[str, str]:
    """Write `checksums.json`, the SHA-256 of every file by its path in the folder, and return it.

    Raises:
        ModelFileError: a file that would run code when loaded, or no file at all.
    """
    files = _files(folder)
    pickles = [name for name, file in files.items() if file.suffix in _PICKLES]
    if pickles:
        raise ModelFileError(f"{folder}: {pickles[0]} is a pickle. A version holds arrays, text and JSON only.")
    if not files:
        raise ModelFileError(f"{folder} is empty: there is no model to seal. Save one into it first.")
    checksums = {name: _sha256(file) for name, file in files.items()}
    (folder / CHECKSUMS).write_text(json.dumps(checksums, indent=1), encoding="utf-8")
    return checksums


def verify(folder: Path) -> Path:
    """The folder, if every file is there as it was sealed.

    Raises:
        ModelFileError: no seal, or a file that is missing, truncated, changed or added; names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = (Path(name) / "model.txt").write_text("tree")
        ...     _ = seal(Path(name))
        ...     verify(Path(name)) == Path(name)
        True
    """
    remedy = "Fetch it again by removing that folder, or train anew with `attune train`."
    try:
        sealed: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{folder / CHECKSUMS} cannot be read: {error}. {remedy}") from error
    found = _files(folder)
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            raise ModelFileError(f"{folder / name} is missing. {remedy}")
        if name not in sealed:
            raise ModelFileError(f"{folder / name} does not belong to this version. {remedy}")
        if _sha256(found[name]) != sealed[name]:
            size = found[name].stat().st_size
            raise ModelFileError(
                f"{folder / name} is truncated or changed ({size:,} bytes do not match its checksum). {remedy}"
            )
    return folder


def size_bytes(folder: Path) -> int:
    """What the folder's files weigh together."""
    return sum(file.stat().st_size for file in _files(folder).values())


def _files(folder: Path) -> dict[str, Path]:
    """Every file but the seal, by its path in the folder."""
    return {
        file.relative_to(folder).as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != CHECKSUMS
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
