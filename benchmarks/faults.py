"""What is lost, doubled or answered with a server error when things break under a running `attune serve`.

Of a small simulated shop with a champion. While apps write events (orders among them), ask for items and send what
came of them, and send again whatever was not acknowledged, as apps do:

- the worker is killed with `kill -9`, `--size` times (50); BentoML starts another;
- PostgreSQL is stopped as by a power cut and started again (the state is there, for this part);
- the disk is full: a small file system of its own, filled up, where root may mount one;
- the clock jumps a day ahead and two back;
- a champion comes into force one of whose files was damaged;
- schemathesis sends each route 20 times `--size` requests made up from its description, wrong ones among them.

Lost is what was acknowledged and is not stored; doubled, what is stored more than once, or a line of an order too
many; a server error is any answer from 500 on but 503, which says when to try again. In the end the service must
take what it is sent (`not_healed`).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from benchmarks.postgres import cluster
from benchmarks.result import Result
from data.checks import check
from data.errors import DataError
from data.state import State, keys
from data.state.schema import tables
from data.workspace import Workspace
from features.snapshots import build
from registry.versions import Registry
from simulation.shop import simulate
from training.jobs import promote, train

ROOT = Path(__file__).resolve().parent.parent
SCHEMATHESIS = ROOT / ".venv-peers" / "bin" / "schemathesis"
KILLS = 50
REQUESTS_PER_KILL = 20
APPS = 4
START_SECONDS = 600
DISK_MB = 24

OTHER_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    FILE *file = clock == CLOCK_REALTIME ? fopen(getenv("SECONDS_AHEAD"), "r") : NULL;
    long ahead = 0;
    if (file && fscanf(file, "%ld", &ahead) == 1) now->tv_sec += ahead;
    if (file) fclose(file);
    return failed;
}
"""
"""Preloaded, it gives the service a clock that jumps; libfaketime breaks Python's `time.sleep`."""


@dataclass
class Told:
    """What apps were told, in all.

    Attributes:
        events, decisions, outcomes: Ids that were acknowledged.
        statuses: How often each status was answered.
        degraded: Answers from memory.
        counting: Held while apps count.
    """

    events: set[str] = field(default_factory=set)
    decisions: set[str] = field(default_factory=set)
    outcomes: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    degraded: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def server_errors(self) -> int:
        """Answers that should not be."""
        return sum(count for status, count in self.statuses.items() if status >= 500 and status != 503)


@dataclass
class Part:
    """What one kind of fault did."""

    lost: int = 0
    doubled: int = 0
    server_errors: int = 0
    not_healed: int = 0
    about: str = ""


def run(*, data: Path | None, size: str | None) -> Result:
    """Break one thing after the other; print the table. `size` is the number of kills.

    Raises:
        DataError: data was named, or the size is no number.
    """
    if data is not None or not (size or "1").isdecimal():
        raise DataError("faults makes its own shop: leave --data out; --size is a number of kills, like 50.")
    kills = int(size or KILLS)
    parts: dict[str, Part] = {}
    with tempfile.TemporaryDirectory(prefix="attune-faults-") as scratch:
        shop = _shop(Path(scratch) / "shop")
        for name, fault in {
            "kill -9": lambda: _kills(shop, kills),
            "PostgreSQL stops": lambda: _postgresql_stops(shop),
            "disk full": lambda: _disk_full(shop, Path(scratch)),
            "clock jumps": lambda: _clock_jumps(shop, Path(scratch)),
            "damaged champion": lambda: _damaged_champion(shop),
            "fuzzed requests": lambda: _fuzzed(shop, kills * REQUESTS_PER_KILL),
        }.items():
            parts[name] = fault()
            print(f"{name}: {parts[name].about}", file=sys.stderr)
    print(f"{'':<20}{'lost':>8}{'doubled':>9}{'server errors':>15}{'not healed':>12}  what happened")
    for name, part in parts.items():
        print(f"{name:<20}{part.lost:>8}{part.doubled:>9}{part.server_errors:>15}{part.not_healed:>12}  {part.about}")
    names = ("lost", "doubled", "server_errors", "not_healed")
    return Result(
        metrics={name: sum(getattr(part, name) for part in parts.values()) for name in names},
        peers={"limits": dict.fromkeys(names, 0), "about": {name: part.about for name, part in parts.items()}},
    )


def _shop(folder: Path) -> Workspace:
    shop = Workspace.create(folder)
    simulate(shop, users=400, days=90)
    check(shop)
    build(shop)
    train(shop, "recommender")
    promote(shop, "recommender")
    return shop


# The service, and apps that use it


@dataclass(frozen=True)
class Service:
    """A running `attune serve`.

    Attributes:
        process: BentoML's supervisor.
        client: With an admin's key.
        state_url: Where its state is.
    """

    process: subprocess.Popen[bytes]
    client: httpx.Client
    state_url: str

    def kill(self) -> None:
        """What answers, with no time to put anything away."""
        for worker in psutil.Process(self.process.pid).children():
            worker.kill()

    def wait(self, holds: Callable[[], bool], seconds: float = START_SECONDS) -> bool:
        """Whether something comes to hold."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if holds():
                    return True
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        return False

    def wait_ready(self) -> bool:
        """Whether it comes to answer."""
        return self.wait(lambda: self.client.get("/readyz").status_code == 200)


@contextmanager
def _serving(shop: Workspace, *, state_url: str = "", **environment: str) -> Iterator[Service]:
    url = state_url or shop.state_url
    state = State.open(url, salt=shop.settings.shop.salt)
    key = keys.create(state, role="admin", name="faults")
    state.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "cli.main", "serve", "--workspace", str(shop.path), "--port", str(port)]
    settings = {"ATTUNE_STATE__URL": url, "ATTUNE_SERVING__POLL_SECONDS": "0.5", **environment}
    with (shop.path / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10) as client:
            service = Service(process, client, url)
            if not service.wait_ready():
                raise DataError(f"the service did not start within {START_SECONDS} s; its log is {log.name}.")
            yield service
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@contextmanager
def _apps(service: Service) -> Iterator[Told]:
    """Apps that write as long as the body runs, and then until all that they sent is acknowledged."""
    told, stop = Told(), threading.Event()
    apps = [threading.Thread(target=_app, args=(service, told, stop, number)) for number in range(APPS)]
    for app in apps:
        app.start()
    try:
        yield told
    finally:
        stop.set()
        for app in apps:
            app.join()


def _app(service: Service, told: Told, stop: threading.Event, number: int) -> None:
    """One app: an order and a view, items to show, and a click on the first."""
    run_id = f"{time.time_ns()}-{number}"
    turn = 0
    while not stop.is_set():
        turn += 1
        user, now = f"app {number} of {turn % 50}", datetime.now(UTC).isoformat()
        view = {"event": "product_viewed", "item_id": "i1", "user_id": user, "occurred_at": now}
        products = [{"item_id": "i1", "quantity": 1}, {"item_id": "i2", "quantity": 1}]
        ids = {f"v{run_id}-{turn}", order_id := f"o{run_id}-{turn}"}
        order = {**view, "event": "order_completed", "event_id": order_id, "products": products}
        events = [{**view, "event_id": f"v{run_id}-{turn}"}, order]
        if _until_taken(service, told, "/v1/events", {"events": events}, stop):
            told.events |= ids
        answer = _post(service, told, "/v1/recommend", {"user_id": user, "k": 3})
        decision = (answer or {}).get("decision_id")
        if not decision:
            continue
        told.decisions.add(decision)
        outcome_id = f"c{run_id}-{turn}"
        outcome = {"outcome_id": outcome_id, "decision_id": decision, "kind": "click", "at": now}
        if _until_taken(service, told, "/v1/outcomes", {"outcomes": [outcome]}, stop):
            told.outcomes.add(outcome_id)


def _until_taken(service: Service, told: Told, path: str, body: Mapping[str, Any], stop: threading.Event) -> bool:
    """Send the same again until it is taken; whether it was, in the time that is left for it."""
    until = None
    while until is None or time.monotonic() < until:
        answer = _post(service, told, path, body)
        if answer is not None:
            return not answer["refused"]
        time.sleep(0.05)
        if stop.is_set() and until is None:
            until = time.monotonic() + START_SECONDS
    return False


def _post(service: Service, told: Told, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer; None where there is none, or an error."""
    try:
        answer = service.client.post(path, json=body)
    except httpx.TransportError:
        return None
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    with told.counting:
        told.statuses[answer.status_code] += 1
        told.degraded += bool(found and found.get("degraded"))
    return found


def _judged(service: Service, told: Told, about: str) -> Part:
    """What of that which was acknowledged is stored, and how often."""
    state = State.open(service.state_url)
    part = Part(server_errors=told.server_errors)
    acknowledged = {
        "events": ("event_id", told.events),
        "decisions": ("decision_id", told.decisions),
        "outcomes": ("outcome_id", told.outcomes),
    }
    with state.reading() as connection:
        for name, (key, ids) in acknowledged.items():
            stored = Counter(connection.scalars(sa.select(tables[name].c[key])))
            part.lost += len(ids - stored.keys())
            part.doubled += sum(count > 1 for count in stored.values())
        lines = tables["orders"].c
        per_order = sa.select(lines.order_id, sa.func.count()).group_by(lines.order_id)
        orders = {id_: count for id_, count in connection.execute(per_order).all() if id_ in told.events}
        part.doubled += sum(count > 2 for count in orders.values())
        part.lost += sum(count < 2 for count in orders.values())
    state.close()
    healed = service.wait(lambda: _takes(service), 60)
    part.not_healed = int(not healed)
    answered = ", ".join(f"{count:,} x {status}" for status, count in sorted(told.statuses.items()))
    written = ", ".join(f"{len(ids):,} {name}" for name, (_, ids) in acknowledged.items())
    part.about = f"{about}; {written} acknowledged; {answered}; {told.degraded:,} from memory"
    return part


def _takes(service: Service) -> bool:
    """Whether it takes an event and stores a decision."""
    now = datetime.now(UTC).isoformat()
    event = {"event_id": f"heal {time.time_ns()}", "event": "page_viewed", "user_id": "ann", "occurred_at": now}
    taken = service.client.post("/v1/events", json={"events": [event]})
    shown = service.client.post("/v1/recommend", json={"user_id": "ann"})
    return bool(taken.status_code == shown.status_code == 200 and shown.json()["decision_id"])


# The faults


def _kills(shop: Workspace, kills: int) -> Part:
    with _serving(shop) as service:
        with _apps(service) as told:
            for _ in range(kills):
                time.sleep(0.5)
                service.kill()
                if not service.wait_ready():
                    break
        return _judged(
            service, told, f"{kills} kills, {len(told.events):,} events and {len(told.decisions):,} decisions"
        )


def _postgresql_stops(shop: Workspace) -> Part:
    try:
        with cluster() as server, _serving(shop, state_url=server.new_database()) as service:
            answered = True
            with _apps(service) as told:
                for how in ("immediate", "fast"):
                    time.sleep(2)
                    server.stop(how)
                    answered &= service.wait(lambda: _degraded(service, told), 30)
                    server.start()
                    time.sleep(2)
            part = _judged(service, told, "stopped twice")
            part.not_healed += int(not answered)
            return part
    except DataError as error:
        return Part(about=f"not tried: {error}")


def _degraded(service: Service, told: Told) -> bool:
    """Whether it answers from memory."""
    return bool((_post(service, told, "/v1/recommend", {"user_id": "ann"}) or {}).get("degraded"))


def _disk_full(shop: Workspace, scratch: Path) -> Part:
    disk = scratch / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk], check=False)
    if mounted.returncode:
        return Part(about="not tried: only root may mount a small file system")
    try:
        with _serving(shop, state_url=f"sqlite:///{disk / 'state.db'}") as service:
            with _apps(service) as told:
                time.sleep(1)
                filler = disk / "filler"
                with filler.open("wb") as file:
                    _fill(file.fileno())
                refused = service.wait(lambda: told.statuses[503] > 0, 30)
                time.sleep(1)
                filler.unlink()
            part = _judged(service, told, "filled up, then emptied")
            part.not_healed += int(not refused)
            return part
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)


def _fill(descriptor: int) -> None:
    for at_once in (1 << 20, 1 << 12):
        try:
            while True:
                os.write(descriptor, bytes(at_once))
        except OSError:
            continue


def _clock_jumps(shop: Workspace, scratch: Path) -> Part:
    source, library, ahead = scratch / "clock.c", scratch / "clock.so", scratch / "seconds_ahead"
    source.write_text(OTHER_CLOCK)
    ahead.write_text("0")
    if not shutil.which("cc"):
        return Part(about="not tried: there is no C compiler for the other clock")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    with _serving(shop, LD_PRELOAD=str(library), SECONDS_AHEAD=str(ahead)) as service:
        with _apps(service) as told:
            for days in (1, -2, 0):
                time.sleep(1.5)
                ahead.write_text(str(days * 86_400))
            time.sleep(1.5)
        return _judged(service, told, "a day ahead, two back")


def _damaged_champion(shop: Workspace) -> Part:
    """A version whose largest file has another byte in its midst is promoted by hand."""
    registry = Registry.of(shop)
    old = registry.version("recommender", "champion")
    train(shop, "recommender")
    new = registry.version("recommender", "challenger")
    if old is None or new is None:
        raise DataError("there is no challenger: the registry lost it.")
    folder = registry.fetch(new, shop.models_dir)
    shutil.rmtree(folder)
    files = [file for file in shop.path.rglob("*.npy") if "models" not in file.relative_to(shop.path).parts[:1]]
    newest = max(files, key=lambda file: (file.stat().st_mtime_ns, file.stat().st_size))
    with newest.open("r+b") as file:
        file.seek(newest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    with _serving(shop) as service, _apps(service) as told:
        registry.set_alias(new.name, "champion", new.number)
        refused = service.wait(lambda: bool(service.client.get("/readyz").json()["troubles"].get("recommender")), 60)
        kept = service.client.get("/readyz").json()["model_versions"].get("recommender") == str(old.number)
    registry.set_alias(old.name, "champion", old.number)
    part = Part(server_errors=told.server_errors, not_healed=int(not (refused and kept)))
    part.about = "refused, and the old one stays" if refused and kept else "it was not refused"
    return part


def _fuzzed(shop: Workspace, requests: int) -> Part:
    if not SCHEMATHESIS.exists():
        return Part(about="not tried: `make bench-setup` brings schemathesis")
    with _serving(shop) as service:
        url = str(service.client.base_url)
        command = [
            str(SCHEMATHESIS), "run", f"{url}/docs.json", "--url", url, "--checks", "not_a_server_error",
            "--phases", "fuzzing", "--max-examples", str(requests), "--mode", "all", "--seed", "0",
            "--continue-on-failure", "--suppress-health-check", "all", "--no-color",
            "--header", f"Authorization: {service.client.headers['authorization']}",
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=shop.path)
        counted = re.findall(
            r'attune_requests_total\{route="(.*?)",status="(\d+)"\} ([\d.e+]+)', service.client.get("/metrics").text
        )
        sent: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        for route, status, count in counted:
            sent[route] += int(float(count))
            errors[f"{route} {status}"] += int(float(count)) * (int(status) >= 500)
        found = ", ".join(f"{count} x {what}" for what, count in errors.items() if count)
        if not sent:
            raise DataError(f"schemathesis sent nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        about = f"{min(sent.values()):,} or more to each of {len(sent)} routes" + (f"; {found}" if found else "")
        return Part(server_errors=sum(errors.values()), not_healed=int(not _takes(service)), about=about)
