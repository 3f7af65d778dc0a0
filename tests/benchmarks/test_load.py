"""The load generator against a service of a few lines that fails as it is told."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from benchmarks.load import load

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def serving(answers):
    """A service on a port of its own that gives one answer after the other, round and round; None hangs up."""
    turn = 0

    async def serve(reader, writer):
        nonlocal turn
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            await reader.readexactly(int(length.split()[1]))
            answer = answers[turn % len(answers)]
            turn += 1
            if answer is None:
                writer.close()
                return
            writer.write(answer[:9])  # an answer may come in parts
            await asyncio.sleep(0)
            writer.write(answer[9:])

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result(10)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/recommend"
    loop.call_soon_threadsafe(server.close)


@pytest.fixture
def bodies(tmp_path):
    file = tmp_path / "bodies.jsonl"
    file.write_text('{"k": 1}\n{"k": 2}\n')
    return file


@pytest.mark.parametrize(("answers", "failed"), [([OK], 0), ([OK, BUSY], 20), ([OK, OK, OK, None], 10)])
def test_every_request_is_counted_as_answered_or_failed(bodies, answers, failed):
    with serving(answers) as url:
        seen = load(url, bodies, connections=4, requests=40)
    assert (seen.answered, seen.failed) == (40 - failed, failed)
    assert 0 < seen.p50_ms <= seen.p99_ms


def test_at_a_rate_it_asks_no_more_often(bodies):
    with serving([OK]) as url:
        seen = load(url, bodies, connections=4, seconds=1, rate=50)
    assert 10 <= seen.answered <= 51
    assert seen.failed == 0
