"""Requests that wait together are worked on together: what is read and stored for one serves all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Found = TypeVar("Found")
Done = TypeVar("Done")

MOST = 16
"""Asks in a group: the first of them waits for the last."""


class Gathering(Generic[Ask, Found, Done]):
    """Answers asks in groups. Nobody waits for a group to fill: one is what came while the last was worked on.

    A thread of its own decides and stores, so that a request is handed over twice only, and the event loop has nothing
    to do with what lies between. Two of them would answer fewer: groups get smaller, and each costs as much.

    Args:
        decide: What is found for each ask of a group, or why it cannot be.
        store: Stores what was found for a group, all or nothing; what is told of each, or why it cannot be. Where it
            fails for a group, each is tried alone, so that one that cannot be stored takes no neighbour along.
        most: Asks in a group.

    Example:
        >>> async def ask_two():
        ...     gathering = Gathering(lambda asks: [2 * ask for ask in asks], lambda found: [f"{n}!" for n in found])
        ...     answers = await asyncio.gather(gathering.answer(1), gathering.answer(2))
        ...     gathering.close()
        ...     return answers
        >>> asyncio.run(ask_two())
        ['2!', '4!']
    """

    def __init__(
        self,
        decide: Callable[[list[Ask]], Sequence[Found | Exception]],
        store: Callable[[list[Found]], Sequence[Done | Exception]],
        *,
        most: int = MOST,
    ) -> None:
        self._decide, self._store, self._most = decide, store, most
        self._asks: SimpleQueue[tuple[Ask, asyncio.Future[Done]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """So many asks are in no group yet."""
        return self._asks.qsize()

    async def answer(self, ask: Ask) -> Done:
        """What is told of one ask.

        Raises:
            Exception: what `decide` found to be wrong with it, or what either failed with.
        """
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._asks.put((ask, answer))
        return await answer

    def close(self) -> None:
        """Answer who is waiting, then stop."""
        self._asks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while group := self._next():
            done = self._done([ask for ask, _ in group])
            answers = [answer for _, answer in group]
            answers[0].get_loop().call_soon_threadsafe(_tell, answers, done)

    def _next(self) -> list[tuple[Ask, asyncio.Future[Done]]]:
        """Who waits and did not give up, at least one; nobody once it is closed."""
        while True:
            taken = [self._asks.get()]
            taken += [self._asks.get_nowait() for _ in range(min(self._most - 1, self._asks.qsize()))]
            if None in taken:
                self._asks.put(None)  # for the next time
            group = [one for one in taken if one is not None and not one[1].done()]
            if group or None in taken:
                return group

    def _done(self, asks: list[Ask]) -> Sequence[Done | Exception]:
        try:
            found = self._decide(asks)
            stored = iter(self._stored([one for one in found if not isinstance(one, Exception)]))
            return [one if isinstance(one, Exception) else next(stored) for one in found]
        except Exception as error:  # noqa: BLE001 - told to each who asked
            return [error] * len(asks)

    def _stored(self, found: list[Found]) -> Sequence[Done | Exception]:
        if not found:
            return ()
        try:
            return self._store(found)
        except Exception as error:  # noqa: BLE001 - told to the one it is about
            if len(found) == 1:
                return [error]
            return [done for one in found for done in self._stored([one])]


def _tell(answers: Sequence[asyncio.Future[Done]], done: Sequence[Done | Exception]) -> None:
    for answer, one in zip(answers, done, strict=True):
        if answer.done():
            continue
        if isinstance(one, Exception):
            answer.set_exception(one)
        else:
            answer.set_result(one)
