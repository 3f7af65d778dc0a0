"""What came of decisions, and what people say of themselves: fitted to the contract, held against what is stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from data.contract import TABLES
from data.state.arrivals import Refusal
from data.state.rows import RowRefusedError, fit, refuse_times
from data.state.schema import tables
from data.state.tombstones import STRANGER
from data.state.writes import append

UNSUBSCRIBE, MARKETING = "unsubscribe", "marketing"


@dataclass(frozen=True)
class Stored:
    """What became of a batch of outcomes.

    Attributes:
        accepted: How many are new.
        duplicates: How many were known by their ids.
        refused: The rows that are no outcome of a decision.
    """

    accepted: int
    duplicates: int
    refused: Sequence[Refusal]


@dataclass
class Outcomes:
    """A batch of outcomes on its way into the state.

    Attributes:
        rows: Rows for `outcomes`, by their positions in the request.
        refused: The rows that do not fit.
        skew: By how much clocks may disagree.
    """

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    skew: timedelta = timedelta(0)

    def store(self, connection: sa.Connection) -> Stored:
        """Store, in one transaction, those whose decision is known; an unsubscription is a no to the channel as well.

        A decision is stored before its id is answered, so an id that is not known was never given out, or its person
        was erased: either way nothing can be learnt from the outcome.
        """
        decided = _decided(connection, {row["decision_id"] for row in self.rows.values()})
        good: list[dict[str, Any]] = []
        refused = list(self.refused)
        for position, row in self.rows.items():
            try:
                _check(row, decided.get(row["decision_id"]), self.skew)
                good.append(row)
            except RowRefusedError as error:
                refused.append(Refusal(position, row["outcome_id"], error.field, error.reason))
        new = {outcome_id for (outcome_id,) in append(connection, "outcomes", good)}
        left = [row for row in good if row["kind"] == UNSUBSCRIBE and row["outcome_id"] in new]
        refusals = [_refusal(row, decided[row["decision_id"]]) for row in left]
        append_consents(connection, [row for row in refusals if not row["user_id"].startswith(STRANGER)])
        return Stored(len(new), len(good) - len(new), sorted(refused, key=lambda refusal: refusal.position))


def sort_outcomes(
    rows: Sequence[Mapping[str, Any]], *, channels: Collection[str], now: datetime, max_clock_skew_minutes: float
) -> Outcomes:
    """Sort outcomes into what may be stored and what is refused whatever the state holds.

    Args:
        rows: As apps send them.
        channels: Those that there are: an unsubscription from another would be a no that no rule follows.
        now: The moment they came in.
        max_clock_skew_minutes: So far their clocks may be ahead.

    Example:
        >>> from datetime import UTC
        >>> row = {"outcome_id": "1", "decision_id": "d1", "kind": "applause", "at": "2026-01-01T00:00:00Z"}
        >>> day = datetime(2026, 1, 1, tzinfo=UTC)
        >>> sort_outcomes([row], channels=["email"], now=day, max_clock_skew_minutes=60).refused[0].message
        "'applause' is none of impression, open, click, conversion, unsubscribe"
    """
    found = Outcomes(skew=timedelta(minutes=max_clock_skew_minutes))
    for position, row in enumerate(rows):
        try:
            fitted = fit(TABLES["outcomes"], row)
            refuse_times(TABLES["outcomes"], fitted, now=now, skew=found.skew)
            _refuse_channel(fitted, channels)
        except RowRefusedError as error:
            found.refused.append(Refusal.of(error, position, row.get("outcome_id")))
            continue
        found.rows[position] = fitted
    return found


def append_consents(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store somebody's words on purposes. Of two about one purpose at one moment the no holds, whichever came first."""
    append(connection, "consents", rows)
    if refused := [{f"of_{name}": row[name] for name in KEY} for row in rows if not row["granted"]]:
        connection.execute(OVERRULE, refused)


class Decided(NamedTuple):
    """What an outcome is held against."""

    decision_id: str
    user_id: str
    at: datetime
    chosen: list[str]
    context: str | None


KEY = TABLES["consents"].key
OVERRULE = (
    sa.update(tables["consents"])
    .where(*(tables["consents"].c[name] == sa.bindparam(f"of_{name}") for name in KEY))
    .values(granted=False)
)
DECIDED = sa.select(*(tables["decisions"].c[name] for name in Decided._fields)).where(
    tables["decisions"].c.decision_id.in_(sa.bindparam("ids", expanding=True))
)


def _decided(connection: sa.Connection, ids: set[str]) -> dict[str, Decided]:
    found = connection.execute(DECIDED, {"ids": sorted(ids)}) if ids else ()
    return {row.decision_id: Decided(*row) for row in found}


def _check(row: Mapping[str, Any], decided: Decided | None, skew: timedelta) -> None:
    """Refuse what is no outcome of its decision."""
    if decided is None:
        raise RowRefusedError("decision_id", "is not known: it was never answered, or its person was erased")
    if row["at"] < decided.at - skew:
        raise RowRefusedError("at", f"lies before the decision ({decided.at.isoformat()})")
    if row["chosen_id"] is not None and row["chosen_id"] not in decided.chosen:
        raise RowRefusedError("chosen_id", f"is none of what was chosen: {', '.join(decided.chosen[:10])}"[:300])


def _refuse_channel(row: Mapping[str, Any], channels: Collection[str]) -> None:
    channel = (row["extra"] or {}).get("channel")
    if row["kind"] == UNSUBSCRIBE and channel is not None and channel not in channels:
        raise RowRefusedError("channel", f"{str(channel)[:64]!r} is none of {', '.join(channels)}")


def _refusal(row: Mapping[str, Any], decided: Decided) -> dict[str, Any]:
    """Who unsubscribes says no to the channel: the outcome's own, else the decision's, else to all marketing."""
    channel = (row["extra"] or {}).get("channel") or json.loads(decided.context or "{}").get("channel")
    return {
        "user_id": decided.user_id,
        "purpose": channel or MARKETING,
        "granted": False,
        "at": row["at"],
        "extra": None,
    }
