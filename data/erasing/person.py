"""A person's erasure: from the state at once, from the workspace's files, with a receipt, and for good.

Only keyed hashes of the person's ids outlive the first step. The files are searched for ids with such a hash, so an
interrupted erasure goes on where it was, and an import that brings the person back is cleared in the same way.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from data.contract import TABLES
from data.erasing.files import clear
from data.files import alone, replacing
from data.state import State, tombstones
from data.state.schema import counters, erasures, slices, tables
from data.tables import conform, connect, read_raw
from data.workspace import Workspace

log = logging.getLogger("attune")

OUTSIDE = (
    "files that `attune score` or `attune report` wrote elsewhere, files that were imported from, and backups are not "
    "part of the workspace: remove the person there yourself"
)
REASON = "of a person who was erased"


@dataclass(frozen=True)
class Receipt:
    """What was removed of a person, without naming them.

    Attributes:
        erasure_id: Names this erasure.
        person: The user id's hash, keyed with the workspace's salt.
        at: When the state was cleared.
        keep_orders: Whether orders stay, without the person.
        visitors: Anonymous ids that were theirs.
        state: Rows removed from the live state, by table.
        files: Rows removed from each of the workspace's files; `reports/...` counts 1 for a file removed whole.
        orders_kept: Order lines that stay without the person, in the state and in files.
        complete: Whether the files are done with.
        outside: What this does not reach.
    """

    erasure_id: str
    person: str
    at: str
    keep_orders: bool
    visitors: int
    state: Mapping[str, int]
    files: Mapping[str, int] = field(default_factory=dict)
    orders_kept: int = 0
    complete: bool = False
    outside: str = OUTSIDE

    @property
    def rows(self) -> int:
        """Rows removed in all."""
        return sum(self.state.values()) + sum(self.files.values())


def erase(workspace: Workspace, state: State, user_id: str, *, keep_orders: bool = False) -> Receipt:
    r"""Remove a person from the state and from the workspace's files, and keep them from coming back.

    Their anonymous history goes with them: of each visitor who was first named as this user. Doing it again is safe,
    and so is interrupting it: the next call, `attune check` or the running service goes on.

    Args:
        workspace: The shop.
        state: Its state.
        user_id: Whom; somebody nobody knows gets a receipt of nothing.
        keep_orders: Leave their orders, as a guest's: for shops that must keep their books.

    Raises:
        StateUnavailableError: nothing was removed.
        DataError: a file cannot be read; the rest is done.

    Example:
        >>> import tempfile
        >>> shop = Workspace.create(tempfile.mkdtemp())
        >>> _ = (shop.tables_dir / "consents.csv").write_text(
        ...     "user_id,purpose,granted,at\nann,email,true,2026-01-01\nbob,email,true,2026-01-01\n")
        >>> receipt = erase(shop, State.of(shop), "ann")
        >>> dict(receipt.files), (shop.tables_dir / "consents.csv").read_text().splitlines()[1]
        ({'tables/consents.csv': 1}, 'bob,email,true,2026-01-01')
    """
    begun = begin(workspace, state, user_id, keep_orders=keep_orders)
    return next((receipt for receipt in finish(workspace, state) if receipt.erasure_id == begun.erasure_id), begun)


def begin(workspace: Workspace, state: State, user_id: str, *, keep_orders: bool = False) -> Receipt:
    """The first step: the person leaves the state, in one transaction; `finish` clears the files.

    Somebody who was erased before, and of whom there is nothing new, has the receipt of that time.
    """
    brought = _named_in_tables(workspace)
    with state.writing() as connection:
        known = tombstones.of(connection)
        person = known.hash(user_id)
        visitors = _visitors(connection, user_id, brought)
        hashes = [person, *map(known.hash, visitors)]
        kept = 0
        if keep_orders:
            kept = _rowcount(connection, _orders_of(user_id).values(user_id=None, extra=None))
        removed = _removed(connection, user_id, visitors)
        done_before = all(
            known.hashes.get(one, not keep_orders) == keep_orders and one in known.hashes for one in hashes
        )
        earlier = _latest(connection, person) if done_before and not kept and not removed else None
        if earlier is not None:
            return earlier
        at = datetime.now(UTC)
        receipt = Receipt(
            erasure_id=f"{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}", person=person, at=at.isoformat(),
            keep_orders=keep_orders, visitors=len(visitors), state=removed, orders_kept=kept,
        )  # fmt: skip
        tombstones.add(connection, hashes, keep_orders=keep_orders)
        row = {"erasure_id": receipt.erasure_id, "person": person, "pending": hashes, "receipt": asdict(receipt)}
        connection.execute(erasures.insert().values(row))
    state.wipe()
    with state.reading() as connection:
        state.tombstones.refresh(connection)
    return receipt


def pending(state: State) -> bool:
    """Whether the files of an erasure are still to be cleared."""
    with state.reading() as connection:
        return connection.scalar(sa.select(sa.exists().where(erasures.c.pending.is_not(None)))) is True


def finish(workspace: Workspace, state: State) -> list[Receipt]:
    """The second step, for everybody whose first step was done: clear the files, and keep the receipts.

    Waits for a check, sync or import that runs; each file is written beside and renamed.

    Raises:
        DataError: a file cannot be read; it will be tried again.
    """
    with alone(workspace.path):
        with state.reading() as connection:
            found = connection.execute(sa.select(erasures).where(erasures.c.pending.is_not(None))).all()
            state.tombstones.refresh(connection)
        whose = {hash_: row.erasure_id for row in found for hash_ in row.pending}
        cleared = clear(workspace, state.tombstones, whose)
        receipts = []
        for row in found:
            before = Receipt(**row.receipt)
            receipt = replace(
                before,
                files=dict(cleared.removed.get(row.erasure_id, {})),
                orders_kept=before.orders_kept + cleared.orders_kept[row.erasure_id],
                complete=True,
            )
            with replacing(workspace.erasures_dir / f"{row.erasure_id}.json") as beside:
                beside.write_text(json.dumps(asdict(receipt), indent=1), encoding="utf-8")
            with state.writing() as connection:
                done = erasures.update().where(erasures.c.erasure_id == row.erasure_id)
                connection.execute(done.values(pending=sa.null(), receipt=asdict(receipt)))
            receipts.append(receipt)
    state.wipe()
    return receipts


def keep_out(workspace: Workspace) -> int:
    """Clear the files of everybody who was ever erased: what an import brought back. How many rows were removed.

    `erasures/kept-out.jsonl` tells how many of which file. To be called by whoever is `alone` with the workspace.

    Raises:
        StateUnavailableError: the state, which knows who was erased, cannot be read.
        DataError: a file cannot be read.
    """
    if not workspace.settings.state.url and not (workspace.path / "state.db").exists():
        return 0
    state = State.of(workspace)
    state.close()
    known = state.tombstones
    rows = clear(workspace, known, dict.fromkeys(known.hashes, REASON)).removed.get(REASON)
    if not rows:
        return 0
    workspace.erasures_dir.mkdir(exist_ok=True)
    with (workspace.erasures_dir / "kept-out.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": datetime.now(UTC).isoformat(), "reason": REASON, "rows": rows}) + "\n")
    log.warning("%d rows %s were there again and are removed", rows.total(), REASON)
    return rows.total()


def _named_in_tables(workspace: Workspace) -> list[tuple[str, str, datetime]]:
    """Visitor, user and time of every identity in the tables."""
    if not workspace.tables_dir.is_dir():
        return []
    backend = connect()
    raw = read_raw(backend, workspace.tables_dir, names=("identities",)).get("identities")
    rows = conform(raw, TABLES["identities"]).select("anonymous_id", "user_id", "at").to_pyarrow().to_pylist()
    backend.disconnect()
    return [(row["anonymous_id"], row["user_id"], row["at"]) for row in rows if None not in row.values()]


def _visitors(connection: sa.Connection, user_id: str, brought: Iterable[tuple[str, str, datetime]]) -> list[str]:
    """Whose history is the user's: visitors who were named as this user before any other."""
    identities = tables["identities"].c
    theirs = {visitor for visitor, user, _ in brought if user == user_id}
    theirs |= set(connection.scalars(sa.select(identities.anonymous_id).where(identities.user_id == user_id)))
    query = sa.select(identities.anonymous_id, identities.user_id, identities.at)
    whose = (query.where(identities.anonymous_id.in_(some)) for some in slices(list(theirs)))
    live = [tuple(row) for some in whose for row in connection.execute(some)]
    first: dict[str, tuple[datetime, str]] = {}
    for visitor, user, at in [*brought, *live]:
        if visitor in theirs:
            first[visitor] = min(first.get(visitor, (at, user)), (at, user))
    return sorted(visitor for visitor, (_, user) in first.items() if user == user_id)


def _orders_of(user_id: str) -> sa.Update:
    return tables["orders"].update().where(tables["orders"].c.user_id == user_id)


def _removed(connection: sa.Connection, user_id: str, visitors: Sequence[str]) -> dict[str, int]:
    """Delete the person from every table of the state; rows by table."""
    counts: Counter[str] = Counter()
    for ids in slices([user_id, *visitors]):
        for table, which in _theirs(user_id, ids).items():
            counts[table.name] += _rowcount(connection, table.delete().where(which))
    return {name: count for name, count in counts.items() if count}


def _theirs(user_id: str, ids: Sequence[str]) -> dict[sa.Table, sa.ColumnElement[bool]]:
    """By table, which rows are the user's, or under some ids of theirs."""
    decisions, events = tables["decisions"].c, tables["events"].c
    theirs = sa.select(decisions.decision_id).where(decisions.user_id.in_(ids))
    return {
        tables["outcomes"]: tables["outcomes"].c.decision_id.in_(theirs),  # before the decisions that tell whose
        **{
            table: table.c.user_id.in_(ids)  # decisions and counters are made for visitors too
            for table in (*tables.values(), counters)
            if "user_id" in table.c
        },
        tables["events"]: sa.or_(
            # The id itself may be a visitor's who never became known.
            events.user_id == user_id,
            sa.and_(events.user_id.is_(None), events.anonymous_id.in_(ids)),
        ),
    }


def _rowcount(connection: sa.Connection, statement: sa.Update | sa.Delete) -> int:
    return connection.execute(statement).rowcount


def _latest(connection: sa.Connection, person: str) -> Receipt | None:
    query = sa.select(erasures.c.receipt).where(erasures.c.person == person).order_by(erasures.c.erasure_id.desc())
    found = connection.scalars(query.limit(1)).first()
    return Receipt(**found) if found else None
