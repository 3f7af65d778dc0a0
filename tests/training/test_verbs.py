"""The verbs: what they print, and that a refusal is exit code 1 with the reasons."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app, main
from data.workspace import Workspace
from registry.versions import CHALLENGER, CHAMPION, Registry
from training.gate import SUSPECTED_LEAK
from training.tracking import parent_run


@pytest.fixture(scope="module")
def opened(
    a_shop: Callable[..., Workspace], some_orders: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    return a_shop(tmp_path_factory.mktemp("verbs") / "shop", orders=some_orders(users=40, days=80))


def run(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--workspace", str(workspace.path)])
    return done.exit_code, done.output


def test_training_says_what_comes_next_and_a_suspected_leak_is_refused_with_exit_1(opened: Workspace) -> None:
    code, output = run(opened, "train", "recommender")
    assert code == 0, output
    assert "Next: attune promote recommender" in output
    registry = Registry.of(opened)
    challenger = registry.version("recommender", CHALLENGER)
    assert challenger is not None
    registry.tag(challenger, SUSPECTED_LEAK, "ROC AUC is 0.990")
    code, output = run(opened, "promote", "--all")
    assert code == 1
    assert "recommender 1: refused: ROC AUC is 0.990" in output
    assert registry.version("recommender", CHAMPION) is None
    registry.tag(challenger, SUSPECTED_LEAK, "")
    code, output = run(opened, "promote", "recommender")
    assert code == 0, output
    assert "recommender 1: promoted" in output


def test_promote_asks_for_a_name_or_all(opened: Workspace, tmp_path: Path) -> None:
    assert run(opened, "promote")[0] == 2
    empty = Workspace.create(tmp_path / "empty")
    code, output = run(empty, "promote", "--all")
    assert code == 1
    assert "No model has a challenger" in output


def test_a_verb_that_is_terminated_leaves_its_run_as_failed(opened: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ids: list[str] = []

    def verb() -> None:
        with parent_run(opened, "recommender", seed=0, params={}) as run_id:
            run_ids.append(run_id)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("cli.main.app", verb)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    assert Registry.of(opened).client.get_run(run_ids[0]).info.status == "FAILED"
