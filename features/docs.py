"""The page of all features, written from their definitions: `python -m features.docs` puts it into `docs/`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import ibis
from ibis.expr import types as ir

from data.audit import table_of
from data.contract import TABLES
from data.settings import Features
from data.tables import Tables, connect
from features import behaviour, engagement, profile, tastes, transactions
from features.definitions import Feature, Group, Moment
from features.segments import NEW, STAGES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "features.md"
CATEGORY = "CATEGORY"
HEAD = """# Features

Written from the definitions in `features/` by `python -m features.docs`.

A snapshot has a row for everybody who was known at its cutoff (in users, events, orders or messages) and says what was
known of them just before it. **Nothing at or after the cutoff is in it**: not an event, not a late arrival
(`received_at`), not the open of a message that was sent before, not an attribute's later value; a property test holds
that for every time column. A feature whose tables or columns the shop did not bring is left out, and `attune features`
says so. Counts and sums are 0 for people without such rows; everything else is missing.

- `attune features` writes `snapshots/<hash of the definitions>/cutoff=....parquet`, a file per cutoff. It can be broken
  off and run again: whole files of the same tables and definitions are kept.
- A window of N days is `[cutoff - N days, cutoff)`. A session counts in a window if one of its events does.
- A purchase is an order with a positive line. A shop without `orders` has its `order_completed` events read as
  purchases without money; those of one person or visitor in one second are one order. Returns are no orders, and no
  money is taken off for them: `return_share` tells of them.
- Categories with shares of their own are the most frequent ones before the first cutoff that was ever built. The list
  is kept in `snapshots/categories.json`, so that columns stay the same from month to month and online; an earlier
  cutoff, or another `features.top_categories`, draws it up again. Training first settles it for the earliest cutoff
  that any of its models looks at, so that no model's columns go while others learn.
- Sums of money and seconds are exact decimals (up to 99,999,999,999,999.9999), so that they do not hang on the order of
  rows or the number of threads.
- Sensitive attributes (`features.sensitive`) are refused unless `features.sensitive_reasons` names them with a reason.
- Online, the same SQL runs in DuckDB over the rows of the people who were just touched (`features/online.py`); a test
  holds its rows equal to the snapshot's, to the last bit."""
TAIL = """## Labels

`[propensity.NAME]` declares `event` ([propensity.md](propensity.md) has the words), `horizon_days` and `population`. A
label reads what happened in `[cutoff, cutoff + horizon)` and is refused when the data end before that. Training reads
them up to the last midnight: of a day that is still under way the rest is not known.

## Segments

The lifecycle stage is the first whose condition holds, else `{new}`:

{stages}

RFM scores rank buyers from 1 to 5 by recency, frequency and money; equal values have equal scores. Named segments are
conditions in `attune.toml`, and so is a label's population:

    [segments]
    high_intent = "product_added_7d > 0 and orders_7d == 0"
    german_speaking = "country in ('DE', 'AT') or locale == 'de'"

They may use names of features, numbers, text, `and or not`, comparisons (chained ones too), `in`, and `+ - * /`. A
comparison with a missing value is false, and so `not x > 3` is true where `x` is missing; what is divided by zero is
missing.

## Interactions

What recommenders learn from: an event or order line weighs `recommender.event_weights[kind] * 2^(-age / half_life)`.
What a person sent back whole leaves no purchase. Items that are not available any more stay in, because what people did
with them still says what they like; serving does not show them. Orders of guests are read apart, an order each."""


def page() -> str:
    """The text of `docs/features.md`."""
    everything = _everything()
    at = Moment(ibis.null("timestamp('UTC')"))
    settings = Features(attributes=("ATTRIBUTE",), form_answers=("ANSWER",))
    families = {
        "Behaviour": behaviour.groups(everything, at, (CATEGORY,)),
        "Transactions": transactions.groups(everything, at, (CATEGORY,)),
        "Tastes": tastes.groups(everything, (CATEGORY,)),
        "Engagement": engagement.groups(everything, at),
        "Profile": profile.groups(everything, at, settings),
    }
    sections = [f"## {title}\n\n{_table(groups)}" for title, groups in families.items()]
    stages = table_of(("stage", "condition"), [(f"`{name}`", f"`{condition.text}`") for name, condition in STAGES])
    return "\n\n".join([HEAD, *sections, TAIL.format(new=NEW, stages=stages)]) + "\n"


def _everything() -> Tables:
    """A shop that brought every column there is."""
    more: dict[str, dict[str, str]] = {"users": {"ATTRIBUTE": "string"}, "events": {"ANSWER": "string"}}
    named: dict[str, ir.Table] = {
        name: ibis.table({**dict(spec.schema.items()), **more.get(name, {})}, name=name)
        for name, spec in TABLES.items()
    }
    return Tables(
        backend=connect(), conformed=named, brought={name: frozenset(table.columns) for name, table in named.items()}
    )


def _table(groups: Iterable[Group]) -> str:
    """A row per feature; those that differ in their window alone share one."""
    windows: dict[tuple[str, str], list[tuple[str, Feature]]] = {}
    for group in groups:
        for feature in group.features:
            stem = re.sub(r"_\d+d$", "_{}d", feature.name)
            about = re.sub(r"\b\d+ days\b", "N days", feature.about)
            windows.setdefault((stem, about if "{}" in stem else ""), []).append((feature.name, feature))
    rows = []
    for (stem, about), found in windows.items():
        feature = found[0][1]
        days = [re.findall(r"(\d+)d$", name)[0] for name, _ in found if "{}" in stem]
        name = stem.format("{" + ",".join(days) + "}" if len(days) > 1 else "".join(days))
        rows.append(
            (
                f"`{name}`",
                about if len(days) > 1 else feature.about,
                feature.unit,
                ", ".join(feature.needs).replace("|", " or "),
            )
        )
    return table_of(("feature", "what it says", "unit", "needs"), rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
