"""A model's folder: `model.json`, and LightGBM's text beside it; written whole, and read with one word on damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import ModelFileError
from data.files import replacing

ABOUT = "model.json"
TREES = "trees.txt"
EXAMPLES = "examples.json"
"""Questions with the answers that a version must still give after it was moved, see `models.kinds`."""


def write(folder: Path, about: Mapping[str, Any], *, trees: str | None = None) -> None:
    """Write `model.json` and, where there are trees, `trees.txt`; the folder appears whole or not at all.

    Args:
        folder: New, or replaced.
        about: JSON values. The checksum of the trees joins them.
        trees: LightGBM's own text.
    """
    told = dict(about)
    if trees is not None:
        told["trees_sha256"] = _checksum(trees)
    with replacing(folder) as beside:
        beside.mkdir()
        if trees is not None:
            (beside / TREES).write_text(trees, encoding="utf-8")
        (beside / ABOUT).write_text(json.dumps(told, indent=1), encoding="utf-8")


@contextmanager
def reading(folder: Path) -> Iterator[dict[str, Any]]:
    """What `write` was told; in the block the model is made from it.

    Raises:
        ModelFileError: the file is missing or cut short, or the block finds that a value is missing or wrong.
    """
    try:
        yield json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{folder} is damaged: {error}. Fetch the version again, or train anew.") from error


def read_trees(folder: Path, about: Mapping[str, Any]) -> str:
    """LightGBM's text, within `reading`.

    Raises:
        ModelFileError: it is not what was written.
    """
    trees = (folder / TREES).read_text(encoding="utf-8")
    if _checksum(trees) != about["trees_sha256"]:
        raise ModelFileError(f"{folder / TREES} is cut short or changed. Fetch the version again.")
    return trees


def _checksum(trees: str) -> str:
    return hashlib.sha256(trees.encode()).hexdigest()
