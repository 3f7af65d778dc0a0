"""What people did and what was handed out to them, as journeys ask: read for a few people from tables and state."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.state import State
from data.state.schema import tables as state_tables
from data.tables import Tables
from features.happenings import (
    BACK_IN_STOCK,
    DAY,
    FOR_EVER,
    HISTORY_DAYS,
    LIFECYCLE_CHANGED,
    PRICE_DROPPED,
    changes_of_viewed,
    happenings,
    item_changes,
    lifecycle_changes,
)
from features.online import OnlineHappenings
from serving.decisions.journeys import Handed
from serving.decisions.triggers import Beginning, Rows, columns_of
from serving.profiles import ByUser, Profiles

KIND = "action"
CHANGED_DAYS = 30
"""Changes of items and of the lifecycle stage are looked for so far back."""
ITEM = ("item_id", "updated_at", "price", "available")


class Happened(NamedTuple):
    """What is known of the people asked about.

    Attributes:
        rows: What they did, of `features.happenings`.
        handed: The steps that were handed out to each.
        newest: By person, the `seq` of their newest decision about an action; none where there is none.
    """

    rows: Rows
    handed: Mapping[str, Sequence[Handed]]
    newest: Mapping[str, int]


class Happenings:
    """Reads happenings and the log of actions; `asked` are the names of the events that triggers ask about."""

    def __init__(
        self, tables: Tables, state: State, profiles: Profiles, *, answers: Sequence[str], asked: Collection[str]
    ) -> None:
        self._state, self._profiles, self._asked = state, profiles, frozenset(asked)
        self._online = OnlineHappenings(tables, answers)
        self._read = [name for name in self._online.tables if name != "items"]
        self._until = datetime.now(UTC)
        self._did = ByUser(happenings(tables.as_of(self._until), self._until, answers=answers))
        # With missing values: a row that comes later need not say whether the item is available.
        self._items = tables["items"].select(*ITEM).execute().astype({"available": "boolean"})
        self._found: tuple[tuple[Any, ...], pd.DataFrame] = (), self._items.iloc[:0]

    def of(self, user_ids: Sequence[str], now: datetime) -> Happened:
        """What these people did, and what was handed out to them before `now`.

        Raises:
            StateUnavailableError: the state cannot be read.
        """
        did = self._told(user_ids, now)
        parts = [did]
        if self._asked & {PRICE_DROPPED, BACK_IN_STOCK}:
            parts.append(changes_of_viewed(did, self._changes(now)))
        if LIFECYCLE_CHANGED in self._asked:
            parts.append(lifecycle_changes(did, now, days=CHANGED_DAYS))
        parts = [part for part in parts if len(part)] or [did]
        every = parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)
        return Happened(columns_of(every), *self._handed(user_ids, now))

    def _told(self, user_ids: Sequence[str], now: datetime) -> pd.DataFrame:
        """Rows of `features.happenings`: as the checked tables told them, anew where the state has newer ones."""
        newer = self._profiles.newer(user_ids) if now >= self._until else set(user_ids)
        did = self._did.of(self._profiles.there([user_id for user_id in user_ids if user_id not in newer]))
        lately = did["at"] >= pd.Timestamp(now) - HISTORY_DAYS * DAY
        did = did[lately | did["event"].isin(FOR_EVER)]
        if not newer:
            return did
        rows = self._profiles.rows(list(newer), self._read)
        anew = self._online.compute({**rows, "items": _touched(rows)}, now)
        return anew if did.empty else pd.concat([did, anew], ignore_index=True)

    def _changes(self, now: datetime) -> pd.DataFrame:
        """What lately became of items, in the checked tables and in the state; found anew once the state's change."""
        table = state_tables["items"]
        with self._state.reading() as connection:
            [stamp] = connection.execute(sa.select(sa.func.max(table.c.changed_at), sa.func.count())).all()
            seen, found = self._found
            if tuple(stamp) != seen:
                live = connection.execute(sa.select(*(table.c[name] for name in ITEM))).all()
                found = item_changes(self._with(pd.DataFrame(live, columns=ITEM)))
                self._found = tuple(stamp), found
        return found[(found["at"] < now) & (found["at"] >= pd.Timestamp(now) - CHANGED_DAYS * DAY)]

    def _with(self, live: pd.DataFrame) -> pd.DataFrame:
        """The history of items with what the state knows of it, which goes before."""
        history = self._items
        if live.empty:
            return history
        both = pd.concat([history, live.astype(history.dtypes.to_dict())], ignore_index=True)
        return both.drop_duplicates(["item_id", "updated_at"], keep="last")

    def _handed(self, user_ids: Sequence[str], now: datetime) -> tuple[dict[str, list[Handed]], dict[str, int]]:
        """The steps that were handed out before `now`, and the newest decision about an action, by person."""
        decisions, outcomes = state_tables["decisions"].c, state_tables["outcomes"].c
        names = ("seq", "decision_id", "user_id", "at", "slot", "arm", "context")
        theirs = decisions.user_id.in_(user_ids), decisions.kind == KIND
        query = sa.select(*(decisions[name] for name in names)).where(*theirs)
        with self._state.reading() as connection:
            known = connection.execute(query.order_by(decisions.seq)).all()
            logged = [(row, told) for row in known if row.at <= now and (told := _journey_of(row.context))]
            shown = sa.select(outcomes.decision_id).where(outcomes.decision_id == decisions.decision_id, *theirs)
            done = set(connection.scalars(shown.distinct())) if logged else set()
        if logged:
            messages = self._profiles.rows([row.user_id for row, _ in logged], ["messages"])["messages"]
            done |= set(messages["decision_id"].drop_null().to_pylist())
        found: dict[str, list[Handed]] = defaultdict(list)
        for row, told in logged:
            found[row.user_id].append(
                Handed(
                    decision_id=row.decision_id,
                    trigger=row.slot,
                    beginning=beginning_of(told),
                    step=int(told["step"]),
                    at=row.at,
                    sent=row.decision_id in done,
                    nothing=row.arm == "holdout",
                    told=told,
                )
            )
        return found, {row.user_id: row.seq for row in known}


def _touched(rows: Mapping[str, pa.Table]) -> pa.Table:
    """The items that these people had to do with: of a catalogue of many, few."""
    items = rows["items"]
    named = [rows[name]["item_id"] for name in ("events", "orders") if name in rows]
    ids = pa.chunked_array([part.cast(pa.string()) for column in named for part in column.chunks], pa.string())
    return items.filter(pc.is_in(items["item_id"].cast(pa.string()), value_set=ids.combine_chunks()))


def told_of(beginning: Beginning, step: int) -> dict[str, Any]:
    """What a decision keeps of a journey; `beginning_of` reads it."""
    return {
        "step": step,
        "began": beginning.at.isoformat(),
        "about": beginning.about,
        "about_items": list(beginning.items),
        "rhythm_days": beginning.rhythm_days,
    }


def beginning_of(told: Mapping[str, Any]) -> Beginning:
    """What began a journey, as a decision keeps it."""
    return Beginning(
        datetime.fromisoformat(told["began"]), told["about"], tuple(told["about_items"]), told["rhythm_days"]
    )


def _journey_of(context: str | None) -> dict[str, Any] | None:
    """The context of a decision that handed out a step; None of any other."""
    told = json.loads(context) if context else {}
    return told if isinstance(told, dict) and {"step", "began"} <= told.keys() else None
