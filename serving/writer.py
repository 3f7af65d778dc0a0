"""One writer for the state: what many requests want stored is committed together, each told when it is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.state import State

T = TypeVar("T")
Job = Callable[[sa.Connection], Any]
LONGEST_QUEUE = 10_000


class Writer:
    """Group commit: while one transaction is on its way to the disk, the next gathers.

    One flush to the disk then serves many requests, and SQLite, which has one writer at a time, never has
    two of ours wait for one another.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: list[tuple[Job, asyncio.Future[Any]]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attune-writer")
        self._running: asyncio.Task[None] | None = None

    async def write(self, job: Callable[[sa.Connection], T]) -> T:
        """Run `job` in a transaction and return its result once that is committed.

        Raises:
            StateUnavailableError: nothing was stored.
        """
        if len(self._waiting) >= LONGEST_QUEUE:
            raise StateUnavailableError("The state's writer is behind by too much; try again shortly.")
        stored: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, stored))
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
            group = [(job, stored) for job, stored in self._waiting if not stored.done()]
            self._waiting.clear()
            outcomes = await loop.run_in_executor(self._thread, self._commit, [job for job, _ in group])
            for (_, stored), outcome in zip(group, outcomes, strict=True):
                if stored.done():
                    continue
                if isinstance(outcome, Exception):
                    stored.set_exception(outcome)
                else:
                    stored.set_result(outcome)

    def _commit(self, jobs: list[Job]) -> list[Any]:
        """The result, or the exception, of each job."""
        try:
            with self._state.writing() as connection:
                return [job(connection) for job in jobs]
        except StateUnavailableError as error:
            return [error] * len(jobs)
        except Exception as error:  # noqa: BLE001 - one bad job must not take its neighbours along
            if len(jobs) == 1:
                return [error]
            return [outcome for job in jobs for outcome in self._commit([job])]
