"""The service as people start it: `attune serve` in a process of its own, asked over HTTP."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from data.state import State, keys
from data.workspace import Workspace

ATTUNE = [sys.executable, "-m", "cli.main"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(url, process):
    """Wait until the service says that it is."""
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until, "it never came to be ready"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


@contextmanager
def started(path, port):
    environment = {**os.environ, "ATTUNE_WORKSPACE": str(path)}
    command = [*ATTUNE, "serve", "--port", str(port)]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **told)
    try:
        ready(f"http://127.0.0.1:{port}", process)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@pytest.fixture
def served(shop, tmp_path):
    shutil.copytree(shop, tmp_path / "shop")
    workspace = Workspace(tmp_path / "shop")
    state = State.open(workspace.state_url)
    key = keys.create(state, role="app")
    state.close()
    return workspace, {"Authorization": f"Bearer {key}"}


def test_it_starts_answers_survives_a_kill_and_stops_on_ctrl_c(served):
    workspace, headers = served
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    event = {
        "event_id": "k1",
        "event": "product_viewed",
        "user_id": "new",
        "item_id": "i25",
        "occurred_at": "2026-01-31",
    }
    with started(workspace.path, port) as process:
        for worker in psutil.Process(process.pid).children():
            assert {worker.environ()[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")} == {"1"}
        answer = httpx.post(f"{url}/v1/recommend", json={"user_id": "u1", "k": 2}, headers=headers).json()
        assert answer["model_version"] == "fallback-popularity"
        assert len(answer["items"]) == 2
        assert httpx.post(f"{url}/v1/events", json={"events": [event]}, headers=headers).json()["accepted"] == 1
        assert httpx.get(f"{url}/no/such/path").json()["error"]["code"] == "not_found"
        second = subprocess.run(
            [*ATTUNE, "serve", "-w", workspace.path, "--port", str(port)], check=False, capture_output=True, text=True
        )
        assert second.returncode == 1
        assert "Address already in use. Give another --port" in second.stderr
        for worker in psutil.Process(process.pid).children():
            worker.kill()
        ready(url, process)
        # What was acknowledged before the kill is known after it.
        assert httpx.post(f"{url}/v1/events", json={"events": [event]}, headers=headers).json()["duplicates"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in {0, -signal.SIGINT}
        told = process.stdout.read()
        assert f"Attune serves {workspace.path.resolve()} at {url}" in told
        assert "Traceback" not in told


def test_no_worker_outlives_a_supervisor_that_was_killed(served):
    workspace, _ = served
    port = free_port()
    with started(workspace.path, port) as process:
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert alive == []
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


TRAIN_ONLY = ("torch", "implicit", "optuna", "matplotlib", "sklearn", "threadpoolctl")


def test_serving_needs_nothing_that_only_training_needs(served):
    workspace, _ = served
    code = f"""
import sys
for name in {TRAIN_ONLY}:
    sys.modules[name] = None  # importing it fails, as where only attune[serve] is installed
from pathlib import Path
from data.workspace import Workspace
from registry.folder import verify
from serving.app import create_app
from serving.champions import load_champion
from serving.engine import Engine
from serving.schemas import RecommendAsk, ScoreAsk, SimilarAsk

engine = Engine(Workspace(Path({str(workspace.path)!r})))
engine.load()
versions = engine.workspace.path / "versions"
names = ("recommender", "propensity-churn")
engine.champions.current = {{name: load_champion(name, 1, verify(versions / name / "1")) for name in names}}
engine._load_checked()
assert engine.recommend(RecommendAsk(user_id="u1")).model_version == "recommender 1"
assert engine.similar(SimilarAsk(item_id="i1")).items
assert engine.score(ScoreAsk(user_ids=["u1"])).model_version == "propensity-churn 1"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_usual_rule_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    shop = Workspace.create(tmp_path / "shop", name="shop", currency="EUR")
    environment = {**os.environ, "ATTUNE_OFFERS__USUAL": "lim"}
    command = [sys.executable, "-m", "cli.main", "serve", "--workspace", str(shop.path), "--port", str(free_port())]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "rule 'lim' cannot be read" in ended.stderr
