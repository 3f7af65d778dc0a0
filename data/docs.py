"""The reference pages that are written from the code: `python -m data.docs` puts them into `docs/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from data.audit import GAPS, table_of
from data.checks import CHECKS
from data.contract import EVENT_NAMES, TABLES, TableSpec
from data.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    return {"contract.md": contract_page(), "settings.md": settings_page()}


def contract_page() -> str:
    """Every table with its columns, what makes a row bad, and what goes without it."""
    head = (
        "# The tables\n\n"
        "Written from `data/contract.py`, `data/checks.py` and `data/audit.py` by `python -m data.docs`.\n\n"
        "Put them into the workspace's `tables/` as Parquet, CSV or JSON lines (`orders.parquet`), a folder of Parquet "
        "files (`orders/`) or one DuckDB file. Every time is UTC, every id a text (over HTTP of at most 512 characters "
        "and 1,024 bytes as UTF-8), money a number in the shop's currency, a list in a CSV file "
        "`email, sms` in one field. Bring `events` or `orders`; every other "
        "table adds to what can be known. `*` = a row without it is refused. Other columns are kept as attributes; "
        "they are features only if `features.attributes` names them.\n\n"
        "`attune check` parts the rows: good ones go to `checked/`, refused ones to `quarantine/` with their reasons, "
        "doubtful ones are kept and counted. A time is in the future, or before another, only if it is so by more than "
        "`data.max_clock_skew_minutes`. Of rows with one key that stays which has no other fault and reached us first, "
        "then the first by all its columns. An id of another table is looked for only if that table was brought."
    )
    names = ", ".join(f"`{name}`" for name in sorted(EVENT_NAMES))
    tail = f"## Event names\n\n{names}. Others are kept and counted."
    return "\n\n".join([head, *map(_table_section, TABLES.values()), tail]) + "\n"


def _table_section(spec: TableSpec) -> str:
    columns = [(f"`{c.name}`" + "*" * c.required, c.type, c.about) for c in spec.columns]
    parts = [
        f"## {spec.name}",
        f"A row is {spec.about}. Key: {', '.join(f'`{name}`' for name in spec.key)}.",
        table_of(("column", "type", ""), columns),
    ]
    for title, refuse in (("Refused", True), ("Doubtful", False)):
        labels = [check.label for check in CHECKS if check.table == spec.name and check.refuse == refuse]
        if labels:
            parts.append(f"{title}: {'; '.join(labels)}.")
    gaps = [f"- without {f'`{g.column}`' if g.column else 'the table'}: {g.off}" for g in GAPS if g.table == spec.name]
    return "\n\n".join([*parts, "\n".join(gaps)])


def settings_page() -> str:
    """Every setting with its type, default and meaning."""
    head = (
        "# Settings\n\n"
        "Written from `data/settings.py` by `python -m data.docs`.\n\n"
        "`attune.toml` in the workspace; every setting has a default. Environment variables win over the file: "
        "`ATTUNE_DATA__MAX_BAD_SHARE=0.1` is `max_bad_share = 0.1` under `[data]`."
    )
    sections = [_settings_section(name, field) for name, field in Settings.model_fields.items()]
    return "\n\n".join([head, *sections]) + "\n"


def _settings_section(name: str, field: FieldInfo) -> str:
    of_value = (get_args(field.annotation) or (None,))[-1]
    if _is_section(field.annotation):
        return _section(f"[{name}]", field.annotation)
    if _is_section(of_value):
        named = field.get_default(call_default_factory=True).items()
        there = [f"- `{label}`: {json.dumps(values.model_dump(exclude_defaults=True))}" for label, values in named]
        written = ["There without being written:", "\n".join(there)] if there else []
        return "\n\n".join([_section(f"[{name}.NAME]", of_value), *written])
    return f"## [{name}]\n\n{field.description}"


def _is_section(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _section(title: str, section: type[BaseModel]) -> str:
    about = (section.__doc__ or "").partition(": ")[2]
    rows = [(f"`{name}`", _default(field), _meaning(field)) for name, field in section.model_fields.items()]
    told = f"## {title}\n\n{about[:1].upper()}{about[1:]}\n\n{table_of(('setting', 'default', ''), rows)}"
    lists = [(name, (get_args(field.annotation) or (None,))[0]) for name, field in section.model_fields.items()]
    within = [_section(f"[{title[:-1]}.{name}]]", kind) for name, kind in lists if _is_section(kind)]
    return "\n\n".join([told, *within])


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "needed" if value is PydanticUndefined else "" if value is None else f"`{json.dumps(value)}`"


def _meaning(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, sign in (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "up to"))
        if hasattr(limit, name)
    ]
    return "; ".join(part for part in (field.description, " ".join(limits)) if part)


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
