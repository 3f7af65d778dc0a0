"""One writer for the state: what many requests want stored is committed together, each told when it is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.state import State

T = TypeVar("T")
Job = Callable[[sa.Connection], Any]
LONGEST_QUEUE = 10_000


class Waiting(NamedTuple):
    """A job whose turn has not come."""

    job: Job
    flush: bool
    stored: asyncio.Future[Any]


class Writer:
    """Group commit: while one transaction is on its way to the disk, the next gathers.

    One flush to the disk then serves many requests, and SQLite, which has one writer at a time, never has
    two of ours wait for one another.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: list[Waiting] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attune-writer")
        self._running: asyncio.Task[None] | None = None

    async def write(self, job: Callable[[sa.Connection], T], *, flush: bool = True) -> T:
        """Run `job` in a transaction and return its result once that is committed.

        Args:
            job: Stores rows.
            flush: Wait for the disk, see `State.writing`.

        Raises:
            StateUnavailableError: nothing was stored.
        """
        if len(self._waiting) >= LONGEST_QUEUE:
            raise StateUnavailableError("The state's writer is behind by too much; try again shortly.")
        stored: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(job, flush, stored))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await stored

    async def close(self) -> None:
        """Store what is waiting, then stop."""
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            # A request that was given up before its turn is not stored: it was told so, or told nothing.
            group = [waiting for waiting in self._waiting if not waiting.stored.done()]
            self._waiting.clear()
            outcomes = await loop.run_in_executor(self._thread, self._commit, group)
            for waiting, outcome in zip(group, outcomes, strict=True):
                if waiting.stored.done():
                    continue
                if isinstance(outcome, Exception):
                    waiting.stored.set_exception(outcome)
                else:
                    waiting.stored.set_result(outcome)

    def _commit(self, group: list[Waiting]) -> list[Any]:
        """The result, or the exception, of each job."""
        try:
            with self._state.writing(flush=any(waiting.flush for waiting in group)) as connection:
                return [waiting.job(connection) for waiting in group]
        except StateUnavailableError as error:
            return [error] * len(group)
        except Exception as error:  # noqa: BLE001 - one bad job must not take its neighbours along
            if len(group) == 1:
                return [error]
            return [outcome for waiting in group for outcome in self._commit([waiting])]
