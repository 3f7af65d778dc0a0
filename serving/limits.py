"""How many requests a key may make in a minute, over all workers on one state, which is asked for a share at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.state.counting import forget, take

log = logging.getLogger("attune")

REQUESTS = "requests"
"""What the state counts: by minute and key."""
LEASES = 50
"""A lease is one part in so many of the limit, or all who wait: little of a minute is lost with a worker that stops."""
MINUTE_SECONDS = 60
KEPT_MINUTES = 60
"""Older counts are removed. Clocks of two workers may lie apart, but not by so much."""
AWAY_SECONDS = 5
"""So long a state that could not count is not asked again, for asking it takes a second or two."""


class TooManyError(Exception):
    """The requests of this minute are used up.

    Attributes:
        retry_after_seconds: Until the next one begins.
    """

    def __init__(self, per_minute: int, key_id: str, retry_after_seconds: int) -> None:
        who = f"The key {key_id} may make" if key_id else "All together may make"
        super().__init__(
            f"{who} {per_minute:,} requests a minute (serving.requests_per_minute); "
            f"try again in {retry_after_seconds} seconds, or send fewer."
        )
        self.retry_after_seconds = retry_after_seconds


@dataclass
class _Share:
    """What a worker has of one key's minute.

    Attributes:
        minute: Since 1970.
        left: Requests that it may let through.
        used_up: Whether there are no more.
        uncounted_until: While the state is away, in seconds since 1970.
        waiting: Requests that wait for more.
        asking: Asks the state for them.
    """

    minute: int
    left: int = 0
    used_up: bool = False
    uncounted_until: float = 0.0
    waiting: int = 0
    asking: asyncio.Task[None] | None = None


class RateLimit:
    """Lets through at most so many requests of each key in a minute of the clock, whichever worker they come to.

    A worker takes a lease of the state and counts it down. While the state is away requests are let through: what needs
    it is refused anyway, and what does not is to go on.

    Args:
        per_minute: Requests in a minute.
        commit: Runs a job in a transaction, off the event loop.
        clock: Seconds since 1970.

    Example:
        >>> from data.state import State
        >>> state = State.open("sqlite://")
        >>> async def commit(job):
        ...     with state.writing() as connection:
        ...         return job(connection)
        >>> async def ask_three():
        ...     limit = RateLimit(2, commit, clock=lambda: 90.0)
        ...     return await asyncio.gather(*(limit.count("8f") for _ in range(3)), return_exceptions=True)
        >>> for told in asyncio.run(ask_three()):
        ...     print(told)
        None
        None
        The key 8f may make 2 requests a minute (serving.requests_per_minute); try again in 30 seconds, or send fewer.
    """

    def __init__(
        self,
        per_minute: int,
        commit: Callable[[Callable[[sa.Connection], int]], Awaitable[int]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._per_minute = per_minute
        self._lease = max(1, per_minute // LEASES)
        self._commit = commit
        self._clock = clock
        self._shares: dict[str, _Share] = {}

    async def count(self, key_id: str) -> None:
        """Let one request through.

        Args:
            key_id: Of whose key; empty where all count together.

        Raises:
            TooManyError: there were too many in this minute.
        """
        while True:
            now = self._clock()
            minute = int(now // MINUTE_SECONDS)
            share = self._shares.get(key_id)
            if share is None or share.minute != minute:
                share = self._shares[key_id] = _Share(minute)
            if share.left:
                share.left -= 1
                return
            if now < share.uncounted_until:
                return
            if share.used_up:
                raise TooManyError(self._per_minute, key_id, math.ceil((minute + 1) * MINUTE_SECONDS - now))
            if share.asking is None:
                share.asking = asyncio.create_task(self._ask(key_id, share))
            share.waiting += 1
            try:  # all who wait share one answer, and it stays when one of them gives up
                await asyncio.shield(share.asking)
            finally:
                share.waiting -= 1

    async def _ask(self, key_id: str, share: _Share) -> None:
        wanted = max(self._lease, share.waiting)
        try:
            taken = await self._commit(partial(self._take, key_id, share.minute, wanted))
            share.left = taken
            share.used_up = not taken
        except StateUnavailableError as error:
            log.warning("requests are let through uncounted: %s", error)
            share.uncounted_until = self._clock() + AWAY_SECONDS
        finally:
            share.asking = None

    def _take(self, key_id: str, minute: int, wanted: int, connection: sa.Connection) -> int:
        """So many of those wanted, by halves where they are more than there are; 0 only where none is left."""
        forget(connection, REQUESTS, before=str(minute - KEPT_MINUTES))
        about = f"{minute} {key_id}"
        taken, part = 0, wanted
        while part:
            if take(connection, REQUESTS, about, limit=self._per_minute, amount=part):
                taken += part
            part = min(part // 2, wanted - taken)
        return taken
