"""Progress on stderr for long work: a bar on a terminal, one timed log line anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
log = logging.getLogger("attune")


def track(steps: Sequence[T], what: str) -> Iterator[T]:
    """Yield each step with a progress bar named `what` (on a terminal), then log how long all took.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.progress import track as bar  # noqa: PLC0415 - only terminals pay for rich

        yield from bar(steps, description=what, console=_terminal(), transient=True)
    else:
        yield from steps
    log.info("%s: %d steps in %.1f s", what, len(steps), time.monotonic() - started)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log how long the body took; on a terminal show a spinner meanwhile."""
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.status import Status  # noqa: PLC0415

        with Status(what, console=_terminal()):
            yield
    else:
        yield
    log.info("%s: %.1f s", what, time.monotonic() - started)


@contextmanager
def telling(what: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that tells how far the body is: the words beside a spinner on a terminal, a log line elsewhere.

    Example:
        >>> with telling("searching") as tell:
        ...     tell("best so far: none")
    """
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.status import Status  # noqa: PLC0415

        with Status(what, console=_terminal()) as status:
            yield lambda words: status.update(f"{what}: {words}")
    else:
        yield lambda words: log.info("%s: %s", what, words)
    log.info("%s: %.1f s", what, time.monotonic() - started)


@cache
def _terminal() -> Console:
    """One for all: displays within displays stand one below the other; two consoles would overwrite each other."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=True)
