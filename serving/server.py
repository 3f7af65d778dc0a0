"""Starting the service: what can be told beforehand is told in a line, then BentoML takes the process over."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from data.errors import AttuneError, WorkspaceError
from data.state import State, keys
from data.workspace import Workspace
from features.rules import parse_rule

SERVICE = "serving.service:Attune"
START_SECONDS = 180


def run(workspace: Workspace, *, host: str, port: int) -> NoReturn:
    """Become the server; Ctrl-C ends it.

    Raises:
        WorkspaceError: the address cannot be listened on.
        StateUnavailableError: the state cannot be opened.
    """
    address = "127.0.0.1" if host == "localhost" else host
    _refuse_taken(address, port)
    if workspace.settings.offers.usual:
        parse_rule(workspace.settings.offers.usual)  # told here in a line, rather than by a worker that never is ready
    state = State.of(workspace)
    in_force = keys.in_force(state)
    state.close()

    print(f"Loading {workspace.path}; a line tells when requests are answered.", file=sys.stderr)
    if workspace.settings.serving.require_keys and not in_force:
        print("There is no key yet: `attune keys create --role app` makes one.", file=sys.stderr)
    sys.stderr.flush()
    environment = {
        "BENTOML_HOME": str(workspace.path.resolve() / ".bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        # Many requests are scored at once, each in its thread: a pool of BLAS beneath each would only get in the way.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # glibc would keep what a model of many megabytes lay in, in each thread that loads one, after it was replaced.
        "MALLOC_MMAP_THRESHOLD_": str(8 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(16 * 2**20),
        **os.environ,
        "ATTUNE_ADDRESS": f"http://{host}:{port}",
        "ATTUNE_WORKSPACE": str(workspace.path.resolve()),
    }
    code = Path(__file__).resolve().parents[1]
    serve = ["-m", "bentoml", "serve", SERVICE, "--host", address, "--port", str(port), "--working-dir", str(code)]
    os.execve(sys.executable, [sys.executable, *serve], environment)  # noqa: S606 - no shell: fixed words and a port


@contextmanager
def started(workspace: Workspace) -> Iterator[str]:
    """`attune serve` on a free port of 127.0.0.1 as long as the body runs; its address, once it is ready.

    Raises:
        AttuneError: it did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", workspace.path / "serve.log"
    command = [sys.executable, "-m", "cli.main", "serve", "--workspace", str(workspace.path), "--port", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + START_SECONDS
        while not _ready(url):
            if server.poll() is not None:
                raise AttuneError(f"the service ended as it started; its log is {log}.")
            if time.monotonic() > until:
                raise AttuneError(f"the service did not start within {START_SECONDS} s; its log is {log}.")
            time.sleep(0.2)
        yield url
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:  # not to hide what went wrong before
                os.killpg(server.pid, signal.SIGKILL)


def _ready(url: str) -> bool:
    import httpx  # noqa: PLC0415 - who becomes the server asks nobody

    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _refuse_taken(host: str, port: int) -> None:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError as error:
        raise WorkspaceError(f"host {host!r} is no IP address. Say 127.0.0.1, or 0.0.0.0 for all.") from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise WorkspaceError(f"Cannot listen on {host}:{port}: {error.strerror}. Give another --port.") from error
