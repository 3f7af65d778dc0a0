"""API keys: made once, shown once, stored hashed; each has a role."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sa

from data.errors import DataError
from data.state.engine import State
from data.state.schema import api_keys

Role = Literal["app", "admin"]
PREFIX = "attune"


@dataclass(frozen=True)
class Key:
    """What is known of a key; never the key itself.

    Attributes:
        key_id: Its public part.
        role: What it may do: an app asks and sends events; an admin also changes tables.
        name: What it was made for.
        created_at: When it was made.
        revoked_at: When it was revoked, if it was.
    """

    key_id: str
    role: Role
    name: str
    created_at: datetime
    revoked_at: datetime | None


def create(state: State, *, role: str, name: str = "") -> str:
    """Make a key and return it: `attune_<id>_<secret>`, a secret of 256 random bits. It cannot be shown again.

    A random secret of that length needs no slow hash: SHA-256 cannot be searched through.

    Raises:
        DataError: no such role.
    """
    if role not in get_args(Role):
        raise DataError(f"role {role!r} is none of {', '.join(get_args(Role))}.")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    with state.writing() as connection:
        connection.execute(
            api_keys.insert().values(
                key_id=key_id, hash=_hash(secret), role=role, name=name, created_at=datetime.now(UTC)
            )
        )
    return f"{PREFIX}_{key_id}_{secret}"


def revoke(state: State, key_id: str) -> None:
    """Make a key worthless from now on.

    Raises:
        DataError: no such key in force.
    """
    in_force = api_keys.c.revoked_at.is_(None)
    with state.writing() as connection:
        done = connection.execute(
            api_keys.update().where(api_keys.c.key_id == key_id, in_force).values(revoked_at=datetime.now(UTC))
        )
    if done.rowcount != 1:
        raise DataError(f"key {key_id!r} is not in force. `attune keys list` shows the keys.")


def listed(state: State) -> list[Key]:
    """Every key, the oldest first."""
    columns = [column for column in api_keys.c if column.name != "hash"]
    with state.reading() as connection:
        return [Key(**row._mapping) for row in connection.execute(sa.select(*columns).order_by(api_keys.c.created_at))]


def in_force(state: State) -> dict[str, tuple[Role, str]]:
    """Role and hash of every key in force, by key id: what `role_of` looks keys up in."""
    with state.reading() as connection:
        return {row.key_id: (row.role, row.hash) for row in connection.execute(IN_FORCE)}


IN_FORCE = sa.select(api_keys.c.key_id, api_keys.c.role, api_keys.c.hash).where(api_keys.c.revoked_at.is_(None))


def role_of(key: str, known: dict[str, tuple[Role, str]]) -> Role | None:
    """The role of a key as sent by an app, None if it is not in force.

    Example:
        >>> state = State.open("sqlite://")
        >>> role_of(create(state, role="app"), in_force(state)), role_of("attune_guess_guess", in_force(state))
        ('app', None)
    """
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    role, stored = known.get(key_id, (None, OF_NOBODY))
    matches = hmac.compare_digest(_hash(secret), stored)
    return role if matches and prefix == PREFIX else None


def id_of(key: str) -> str:
    """The public part of a key as sent by an app, in force or not.

    Example:
        >>> id_of("attune_8f_secret")
        '8f'
    """
    return key.partition("_")[2].partition("_")[0]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


OF_NOBODY = _hash("")
"""What a key that is not known is held against, so that it takes as long."""
