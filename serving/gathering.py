"""Requests that wait together are worked on together: what is read and stored for one serves all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Found = TypeVar("Found")
Done = TypeVar("Done")

MOST = 16
"""Asks in a group: the first of them waits for the last."""


class Gathering(Generic[Ask, Found, Done]):
    """Answers asks in groups. Nobody waits for a group to fill: one is what came while the last was decided about.

    Args:
        decide: What is found for each ask of a group, or why it cannot be.
        store: Stores what was found for a group, all or nothing; what is told of each, or why it cannot be. Where it
            fails for a group, each is tried alone, so that one that cannot be stored takes no neighbour along.

    Example:
        >>> async def doubled(numbers): return [2 * number for number in numbers]
        >>> async def kept(numbers): return [f"{number} is kept" for number in numbers]
        >>> async def ask_two():
        ...     gathering = Gathering(doubled, kept)
        ...     return await asyncio.gather(gathering.answer(1), gathering.answer(2))
        >>> asyncio.run(ask_two())
        ['2 is kept', '4 is kept']
    """

    def __init__(
        self,
        decide: Callable[[list[Ask]], Awaitable[Sequence[Found | Exception]]],
        store: Callable[[list[Found]], Awaitable[Sequence[Done | Exception]]],
    ) -> None:
        self._decide, self._store = decide, store
        self._waiting: deque[tuple[Ask, asyncio.Future[Done]]] = deque()
        self._deciding: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Task[None]] = set()

    async def answer(self, ask: Ask) -> Done:
        """What is told of one ask.

        Raises:
            Exception: what `decide` found to be wrong with it, or what either failed with.
        """
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            group = [(ask, answer) for ask, answer in group if not answer.done()]  # without those who gave up
            found = await self._decided([ask for ask, _ in group])
            self._storing.add(asyncio.create_task(self._finish([answer for _, answer in group], found)))
            self._storing = {one for one in self._storing if not one.done()}  # the next group need not wait for them

    async def _finish(self, answers: Sequence[asyncio.Future[Done]], found: Sequence[Found | Exception]) -> None:
        good = [one for one in found if not isinstance(one, Exception)]
        stored = iter(await self._stored(good) if good else ())
        for answer, one in zip(answers, found, strict=True):
            done = one if isinstance(one, Exception) else next(stored)
            if answer.done():
                continue
            if isinstance(done, Exception):
                answer.set_exception(done)
            else:
                answer.set_result(done)

    async def _decided(self, asks: list[Ask]) -> Sequence[Found | Exception]:
        try:
            return await self._decide(asks)
        except Exception as error:  # noqa: BLE001 - told to each who asked
            return [error] * len(asks)

    async def _stored(self, found: list[Found]) -> Sequence[Done | Exception]:
        try:
            return await self._store(found)
        except Exception as error:  # noqa: BLE001 - told to the one it is about
            if len(found) == 1:
                return [error]
            return [done for one in found for done in await self._stored([one])]
