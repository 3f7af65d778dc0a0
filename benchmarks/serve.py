"""What a decision costs over HTTP: the whole service beside a BentoML endpoint that says the same bytes to everybody.

A shop of 100,000 users and 50,000 items is checked, its champions are least squares with 64 factors and a model of
offers, and `attune serve` answers with one worker and everything on: keys, people's facts, live events, a placement
with a filter and diversity, reasons, a limited offer, the log in SQLite. The endpoint beside it is as lean as BentoML
allows, and its answer as long; FastAPI before implicit's own `recommend` is what one writes in an afternoon. They take
turns of a few seconds, so that whatever else the machine does slows all of them, and a ratio is that of neighbouring
turns. The CPU of each, which other programs disturb less, stands beside it.

Half load is half of the requests a second that each of them reached; there its times count from the moment that a
request was due. Memory is watched over `--size` requests, while a new champion comes into force in the midst of them.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil

from benchmarks.load import Load, load
from benchmarks.result import Result
from data.checks import check
from data.errors import DataError
from data.state import State, keys
from data.state.reads import Who, recent
from data.state.writes import add
from data.workspace import Workspace
from features.interactions import interactions
from features.snapshots import build, span
from models.kinds import write_examples
from models.offers import OfferModel
from models.recommenders.als import ALS
from models.uplift import PooledEffects
from registry.versions import Registry, Version
from serving.client import Client
from serving.engine import Engine, Recommended
from serving.schemas import RecommendAnswer, RecommendAsk
from training.cards import write_card
from training.examples import write_recommender_examples
from training.recipes import Card, Recipe
from training.tracking import parent_run, register_challenger

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
REQUESTS = 200_000
EVENTS_PER_USER = 20
DAYS = 90
N_CATEGORIES = 200
N_BODIES = 5_000
N_TAUGHT = 5_000
"""So many people the model of offers learns from."""
N_LIVE = 1_000
"""So many of those who are asked about did something since the tables were checked."""
N_USERS, N_ITEMS, N_OFFERS, FACTORS = 100_000, 50_000, 8, 64
STRANGERS = 0.1
N_TIMED, GROUP = 2_000, 8
"""Requests whose parts are timed, and how many of them are worked on together."""
K = 10
TURNS, TURN_SECONDS, WARM_SECONDS = 7, 4.0, 5.0
HALF_LOAD_SECONDS = 15.0
STARTING_SECONDS = 300
LIMITS = {"throughput_ratio": 0.45, "p99_times_lean": 1.5, "memory_growth_mb": 20.0, "dropped": 0}
SETTINGS = """
[placements.home]
filter = "price < 900"
diversity = 0.5
"""
ROUTES = ("recommend", "offers")


@dataclass(frozen=True)
class Target:
    """A server that is running.

    Attributes:
        url: Of its route.
        bodies: What it is asked.
        process: What was started; the worker is a child of it, or itself.
        key: Its key.
    """

    url: str
    bodies: Path
    process: psutil.Process
    key: str = ""

    def load(self, **options: Any) -> Load:
        """Ask it, see `benchmarks.load`."""
        return load(self.url, self.bodies, key=self.key, **options)

    @property
    def cpu_seconds(self) -> float:
        """What its processes took so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)

    @property
    def rss_mb(self) -> float:
        """Memory of its processes."""
        return sum(process.memory_info().rss for process in self._processes) / 1e6

    @property
    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@dataclass(frozen=True)
class Turn:
    """One turn of one server: what came of it, and what it took."""

    load: Load
    cpu_ms: float


def run(*, data: Path | None, size: str | None) -> Result:
    """Make the shop, start the servers, let them take turns; print the table.

    Args:
        data: Not taken.
        size: So many requests memory is watched over.

    Raises:
        DataError: data was named, the size is no number, or a server did not start.
    """
    if data is not None or not (size or "1").isdecimal():
        raise DataError("serve makes its own shop: leave --data out; --size is a number of requests, like 200000.")
    requests = int(size or REQUESTS)
    with tempfile.TemporaryDirectory(prefix="attune-serve-") as scratch, ExitStack() as running:
        folder = Path(scratch)
        workspace = make_shop(folder / "shop")
        registry = Registry.of(workspace)
        first, second = (recommender_version(workspace, seed=seed) for seed in (0, 1))
        for version in (first, offers_version(workspace)):
            registry.crown(version)
        bodies = {route: _write_bodies(folder / f"{route}.jsonl", route) for route in ROUTES}
        parts = parts_of_a_request(workspace, bodies["recommend"])
        attune = running.enter_context(_attune(workspace, bodies))
        lean = running.enter_context(_lean(folder, bodies, {route: _one_answer(attune[route]) for route in ROUTES}))
        targets = {route: attune[route] for route in ROUTES} | {f"lean {route}": lean[route] for route in ROUTES}
        if PEERS.exists():
            targets["naive recommend"] = running.enter_context(_naive(folder, workspace, bodies["recommend"]))
        for target in targets.values():
            target.load(seconds=WARM_SECONDS)
        turns = _take_turns(targets)
        half = {
            name: target.load(seconds=HALF_LOAD_SECONDS, rate=_median(turns[name], lambda t: t.load.per_second) / 2)
            for name, target in targets.items()
        }
        growth, dropped = _endurance(attune["recommend"], requests, lambda: registry.crown(second))
    return _result(turns=turns, half=half, parts=parts, growth=growth, dropped=dropped)


def make_shop(folder: Path) -> Workspace:
    """A checked workspace of users who looked at items at random, the popular ones more often, with a snapshot."""
    rng = np.random.default_rng(0)
    workspace = Workspace.create(folder)
    with workspace.settings_file.open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    n = N_USERS * EVENTS_PER_USER
    popularity = 1 / np.arange(10, N_ITEMS + 10)
    item = rng.choice(N_ITEMS, n, p=popularity / popularity.sum())
    events = {
        "event_id": np.arange(n).astype(str),
        "user_id": np.repeat(_ids("u", N_USERS), EVENTS_PER_USER),
        "event": rng.choice(["product_viewed", "product_added"], n, p=[0.8, 0.2]),
        "item_id": _ids("i", N_ITEMS)[item],
        "occurred_at": end - pd.to_timedelta(rng.integers(0, DAYS * 86_400, n), unit="s"),
    }
    items = {
        "item_id": _ids("i", N_ITEMS),
        "name": _ids("Item number ", N_ITEMS),
        "category": _ids("category ", N_CATEGORIES)[rng.integers(0, N_CATEGORIES, N_ITEMS)],
        "price": rng.lognormal(3, 1, N_ITEMS).round(2),
        "available": rng.random(N_ITEMS) < 0.95,
        "created_at": end - timedelta(days=400),
    }
    users = {"user_id": _ids("u", N_USERS), "country": rng.choice(["DE", "AT", "CH"], N_USERS)}
    offers = {
        "offer_id": _ids("offer", N_OFFERS),
        "name": _ids("Offer number ", N_OFFERS),
        "kind": "percent",
        "value": np.linspace(5, 20, N_OFFERS),
        "max_redemptions": [1e9, *[None] * (N_OFFERS - 1)],
    }
    for name, columns in {"events": events, "items": items, "users": users, "offers": offers}.items():
        pd.DataFrame(columns).to_parquet(workspace.tables_dir / f"{name}.parquet", index=False)
    check(workspace)
    build(workspace, [span(workspace.checked).end])
    return workspace


def parts_of_a_request(workspace: Workspace, bodies: Path) -> dict[str, float]:
    """CPU ms of each part of a recommendation, in this process, in groups as under load; the log without its flush."""
    engine = Engine(workspace)
    engine.load()
    every = bodies.read_bytes().splitlines()[:N_TIMED]
    sent = [every[start : start + GROUP] for start in range(0, N_TIMED, GROUP)]
    took: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        used = time.thread_time()
        yield
        took[part] = took.get(part, 0.0) + 1000 * (time.thread_time() - used) / N_TIMED

    for number, group in enumerate([*sent, *sent]):
        if number == len(sent):
            took = {}  # the first round fills caches
        with timed("body"):
            asks = [RecommendAsk.model_validate_json(body) for body in group]
        with timed("decision"):
            answered = [found for found in engine.recommend_each(asks) if isinstance(found, Recommended)]
        with timed("of which people's facts"):
            engine.people.of([ask.user_id for ask in asks], now=datetime.now(UTC), consents_only=True)
        with timed("of which live events"), engine.state.reading() as connection:
            recent(connection, [Who(ask.user_id) for ask in asks], since=engine.view.past.until)
        with timed("log"), engine.state.writing(flush=False) as connection:
            add(connection, "decisions", [found.decision for found in answered])
        with timed("answer"):
            for found in answered:
                RecommendAnswer(
                    request_id="r",
                    model_version=found.model_version,
                    decision_id="d",
                    degraded=found.degraded,
                    items=found.items,
                ).model_dump_json()
    engine.state.close()
    return took


def _ids(prefix: str, n: int) -> np.ndarray:
    return np.char.add(prefix, np.arange(n).astype(str)).astype(object)


def recommender_version(workspace: Workspace, *, seed: int) -> Version:
    """A model of the shop as training registers it, without the search that would come first."""
    tables = workspace.checked
    end = span(tables).end
    known = interactions(tables, workspace.settings.recommender, cutoff=end, catalogue=True)
    model = ALS(factors=FACTORS, iterations=1, seed=seed).fit(known)
    with _registering(workspace, "recommender", seed) as (folder, register):
        model.save(folder)
        write_recommender_examples(model, range(5), folder)
        Card(Recipe("als"), seed, end).save(folder)
        return register()


def offers_version(workspace: Workspace) -> Version:
    """A model of what offers bring, learnt from outcomes drawn at random."""
    rng = np.random.default_rng(0)
    [snapshot] = build(workspace, [span(workspace.checked).end])
    table = snapshot.frame().drop(columns="user_id").head(N_TAUGHT)
    arm = rng.integers(0, N_OFFERS + 1, len(table))
    arms = ["none", *_ids("offer", N_OFFERS)]
    orders = (rng.random(len(table)) < 0.02 * arm).astype(float)
    uplift = PooledEffects().fit(table, arm, 20 * orders, arms=arms, brought=orders, by_message=20 * orders)
    model = OfferModel(uplift.arms, uplift.effects, uplift=uplift)
    with _registering(workspace, "offers", 0) as (folder, register):
        model.save(folder)
        write_examples("offers", model, {"rows": [dict.fromkeys(model.features, 1.0)]}, folder)
        write_card(folder, {"fitted_until": snapshot.cutoff, "horizon_days": 14})
        return register()


@contextmanager
def _registering(workspace: Workspace, name: str, seed: int) -> Iterator[tuple[Path, Callable[[], Version]]]:
    """A folder for the files of a version, and what registers it."""
    with tempfile.TemporaryDirectory() as scratch, parent_run(workspace, name, seed=seed, params={}) as run_id:
        folder = Path(scratch) / name

        def register() -> Version:
            return register_challenger(
                workspace, name, folder, run_id=run_id, pyfunc=f"{name}.py", packages=("numpy",), metrics={}
            )

        yield folder, register


def _write_bodies(file: Path, route: str) -> Path:
    """Known users and some strangers; those to whom items are shown look at one."""
    rng = np.random.default_rng(1)
    asks: list[dict[str, Any]] = []
    for number in range(N_BODIES):
        user_id = f"u{rng.integers(N_USERS)}" if rng.random() >= STRANGERS else f"stranger{number}"
        viewing = {"placement": "home", "k": K, "context": {"viewing": f"i{rng.integers(N_ITEMS)}"}}
        asks.append({"user_id": user_id, **(viewing if route == "recommend" else {"channel": "web"})})
    file.write_text("\n".join(map(json.dumps, asks)), encoding="utf-8")
    return file


@contextmanager
def _attune(workspace: Workspace, bodies: Mapping[str, Path]) -> Iterator[dict[str, Target]]:
    """The service as people start it; some of those who will be asked about look at something first."""
    state = State.of(workspace)
    key = keys.create(state, role="app")
    state.close()
    with _started([sys.executable, "-m", "cli.main", "serve", "-w", str(workspace.path)]) as (url, process):
        now = datetime.now(UTC).isoformat()
        asks = [json.loads(body) for body in bodies["recommend"].read_bytes().splitlines()[:N_LIVE]]
        events = [
            {"event_id": f"live{number}", "event": "product_viewed", "occurred_at": now}
            | {"user_id": ask["user_id"], "item_id": ask["context"]["viewing"]}
            for number, ask in enumerate(asks)
        ]
        with Client(url, key=key) as client:
            client.events(events=events)
        yield {route: Target(f"{url}/v1/{route}", bodies[route], process, key) for route in ROUTES}


@contextmanager
def _lean(folder: Path, bodies: Mapping[str, Path], answers: Mapping[str, bytes]) -> Iterator[dict[str, Target]]:
    for route, answer in answers.items():
        (folder / f"{route}.json").write_bytes(answer)
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.serve_lean:Lean", "--host", "127.0.0.1"]
    environment = {"ANSWERS": str(folder), "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    with _started(command, environment) as (url, process):
        yield {route: Target(f"{url}/v1/{route}", bodies[route], process) for route in ROUTES}


@contextmanager
def _naive(folder: Path, workspace: Workspace, bodies: Path) -> Iterator[Target]:
    """It knows no strangers, so it is not asked about them."""
    tables = workspace.checked
    known = interactions(tables, workspace.settings.recommender, cutoff=span(tables).end)
    seen = known.matrix.tocoo()
    columns = {"user_id": known.users.ids(seen.row), "item_id": known.items.ids(seen.col), "weight": seen.data}
    pd.DataFrame(columns).to_parquet(folder / "seen.parquet", index=False)
    of_known = [body for body in bodies.read_bytes().splitlines() if b"stranger" not in body]
    (folder / "known.jsonl").write_bytes(b"\n".join(of_known))
    command = [str(PEERS), "benchmarks/peers/serve_naive.py"]
    with _started(command, {"SEEN": str(folder / "seen.parquet")}) as (url, process):
        yield Target(f"{url}/v1/recommend", folder / "known.jsonl", process)


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, psutil.Process]]:
    """A server on a free port; its address, once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read where the server does not start, gone with this process
    url = f"http://127.0.0.1:{port}"
    surroundings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **(environment or {})}
    process = subprocess.Popen(
        [*command, "--port", str(port)], cwd=ROOT, env=surroundings, stdout=told, stderr=subprocess.STDOUT, text=True
    )
    try:
        until = time.monotonic() + STARTING_SECONDS
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > until:
                told.seek(0)
                raise DataError(f"{' '.join(command)} did not start: {told.read()[-2_000:]}")
            time.sleep(0.2)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def _one_answer(attune: Target) -> bytes:
    headers = {"Authorization": f"Bearer {attune.key}", "Content-Type": "application/json"}
    answer = httpx.post(attune.url, content=attune.bodies.read_bytes().splitlines()[0], headers=headers)
    return answer.raise_for_status().content


def _take_turns(targets: Mapping[str, Target]) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {name: [] for name in targets}
    for _ in range(TURNS):
        for name, target in targets.items():
            used = target.cpu_seconds
            seen = target.load(seconds=TURN_SECONDS)
            turns[name].append(Turn(seen, 1000 * (target.cpu_seconds - used) / max(1, seen.answered)))
    return turns


def _endurance(attune: Target, requests: int, swap: Callable[[], None]) -> tuple[float, int]:
    """Growth of memory in MB from the first tenth of the requests to the last, and how many were not answered."""
    warm = attune.load(requests=requests // 10)
    before = attune.rss_mb
    swap()
    rest = attune.load(requests=requests - requests // 10)
    version = httpx.get(attune.url.replace("/v1/recommend", "/readyz")).json()["model_versions"]["recommender"]
    if version != "2":
        raise DataError(f"The new champion did not come into force: recommender {version} answers.")
    return attune.rss_mb - before, warm.failed + rest.failed


def _median(turns: Sequence[Turn], of: Callable[[Turn], float]) -> float:
    return statistics.median(map(of, turns))


def _result(
    *,
    turns: Mapping[str, Sequence[Turn]],
    half: Mapping[str, Load],
    parts: Mapping[str, float],
    growth: float,
    dropped: int,
) -> Result:
    rows = {
        name: {
            "per_second": _median(taken, lambda turn: turn.load.per_second),
            "cpu_ms": _median(taken, lambda turn: turn.cpu_ms),
            "p50_ms": half[name].p50_ms,
            "p99_ms": half[name].p99_ms,
        }
        for name, taken in turns.items()
    }
    found = {route: list(zip(turns[route], turns[f"lean {route}"], strict=True)) for route in ROUTES}
    ratio = {
        route: statistics.median(own.load.per_second / lean.load.per_second for own, lean in pairs)
        for route, pairs in found.items()
    }
    cpu = {route: statistics.median(lean.cpu_ms / own.cpu_ms for own, lean in found[route]) for route in ROUTES}
    failed = sum(turn.load.failed for route in ROUTES for turn in turns[route])
    metrics = {
        "throughput_ratio": min(ratio.values()),
        **{f"throughput_ratio_of_{route}": ratio[route] for route in ROUTES},
        **{f"cpu_ratio_of_{route}": cpu[route] for route in ROUTES},
        "p50_ms": max(half[route].p50_ms for route in ROUTES),
        "p99_ms": max(half[route].p99_ms for route in ROUTES),
        "p99_times_lean": max(half[route].p99_ms / half[f"lean {route}"].p99_ms for route in ROUTES),
        "memory_growth_mb": growth,
        "dropped": float(dropped + failed + sum(half[route].failed for route in ROUTES)),
    }
    print(f"p50 and p99 at half load\n\n{'':<18}{'a second':>10}{'CPU ms':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, row in rows.items():
        print(f"{name:<18}" + "".join(f"{value:>10.2f}" for value in row.values()))
    rest = rows["recommend"]["cpu_ms"] - sum(ms for part, ms in parts.items() if not part.startswith("of which"))
    parts = {**parts, "HTTP, BentoML and threads": rest}
    print("\nCPU ms of a recommendation, by part")
    for part, ms in parts.items():
        print(f"{part:<32}{ms:>8.3f}")
    print(f"\n{'measure':<32}{'found':>10}{'limit':>10}")
    for name, value in metrics.items():
        print(f"{name:<32}{value:>10.3f}{LIMITS.get(name, ''):>10}")
    return Result(metrics=metrics, peers={**rows, "cpu_ms_by_part": parts, "limits": LIMITS})
