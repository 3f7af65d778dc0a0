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
THREADS = 2
"""One decides about a group while the other stores one. With more of them groups are smaller, and cost as much each."""


class Gathering(Generic[Ask, Found, Done]):
    """Answers asks in groups. Nobody waits for a group to fill: one is what came while the last was decided about.

    A thread takes a group, decides and stores it; while it stores, another may decide about the next. So a request is
    handed over twice only, and the event loop has nothing to do with what lies between.

    Args:
        decide: What is found for each ask of a group, or why it cannot be.
        store: Stores what was found for a group, all or nothing; what is told of each, or why it cannot be. Where it
            fails for a group, each is tried alone, so that one that cannot be stored takes no neighbour along.
        most: Asks in a group.
        threads: So many groups are worked on at a time, one of them decided about.

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
        threads: int = THREADS,
    ) -> None:
        self._decide, self._store, self._most = decide, store, most
        self._asks: SimpleQueue[tuple[Ask, asyncio.Future[Done]] | None] = SimpleQueue()
        self._deciding = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

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
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._deciding:
                group = self._next()
                found = _tried(self._decide, [ask for ask, _ in group]) if group else ()
            if not group:
                break
            stored = iter(self._stored([one for one in found if not isinstance(one, Exception)]))
            done = [one if isinstance(one, Exception) else next(stored) for one in found]
            answers = [answer for _, answer in group]
            answers[0].get_loop().call_soon_threadsafe(_tell, answers, done)

    def _next(self) -> list[tuple[Ask, asyncio.Future[Done]]]:
        """Who waits and did not give up, at least one; nobody once it is closed."""
        while True:
            taken = [self._asks.get()]
            taken += [self._asks.get_nowait() for _ in range(min(self._most - 1, self._asks.qsize()))]
            if None in taken:
                self._asks.put(None)  # for the next thread
            group = [one for one in taken if one is not None and not one[1].done()]
            if group or None in taken:
                return group

    def _stored(self, found: list[Found]) -> Sequence[Done | Exception]:
        if not found:
            return ()
        try:
            return self._store(found)
        except Exception as error:  # noqa: BLE001 - told to the one it is about
            if len(found) == 1:
                return [error]
            return [done for one in found for done in self._stored([one])]


def _tried(decide: Callable[[list[Ask]], Sequence[Found | Exception]], asks: list[Ask]) -> Sequence[Found | Exception]:
    try:
        return decide(asks)
    except Exception as error:  # noqa: BLE001 - told to each who asked
        return [error] * len(asks)


def _tell(answers: Sequence[asyncio.Future[Done]], done: Sequence[Done | Exception]) -> None:
    for answer, one in zip(answers, done, strict=True):
        if answer.done():
            continue
        if isinstance(one, Exception):
            answer.set_exception(one)
        else:
            answer.set_result(one)
