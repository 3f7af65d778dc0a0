"""The day's list for a sending tool: what `/v1/actions` would tell of everybody, as a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from data.errors import DataError
from data.files import check_suffix, writing_rows
from data.progress import track
from data.workspace import Workspace
from serving.contacting import Acted
from serving.engine import Engine
from serving.schemas import DueAction, Id

AT_ONCE = 500
"""People who are decided about together: bounds the memory, and how long the state is written to at a time."""
COLUMNS = (
    ("decision_id", pa.string()), ("user_id", pa.string()), ("trigger", pa.string()), ("step", pa.int64()),
    ("channel", pa.string()), ("send_at", pa.timestamp("us", "UTC")), ("hour", pa.int64()),
    ("time_zone", pa.string()), ("about", pa.string()), ("about_items", pa.string()), ("offer_id", pa.string()),
    ("offer_name", pa.string()),
)  # fmt: skip
"""What every list has; then `variant_SLOT` and `text_SLOT` of each slot, `item_N` and `item_N_name` of each item."""
NAMED = TypeAdapter[str](Id)
"""As whom a request may name."""


@dataclass(frozen=True)
class Listed:
    """What a list left.

    Attributes:
        path: The file.
        rows: Messages in it.
        everybody: People looked at.
        unnamed: How many of them are left out, because no request may name them: their imported ids are too long.
        by_trigger: Messages by trigger.
        held_back: What was due and is not sent, by rule.
        off: By trigger, what the shop's tables lack for it.
        stored: Whether the decisions were.
    """

    path: Path
    rows: int
    everybody: int
    unnamed: int
    by_trigger: Mapping[str, int]
    held_back: Mapping[str, int]
    off: Mapping[str, str]
    stored: bool


def write_list(
    workspace: Workspace, to: Path, *, channel: str | None = None, now: datetime | None = None, dry_run: bool = False
) -> Listed:
    """Write the messages that are due to a CSV or Parquet file: whole or not at all.

    The decisions are stored, as the route stores them, before the file takes its place: who was handed out a message
    gets no other, and within a day the same list can be written again. People are decided about in batches.

    Args:
        workspace: Checked, with its features built.
        to: The file; its suffix says which kind.
        channel: Only what goes out on it.
        now: The moment; by default this one.
        dry_run: Store nothing: a look at the list, which is not to be sent.

    Raises:
        WorkspaceError: a suffix that is neither, or a trigger that cannot be meant.
        DataError: nothing was checked yet, or there is no such channel.
        StateUnavailableError: the state cannot be read or written.
    """
    check_suffix(to)
    engine = Engine(workspace)
    try:
        engine.load(at=now)
        return write_from(engine, to, channel=channel, now=now, dry_run=dry_run)
    finally:
        engine.state.close()


def write_from(
    engine: Engine, to: Path, *, channel: str | None = None, now: datetime | None = None, dry_run: bool = False
) -> Listed:
    """As `write_list`, from an engine that is loaded."""
    if engine.acting is None or engine.profiles is None:
        raise DataError(f"{engine.workspace.path} has no features to tell actions from. Run `attune check` first.")
    now = datetime.now(UTC) if now is None else now
    everybody = engine.profiles.everybody
    named = [user_id for user_id in everybody if _may_be_named(user_id)]
    sent: Counter[str] = Counter()
    held: Counter[str] = Counter()
    with writing_rows(to, schema_of(engine)) as write:
        for found in _decided(engine, named, now=now, channel=channel, dry_run=dry_run):
            held.update(one.rule for acted in found for one in acted.held_back)
            rows = [row_of(acted.user_id, acted.action) for acted in found if acted.action is not None]
            sent.update(row["trigger"] for row in rows)
            write(rows)
    return Listed(
        path=to,
        rows=sent.total(),
        everybody=len(everybody),
        unnamed=len(everybody) - len(named),
        by_trigger=dict(sent.most_common()),
        held_back=dict(held.most_common()),
        off=engine.acting.triggers.off,
        stored=not dry_run,
    )


def schema_of(engine: Engine) -> pa.Schema:
    """The columns of a list of this shop."""
    triggers = engine.acting.triggers.on if engine.acting is not None else ()
    slots: dict[str, None] = {}
    for trigger in triggers:
        for step in trigger.steps:
            slots |= dict.fromkeys(engine.varying.slots_of(trigger.name) if step.slots is None else step.slots)
    items = max((step.items for trigger in triggers for step in trigger.steps), default=0)
    further = [f"{kind}_{slot}" for slot in slots for kind in ("variant", "text")]
    further += [f"item_{number + 1}{of}" for number in range(items) for of in ("", "_name")]
    return pa.schema([*COLUMNS, *((name, pa.string()) for name in further)])


def row_of(user_id: str, action: DueAction) -> dict[str, Any]:
    """A row of the list; what it does not have is missing."""
    told = action.model_dump(
        include={"decision_id", "trigger", "step", "channel", "send_at", "hour", "time_zone", "about"}
    )
    told |= {"user_id": user_id, "about_items": "|".join(action.about_items) or None}
    if action.offer is not None:
        told |= {"offer_id": action.offer.offer_id, "offer_name": action.offer.name}
    for variant in action.variants:
        told |= {f"variant_{variant.slot}": variant.variant_id, f"text_{variant.slot}": variant.text}
    for number, item in enumerate(action.items, start=1):
        told |= {f"item_{number}": item.item_id, f"item_{number}_name": item.name}
    return told


def _may_be_named(user_id: str) -> bool:
    try:
        NAMED.validate_python(user_id)
    except ValidationError:
        return False
    return True


def _decided(
    engine: Engine, everybody: Sequence[str], *, now: datetime, channel: str | None, dry_run: bool
) -> Iterator[list[Acted]]:
    """What is to be done for people, a batch at a time, stored."""
    starts = range(0, len(everybody), AT_ONCE)
    for start in track(starts, "deciding"):
        found = engine.act(everybody[start : start + AT_ONCE], now=now, channel=channel)
        if dry_run:
            yield found
            continue
        with engine.state.writing() as connection:
            stored = [acted.store(connection) for acted in found]
        # A running service may have been quicker: it handed out what is left out here.
        yield [acted for acted in stored if acted is not None]
