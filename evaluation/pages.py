"""Pages for readers: one HTML file without scripts that loads nothing, in light, dark and print; or its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from data.errors import DataError
from data.files import replacing

HERE = Path(__file__).parent
SUFFIXES = (".html", ".json")


def write_report(path: Path, *, page: Callable[[], str], numbers: Callable[[], object]) -> None:
    """Write a report to a file, whole or not at all: `.html` the page, `.json` its numbers, null where one is none.

    Args:
        path: The file.
        page: Renders the page.
        numbers: Of mappings, sequences, arrays, numbers and text.

    Raises:
        DataError: another suffix.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.json"
        ...     write_report(file, page=str, numbers=lambda: {"lift": np.array([0.5, np.nan])})
        ...     json.loads(file.read_text())
        {'lift': [0.5, None]}
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: {path.suffix or 'no suffix'!r} is no kind of report; end it on .html or .json.")
    told = page() if path.suffix == ".html" else as_json(numbers())
    with replacing(path) as beside:
        beside.write_text(told, encoding="utf-8")


def as_json(numbers: object) -> str:
    """Mappings, sequences, arrays, numbers, times and text as JSON; null where a number is none."""
    return json.dumps(_plain(numbers), indent=1, ensure_ascii=False, allow_nan=False, default=datetime.isoformat) + "\n"


def render(template: Path, **values: Any) -> str:
    """The page of a template, which may extend `page.html.jinja` and import its macros; text is escaped.

    Example:
        >>> "<title>12 people</title>" in render(HERE / "page.html.jinja", title="12 people")
        True
    """
    where = FileSystemLoader([template.parent, HERE])
    page: str = (
        Environment(loader=where, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .get_template(template.name)
        .render(**values)
    )
    return page


def _plain(value: object) -> object:
    """The same in what JSON has; null where a number is none."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
