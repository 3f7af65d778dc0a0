"""`attune check` prints the audit and exits by its verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cli.main import app
from data.errors import WorkspaceError
from data.workspace import Workspace


def attune(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "shop")


def bring(workspace: Workspace, quantities: list[float]) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    lines = [
        {"order_id": str(n), "line_id": "1", "item_id": "tea", "quantity": quantity, "occurred_at": yesterday}
        for n, quantity in enumerate(quantities)
    ]
    pd.DataFrame(lines).to_parquet(workspace.tables_dir / "orders.parquet")


def test_fit_data_exit_0(workspace: Workspace) -> None:
    bring(workspace, [1, 2, -1])
    result = attune("check", "--workspace", workspace.path)
    assert result.exit_code == 0
    assert "The data is fit to train on." in result.output
    assert workspace.is_checked


def test_data_that_is_not_fit_exits_1_and_says_why_and_what_to_do(workspace: Workspace) -> None:
    bring(workspace, [0, *[1] * 9])
    result = attune("check", "--workspace", workspace.path)
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "not fit to train on" in said
    assert "orders.quantity: zero in 1 row (first: '0' at row 1)" in said
    assert "Mend them where they come from, or raise the setting." in said


def test_a_folder_that_is_no_workspace_is_named(tmp_path: Path) -> None:
    result = attune("check", "--workspace", tmp_path / "nowhere")
    assert isinstance(result.exception, WorkspaceError)
    assert "nowhere is no workspace" in str(result.exception)
