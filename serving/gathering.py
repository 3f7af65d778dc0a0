"""Requests that wait together are worked on together: what is read and stored for one serves all of them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar

Ask = TypeVar("Ask")
Found = TypeVar("Found")
Done = TypeVar("Done")

Group: TypeAlias = list[tuple[Ask, asyncio.Future[Done]]]

MOST = 16
"""Asks in a group: the first of them waits for the last."""
LONGEST_SECONDS = 0.025
"""So long a group may keep the event loop, as far as the last one tells: it is of fewer asks where they take longer."""
TICK_SECONDS = 1e-6
"""No ask takes less, whatever the clock says."""
FEW = 4
"""Where not even so many asks go into that time, the event loop is left free."""


class Gathering(Generic[Ask, Found, Done]):
    """Answers asks in groups, one group after the other.

    A group begins once a turn of the event loop brought nobody else, or so many that it is full. Where nothing has to
    be waited for, it is worked on in the event loop itself: to hand it over to a thread and back costs as much as a
    quick group takes, for both want the interpreter, on two cores with a cache each. What takes longer, or cannot be
    done without waiting, is worked on beside it.

    Args:
        decide: What is found for each ask of a group, or why it cannot be.
        store: Stores what was found for a group, all or nothing; what is told of each, or why it cannot be. Where it
            fails for a group, each is tried alone, so that one that cannot be stored takes no neighbour along.
        most: Asks in a group.

    Attributes:
        at_once: Does what `store` does without waiting for anything, or fails having stored nothing; None where
            everything is to be done beside the event loop.

    Example:
        >>> async def ask_two():
        ...     gathering = Gathering(lambda asks: [2 * ask for ask in asks], lambda found: [f"{n}!" for n in found])
        ...     answers = await asyncio.gather(gathering.answer(1), gathering.answer(2))
        ...     gathering.close()
        ...     return answers
        >>> asyncio.run(ask_two())
        ['2!', '4!']
    """

    at_once: Callable[[list[Found]], Sequence[Done | Exception]] | None = None

    def __init__(
        self,
        decide: Callable[[list[Ask]], Sequence[Found | Exception]],
        store: Callable[[list[Found]], Sequence[Done | Exception]],
        *,
        most: int = MOST,
    ) -> None:
        self._decide, self._store, self._most = decide, store, most
        self._asks: Group[Ask, Done] = []
        self._under_way = False
        self._seconds = math.inf  # that an ask of the last group took: what the first one takes is not known
        self._groups: SimpleQueue[tuple[Group[Ask, Done], Sequence[Found | Exception] | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """So many asks are in no group yet."""
        return len(self._asks)

    async def answer(self, ask: Ask) -> Done:
        """What is told of one ask.

        Raises:
            Exception: what `decide` found to be wrong with it, or what either failed with.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Done] = loop.create_future()
        self._asks.append((ask, answer))
        if not self._under_way:
            self._under_way = True
            loop.call_soon(self._look, 0)
        return await answer

    def close(self) -> None:
        """Answer who is waiting, then stop; to be called where `answer` is."""
        if self._asks:
            self._groups.put((self._asks, None))
        self._asks = []
        self._groups.put(None)
        self._thread.join()

    def _look(self, seen: int) -> None:
        """Begin with a group, or look again after the next turn of the event loop if this one brought further asks."""
        n = len(self._asks)
        if seen < n < MOST:
            asyncio.get_running_loop().call_soon(self._look, n)
            return
        at_once = self.at_once if FEW * self._seconds < LONGEST_SECONDS else None
        most = self._most if at_once is None else min(self._most, int(LONGEST_SECONDS / self._seconds))
        taken, self._asks = self._asks[:most], self._asks[most:]
        group = [one for one in taken if not one[1].done()]  # the others gave up
        if not group:
            self._go_on()
        elif at_once is None:
            self._groups.put((group, None))
        else:
            self._here(group, at_once)

    def _here(self, group: Group[Ask, Done], at_once: Callable[[list[Found]], Sequence[Done | Exception]]) -> None:
        started = time.perf_counter()
        found = None
        try:
            found = self._decide([ask for ask, _ in group])
            done = _each(found, at_once)
        except Exception:  # noqa: BLE001 - whatever it is, it is tried again with patience, and told then
            self._groups.put((group, found))
        else:
            self._tell(group, done, time.perf_counter() - started)

    def _work(self) -> None:
        while (given := self._groups.get()) is not None:
            group, found = given
            started = time.perf_counter()
            done = self._done([ask for ask, _ in group], found)
            loop = group[0][1].get_loop()
            loop.call_soon_threadsafe(self._tell, group, done, time.perf_counter() - started)

    def _done(self, asks: list[Ask], found: Sequence[Found | Exception] | None) -> Sequence[Done | Exception]:
        try:
            return _each(self._decide(asks) if found is None else found, self._stored)
        except Exception as error:  # noqa: BLE001 - told to each who asked
            return [error] * len(asks)

    def _stored(self, found: list[Found]) -> Sequence[Done | Exception]:
        try:
            return self._store(found)
        except Exception as error:  # noqa: BLE001 - told to the one it is about
            if len(found) == 1:
                return [error]
            return [done for one in found for done in self._stored([one])]

    def _tell(self, group: Group[Ask, Done], done: Sequence[Done | Exception], seconds: float) -> None:
        self._seconds = max(seconds / len(group), TICK_SECONDS)
        for (_, answer), one in zip(group, done, strict=True):
            if answer.done():
                continue
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)
        self._go_on()

    def _go_on(self) -> None:
        self._under_way = bool(self._asks)
        if self._asks:
            asyncio.get_running_loop().call_soon(self._look, 0)


def _each(
    found: Sequence[Found | Exception], store: Callable[[list[Found]], Sequence[Done | Exception]]
) -> Sequence[Done | Exception]:
    """What is told of each: what storing gives of those that something was found for."""
    good = [one for one in found if not isinstance(one, Exception)]
    stored = iter(store(good) if good else ())
    return [one if isinstance(one, Exception) else next(stored) for one in found]
