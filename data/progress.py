"""Progress on stderr for long work: a bar on a terminal, one timed log line anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

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
        from rich.console import Console  # noqa: PLC0415 - only terminals pay for rich
        from rich.progress import track as bar  # noqa: PLC0415

        yield from bar(steps, description=what, console=Console(stderr=True), transient=True)
    else:
        yield from steps
    log.info("%s: %d steps in %.1f s", what, len(steps), time.monotonic() - started)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Log how long the body took; on a terminal show a spinner meanwhile."""
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415
        from rich.status import Status  # noqa: PLC0415

        with Status(what, console=Console(stderr=True)):
            yield
    else:
        yield
    log.info("%s: %.1f s", what, time.monotonic() - started)
