"""The main job on real shops: raw files in, a live ranked answer out, by the commands a newcomer types."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from data.workspace import Workspace
from serving.decisions.arms import arm_of

SHOPS = {
    "online-retail": "online_retail/lines.parquet",
    "retailrocket": "retailrocket/events.parquet",
    "complete-journey": "completejourney",
}
LONG = {"complete-journey"}
"""Minutes by itself."""


def attune(*arguments: str, workspace: Path) -> str:
    """Run one command as a person would; its output, or a failure that shows it."""
    command = [sys.executable, "-m", "cli.main", *arguments, "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(workspace: Path) -> Iterator[httpx.Client]:
    """`attune serve` on a free port, ready, with an app key; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    created = attune("keys", "create", "--role", "app", workspace=workspace)
    key = re.search(r"attune_\S+", created)
    assert key, f"no key in {created!r}"
    log = workspace / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "serve", "--workspace", str(workspace), "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key[0]}"}, timeout=30
            ) as client:
                _wait_until_ready(client, server, log)
                yield client
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


def _wait_until_ready(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, f"the server ended:\n{log.read_text()[-4000:]}"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the server is not ready after 120 s:\n{log.read_text()[-4000:]}")


def answer(client: httpx.Client, route: str, **body: Any) -> dict[str, Any]:
    response = client.post(route, json=body)
    assert response.status_code == 200, f"{route} {body}: {response.status_code} {response.text}"
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("source", [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in SHOPS])
def test_raw_tables_become_ranked_items_and_scores_over_http(source: str, shared_data: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "shop"
    attune("import", source, str(shared_data / SHOPS[source]), workspace=workspace)
    attune("check", workspace=workspace)
    attune("features", workspace=workspace)
    attune("train", "all", workspace=workspace)
    attune("promote", "--all", workspace=workspace)

    user_id = _somebody_with_history(workspace)
    with serving(workspace) as client:
        ranked = answer(client, "/v1/recommend", user_id=user_id, k=10)
        assert len(ranked["items"]) == 10
        assert len({item["item_id"] for item in ranked["items"]}) == 10
        assert ranked["model_version"].startswith("recommender")
        assert not ranked.get("degraded")

        stranger = answer(client, "/v1/recommend", user_id="nobody-has-this-id", k=10)
        assert len(stranger["items"]) == 10

        scored = answer(client, "/v1/score", user_ids=[user_id], models=["churn"])
        assert 0 <= scored["users"][0]["scores"]["churn"]["probability"] <= 1


def _somebody_with_history(workspace: Path) -> str:
    """The user with the most orders (or events) among those whom models decide for: active enough for every model."""
    settings, now = Workspace.open(workspace).settings, datetime.now(UTC)
    for table in ("orders", "events"):
        file = workspace / "checked" / f"{table}.parquet"
        if file.is_file():
            users = pd.read_parquet(file, columns=["user_id"])["user_id"].dropna()
            for user_id in users.value_counts().sort_index().sort_values(ascending=False, kind="stable").index:
                if arm_of(user_id, settings.arms, salt=settings.shop.salt, now=now).name == "model":
                    return str(user_id)
    pytest.fail("no checked table has a user")
