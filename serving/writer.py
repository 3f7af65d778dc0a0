"""One writer for the state: what many requests want stored is committed together, each told when it is on the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from data.errors import StateUnavailableError
from data.state import State
from data.state.engine import BUSY_TIMEOUT_SECONDS
from serving.gathering import Gathering

T = TypeVar("T")
Job = Callable[[sa.Connection], Any]
LONGEST_QUEUE = 10_000
BEHIND = "The state's writer is behind; try again shortly."


class Writer:
    """Group commit: while one transaction is on its way to the disk, the next gathers.

    One flush to the disk then serves many requests. SQLite has one writer at a time: ours take turns, so that they
    never have to ask for it again and again.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._turn = threading.Lock()
        self._jobs: Gathering[Job, Job, Any] = Gathering(list, self._store, most=LONGEST_QUEUE)

    async def write(self, job: Callable[[sa.Connection], T]) -> T:
        """Run `job` in a transaction and return its result once that is on the disk.

        Args:
            job: Stores rows.

        Raises:
            StateUnavailableError: nothing was stored.
        """
        if self._jobs.waiting >= LONGEST_QUEUE:
            raise StateUnavailableError(BEHIND)
        found: T = await self._jobs.answer(job)
        return found

    def commit(
        self, job: Callable[[sa.Connection], T], *, flush: bool, patience_seconds: float = BUSY_TIMEOUT_SECONDS
    ) -> T:
        """As `write`, at once and in this thread.

        Args:
            job: Stores rows.
            flush: Wait for the disk, see `State.writing`.
            patience_seconds: So long the turn is waited for; with 0 nothing is, nor another program that writes.

        Raises:
            StateUnavailableError: nothing was stored.
        """
        if not self._turn.acquire(timeout=patience_seconds):
            raise StateUnavailableError(BEHIND)
        try:
            with self._state.writing(flush=flush, wait=patience_seconds > 0) as connection:
                return job(connection)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Store what is waiting, then stop."""
        self._jobs.close()

    def _store(self, jobs: list[Job]) -> list[Any]:
        try:
            return self.commit(lambda connection: [job(connection) for job in jobs], flush=True)
        except StateUnavailableError as error:
            return [error] * len(jobs)  # of all: none is to be tried alone
