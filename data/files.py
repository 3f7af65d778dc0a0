"""Files that are either whole or not there: written beside and renamed; folders that one process at a time changes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it goes away.

    Works for a file or a folder, whichever the body creates. Readers see the old or the new, never a part.

    Raises:
        FileNotFoundError: the body created nothing; what was at `path` stays.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "a.txt"
        ...     with replacing(target) as beside:
        ...         _ = beside.write_text("whole")
        ...     target.read_text()
        'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    beside = workplace / path.name
    try:
        yield beside
        if beside.is_file():
            descriptor = os.open(beside, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if not beside.exists():
            raise FileNotFoundError(f"nothing was written to take the place of {path}")
        if path.is_dir():
            path.rename(workplace / "old")
        beside.replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process changes a folder, then keep others waiting; a killed process keeps nobody.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder)):
        ...     os.listdir(folder)
        []
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
