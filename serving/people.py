"""What the rules need to know of people: the checked tables' part kept in memory, the state's read at each request."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr import types as ir

from data.errors import StateUnavailableError
from data.settings import Settings
from data.state import State
from data.state.facts import Fact, facts
from data.state.reads import Watermarks
from data.tables import Tables, cutoff_literal
from data.vocabulary import Vocabulary
from features.hours import NO_ZONE, is_zone, zone_of_most
from features.purchases import purchases
from serving.decisions.arms import STRANGER, Arm, arm_of
from serving.decisions.rules import MOST_DAYS, Consent, Person, cap_of

log = logging.getLogger("attune")

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class People:
    """Facts about everybody, as of now.

    Args:
        settings: The workspace's.
        tables: Checked; None if there are none.
        state: The live state.
        since: Which of its rows are in the tables.
        now: From when on messages are counted back.
        back: Whether it is asked of moments that are past: what was sent or decided after one is not known then.
    """

    def __init__(
        self,
        settings: Settings,
        tables: Tables | None,
        state: State,
        since: Watermarks,
        *,
        now: datetime,
        back: bool = False,
    ) -> None:
        self._settings, self._state, self._since, self._back = settings, state, since, back
        caps = [cap_of(text) for text in settings.rules.caps.values()]
        self._window = timedelta(days=max(MOST_DAYS, *(cap[1] for cap in caps if cap), 0))
        self._checked = None if tables is None else _Checked.of(tables, sent_after=now - self._window)
        self._usual_zone = NO_ZONE if tables is None else zone_of_most(tables)

    def of(self, ids: Sequence[str | None], *, now: datetime, consents_only: bool = False) -> list[Person]:
        """What is known of users, and of visitors by their anonymous ids; of somebody unknown nothing but the arm.

        Where the state cannot be read they are as the checked tables know them, and not `live`.

        Args:
            ids: Of whom; None is a stranger.
            now: When it is decided: whose arm it is.
            consents_only: Of what is known their consents alone are needed.
        """
        found: dict[str, list[Fact]] = {id_: [] for id_ in ids if id_ is not None}
        live = True
        try:
            with self._state.reading() as connection:
                told = facts(
                    connection,
                    list(found),
                    sent_after=now - self._window,
                    since=self._since,
                    consents_only=consents_only,
                )
            for fact in told:
                found[fact.user_id].append(fact)
        except StateUnavailableError as error:
            log.warning("people are as the checked tables know them: %s", error)
            live = False
        if self._checked is not None:
            for id_, known in found.items():
                known.extend(self._checked.of_user(id_))
        if self._back:
            found = {id_: [fact for fact in known if _was_known(fact, now)] for id_, known in found.items()}
        arms, salt = self._settings.arms, self._settings.shop.salt
        people: dict[str | None, Person] = {
            id_: person_of(id_, told, arm=arm_of(id_, arms, salt=salt, now=now), usual_zone=self._usual_zone, live=live)
            for id_, told in found.items()
        }
        people[None] = Person(None, timezone=self._usual_zone)
        return [people[id_] for id_ in ids]

    def one(self, id_: str | None, *, now: datetime) -> Person:
        """As `of`."""
        return self.of([id_], now=now)[0]


def person_of(
    user_id: str, told: Iterable[Fact], *, arm: Arm = STRANGER, usual_zone: str = NO_ZONE, live: bool = True
) -> Person:
    """What facts come to: the last word on everything; a no goes before a yes of the same moment.

    Args:
        user_id: Whom they are about.
        told: In any order; what is told twice is as told once.
        arm: Theirs.
        usual_zone: The time zone of who has none that a clock knows.
        live: Whether the state told its part.

    Example:
        >>> day = datetime(2026, 1, 31, tzinfo=UTC)
        >>> told = [Fact("ann", "consent", "email", yes, None, day) for yes in ("no", "yes")]
        >>> person_of("ann", told).consents["email"].granted
        False
    """
    consents: dict[str, Consent] = {}
    last: dict[tuple[str, str], Fact] = {}
    sent: dict[str, list[datetime]] = {}
    decided: set[str] = set()
    actions: list[Fact] = []
    for fact in sorted(told, key=_order):
        name, at = fact.name or "", fact.at or LONG_AGO
        if fact.what == "consent":
            consents[name] = Consent(fact.value == "yes", at)
        elif fact.what == "action":
            actions.append(fact)
        else:
            last[fact.what, name] = fact
            decided.add(fact.decision_id or "")
    for (what, _), fact in last.items():
        if what == "sent":
            sent.setdefault(fact.value or "", []).append(fact.at or LONG_AGO)
    entered: dict[str, datetime] = {}
    for action in actions:
        context = json.loads(action.value or "{}")
        at = action.at or LONG_AGO
        if context.get("step", 0) == 0:
            entered[action.name or ""] = at
        if (channel := context.get("channel")) and action.decision_id not in decided:
            sent.setdefault(channel, []).append(_moment(context.get("send_at")) or at)
    when = {key: fact.at for key, fact in last.items() if fact.at}
    zone, channels = last.get(("zone", "")), last.get(("channels", ""))
    return Person(
        user_id=user_id,
        arm=arm,
        consents=consents,
        preferences={name: fact.value or "" for (what, name), fact in last.items() if what == "preference"},
        channels=frozenset(json.loads(channels.value)) - {""} if channels and channels.value else None,
        timezone=zone.value if zone and zone.value and is_zone(zone.value) else usual_zone,
        sent={name: tuple(sorted(times)) for name, times in sent.items()},
        last_order_at=when.get(("order", "")),
        unsubscribed={name: at for (what, name), at in when.items() if what == "unsubscribed"},
        bounced={
            name: at
            for (what, name), at in when.items()
            if what == "bounced" and when.get(("answered", name), LONG_AGO) <= at
        },
        entered=entered,
        live=live,
    )


def _was_known(fact: Fact, now: datetime) -> bool:
    return fact.what not in {"sent", "action"} or fact.at is None or fact.at <= now


def _order(fact: Fact) -> tuple[datetime, bool, str]:
    """By time; of the same moment a no last, so that it counts."""
    return fact.at or LONG_AGO, fact.value == "no", fact.value or ""


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@dataclass(frozen=True, eq=False)
class _Checked:
    """Facts of the checked tables, sorted by user: those of user `u` are the rows `indptr[u]` to `indptr[u + 1]`.

    Attributes:
        users: Their ids.
        indptr: Shape (n_users + 1,).
        texts: For each of `TEXTS` the code of each row, and the texts by code.
        micros: When, in microseconds since 1970, int64; `ALWAYS` for always.
    """

    users: Vocabulary
    indptr: np.ndarray
    texts: tuple[tuple[np.ndarray, list[Any]], ...]
    micros: np.ndarray

    @classmethod
    def of(cls, tables: Tables, *, sent_after: datetime) -> _Checked:
        """Read them; messages only since `sent_after`."""
        rows = _told(tables, sent_after).order_by("user_id").to_pyarrow()
        codes, users = _coded(rows["user_id"])
        at = rows["at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        return cls(
            users=Vocabulary(users),
            indptr=np.searchsorted(codes, np.arange(len(users) + 1)),
            texts=tuple(_coded(rows[name]) for name in TEXTS),
            micros=at.fill_null(ALWAYS).to_numpy(),
        )

    def of_user(self, user_id: str) -> Iterator[Fact]:
        """What is known of one user."""
        if (user := self.users.code(user_id)) < 0:
            return
        rows = slice(self.indptr[user], self.indptr[user + 1])
        texts = ([names[code] for code in codes[rows].tolist()] for codes, names in self.texts)
        for micros, *told in zip(self.micros[rows].tolist(), *texts, strict=True):
            at = None if micros == ALWAYS else LONG_AGO + timedelta(microseconds=micros)
            yield Fact._make((user_id, *told, at))


TEXTS = Fact._fields[1:5]
ALWAYS = -1


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """The code of each row, int32, and the texts by code, in the order in which they come; None is one."""
    coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def _told(tables: Tables, sent_after: datetime) -> ir.Table:
    """The facts in the tables, with the columns of `Fact`."""
    said, chose, users, sent = (tables[name] for name in ("consents", "preferences", "users", "messages"))
    bought = purchases(tables).filter(lambda line: line.quantity > 0, lambda line: ~line.user_id.isnull())
    ordered = bought.group_by("user_id").agg(at=lambda line: line["at"].max())
    channels = ibis.literal('["') + users.channels.join('","') + ibis.literal('"]')
    parts = [
        _rows(said, "consent", name=said.purpose, value=said.granted.ifelse("yes", "no"), at=said["at"]),
        _rows(chose, "preference", name=chose["name"], value=chose["value"], at=chose["at"]),
        _rows(users, "zone", value=users.timezone, at=users.updated_at),
        _rows(users, "channels", value=channels, at=users.updated_at),
        _rows(
            sent.filter(sent.sent_at > cutoff_literal(sent_after)),
            "sent",
            name=sent.message_id,
            value=sent.channel,
            decision_id=sent.decision_id,
            at=sent.sent_at,
        ),
        *(
            _rows(last, what, name=last.channel, at=last["at"])
            for what, last in (
                ("unsubscribed", _last(sent, sent.unsubscribed_at)),
                ("bounced", _last(sent, sent.bounced_at)),
                ("answered", _last(sent, ibis.coalesce(sent.clicked_at, sent.opened_at))),
            )
        ),
        _rows(ordered, "order", at=ordered["at"]),
    ]
    return ibis.union(*parts)


def _last(sent: ir.Table, when: ir.TimestampValue) -> ir.Table:
    """The last time on each channel."""
    told = sent.filter(~when.isnull())
    return told.group_by("user_id", "channel").agg(at=when.max())


def _rows(of: ir.Table, what: str, **columns: ir.Value) -> ir.Table:
    none = {name: ibis.null("string") for name in ("name", "value", "decision_id")}
    return of.select(user_id=of.user_id, what=ibis.literal(what), **{**none, **columns})
