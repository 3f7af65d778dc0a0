"""A load generator in a process of its own: `python -m benchmarks.load URL BODIES ...` prints what it saw as one JSON.

Sends ready-made bytes over connections that stay open and looks at no more of an answer than its status and length, so
that the service, not this, is what takes the time. Without `--rate` every connection asks again as soon as it has its
answer; with it, requests are due at that rate whatever the service does, and what each took is counted from then
on, the waiting for a free connection included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """What a load generator saw.

    Attributes:
        answered: Requests answered with 200.
        failed: Requests answered otherwise, cut off or never answered.
        seconds: From the first request to the last answer.
        p50_ms: Half of the answers came as quickly.
        p99_ms: 99 % of them.
        cpu_seconds: What the generator itself took.
    """

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


def load(
    url: str,
    bodies: Path,
    *,
    key: str = "",
    connections: int = 16,
    seconds: float | None = None,
    requests: int | None = None,
    rate: float | None = None,
) -> Load:
    """Ask, in another process, until so many seconds have passed or so many requests were sent.

    Args:
        url: Of the route.
        bodies: A file with a body in each line, sent round and round.
        key: Of the service.
        connections: So many are open.
        seconds: How long.
        requests: How many.
        rate: Requests a second; as many as are answered if left out.
    """
    options = {"key": key, "connections": connections, "seconds": seconds, "requests": requests, "rate": rate}
    told = [f"--{name}={value}" for name, value in options.items() if value is not None]
    command = [sys.executable, "-m", "benchmarks.load", url, str(bodies), *told]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return Load(**json.loads(done.stdout))


class Connection(asyncio.Protocol):
    """One connection that stays open, with one request at a time."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.due = 0.0
        self.waiting = False
        self.transport: asyncio.Transport
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to ask."""
        self.transport = cast("asyncio.Transport", transport)
        self.generator.free(self)

    def ask(self, request: bytes, due: float) -> None:
        """Send one request."""
        self.due, self.waiting = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of the answer, mostly all of it."""
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if found and length and len(body) >= int(length[1]):
            self._answer, self.waiting = b"", False
            self.generator.done(head[9:12] == b"200", self.due)
            self.generator.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """An answer that was waited for will not come; another connection takes this one's place."""
        if self.waiting:
            self.generator.done(False, self.due)
        self.generator.reconnect()


class Generator:
    """Hands requests to free connections and counts what comes of them."""

    def __init__(self, url: str, bodies: list[bytes], key: str) -> None:
        at = urlsplit(url)
        self.host, self.port = at.hostname or "127.0.0.1", at.port or 80
        head = f"POST {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {key}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        self._requests = cycle([head.format(len(body)).encode() + body for body in bodies])
        self.took: list[float] = []
        self.failed = 0
        self.sent = 0
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._asking = True  # whether an answer is followed by the next request at once
        self._until = float("inf")
        self._most = sys.maxsize

    async def run(
        self, *, connections: int, seconds: float | None, requests: int | None, rate: float | None
    ) -> tuple[float, float]:
        """Ask until the end; when it began and when the last answer came."""
        self._asking = rate is None
        started = time.perf_counter()
        self._until = started + (seconds or float("inf"))
        self._most = requests or sys.maxsize
        await asyncio.gather(*(self._connect() for _ in range(connections)))
        while self._more:
            if rate is not None:
                due = min(1 + int((time.perf_counter() - started) * rate), self._most)
                while self.sent + len(self._due) < due:
                    self._due.append(started + (self.sent + len(self._due)) / rate)
                while self._due and self._free:
                    self._send(self._free.popleft(), self._due.popleft())
            await asyncio.sleep(0.001)
        patience = time.perf_counter() + LONGEST_WAIT_SECONDS
        while len(self.took) + self.failed < self.sent and time.perf_counter() < patience:
            await asyncio.sleep(0.001)
        self.failed += self.sent - len(self.took) - self.failed
        return started, time.perf_counter()

    @property
    def _more(self) -> bool:
        return self.sent < self._most and time.perf_counter() < self._until

    def free(self, connection: Connection) -> None:
        """A connection has nothing to do."""
        if self._asking and self._more:
            self._send(connection, time.perf_counter())
        elif self._due and self._more:
            self._send(connection, self._due.popleft())
        else:
            self._free.append(connection)

    def done(self, well: bool, due: float) -> None:
        """Count an answer."""
        if well:
            self.took.append(time.perf_counter() - due)
        else:
            self.failed += 1

    def reconnect(self) -> None:
        """Open another connection while there is something to ask."""
        if self._more:
            self._again = asyncio.get_running_loop().create_task(self._connect())

    def _send(self, connection: Connection, due: float) -> None:
        self.sent += 1
        connection.ask(next(self._requests), due)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), self.host, self.port)


def main() -> None:
    """Ask and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--key", default="")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--rate", type=float)
    told = parser.parse_args()
    generator = Generator(told.url, told.bodies.read_bytes().splitlines(), told.key)
    used = time.process_time()
    ran = generator.run(connections=told.connections, seconds=told.seconds, requests=told.requests, rate=told.rate)
    started, ended = uvloop.run(ran)
    p50_ms, p99_ms = np.quantile(1000 * np.array(generator.took or [np.nan]), [0.5, 0.99])
    seen = Load(
        answered=len(generator.took),
        failed=generator.failed,
        seconds=ended - started,
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        cpu_seconds=time.process_time() - used,
    )
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main()
