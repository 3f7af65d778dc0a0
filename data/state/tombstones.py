"""Who was erased: known again by keyed hashes of their ids alone, so that no writer lets them back in."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from data.state.schema import slices
from data.state.schema import tombstones as table

OPTION = "attune_tombstones"
"""The execution option under which a state's connections carry its tombstones."""

STRANGER = "stranger-"
"""How the ids begin of those whom nobody knows."""

ERASED = "belongs to a person who was erased"
"""Why a row is refused."""


def stranger(request: str) -> str:
    """The id of somebody nobody knows, of one request or decision alone."""
    return f"{STRANGER}{request}"


class Tombstones:
    """The hashes of everybody who was erased, kept up with the state.

    Args:
        salt: The workspace's; with another one nobody is known again.

    Example:
        >>> Tombstones("pepper").hash("ann") == Tombstones("salt").hash("ann"), Tombstones("salt").holds("ann")
        (False, False)
    """

    def __init__(self, salt: str) -> None:
        self._key = hashlib.sha256(salt.encode()).digest()
        self._keeps_orders: dict[str, bool] = {}
        self._newest = 0
        self._taking_over = threading.Lock()

    def __bool__(self) -> bool:
        """Whether anybody was erased."""
        return bool(self._keeps_orders)

    @property
    def hashes(self) -> Mapping[str, bool]:
        """By the hash of each erased id: whether their orders stay, without the person."""
        return self._keeps_orders

    def hash(self, id_: str) -> str:
        """What stands for an id: BLAKE2b keyed with the salt, as 64 hexadecimal digits."""
        return hashlib.blake2b(id_.encode(errors="surrogatepass"), key=self._key, digest_size=32).hexdigest()

    def holds(self, id_: str | None) -> bool:
        """Whether a user or visitor was erased, as of the last `refresh`."""
        return bool(self._keeps_orders) and id_ is not None and self.hash(id_) in self._keeps_orders

    def keeps_orders(self, id_: str) -> bool:
        """Whether the orders of somebody who was erased stay, without them."""
        return self._keeps_orders.get(self.hash(id_), False)

    def refresh(self, connection: sa.Connection) -> None:
        """Take over who was erased since the last time."""
        # Not built with SQLAlchemy's expressions: every write asks it, and most have nothing to take over.
        newest = connection.exec_driver_sql("SELECT max(seq) FROM tombstones").scalar() or 0
        if newest <= self._newest:
            return
        found = connection.execute(sa.select(table.c.person, table.c.keep_orders))
        keeps_orders = {row.person: row.keep_orders for row in found}
        with self._taking_over:
            if newest > self._newest:  # another thread may have read later, and nobody is to come back meanwhile
                self._keeps_orders, self._newest = keeps_orders, newest


def of(connection: sa.Connection) -> Tombstones:
    """The tombstones of the state that a connection leads to, up to date for its transaction."""
    found: Tombstones = connection.get_execution_options()[OPTION]
    found.refresh(connection)
    return found


def without_erased(tombstones: Tombstones, name: str, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows of a table of the state that may be stored.

    What somebody who was erased is said to have done is left out. A decision for them is a stranger's; their order
    is nobody's, where orders stay.
    """
    if not tombstones:
        return rows
    return [row for given in rows if (row := _allowed(tombstones, name, given)) is not None]


def _allowed(tombstones: Tombstones, name: str, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    user_id = row.get("user_id")
    if user_id is None:
        return None if tombstones.holds(row.get("anonymous_id")) else row
    if not tombstones.holds(user_id):
        return row
    if name == "decisions":
        return {**row, "user_id": stranger(row["decision_id"])}
    if name == "orders" and tombstones.keeps_orders(user_id):
        return {**row, "user_id": None, "extra": None}
    return None


def add(connection: sa.Connection, hashes: Iterable[str], *, keep_orders: bool) -> None:
    """Remember who was erased; in the place of what was remembered of them."""
    people = list(hashes)
    for some in slices(people):
        connection.execute(table.delete().where(table.c.person.in_(some)))
    connection.execute(table.insert(), [{"person": person, "keep_orders": keep_orders} for person in people])
