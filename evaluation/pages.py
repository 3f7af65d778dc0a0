"""Pages for readers: one HTML file without scripts that loads nothing, in light, dark and print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

HERE = Path(__file__).parent


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
