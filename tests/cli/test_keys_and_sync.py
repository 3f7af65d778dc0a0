"""`attune keys` and `attune sync` as they are typed."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from cli.main import app
from data.errors import DataError
from data.state import State, keys
from data.state.arrivals import sort_events
from data.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path)


def attune(workspace, *words):
    found = CliRunner().invoke(app, [*words, "--workspace", str(workspace.path)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(workspace):
    key = attune(workspace, "keys", "create", "--role", "app", "--name", "webshop").strip()
    state = State.open(workspace.state_url)
    assert keys.role_of(key, keys.in_force(state)) == "app"
    key_id, secret = key.split("_")[1:]
    listed = attune(workspace, "keys", "list")
    assert key_id in listed
    assert "webshop" in listed
    assert secret not in listed
    attune(workspace, "keys", "revoke", key_id)
    assert keys.role_of(key, keys.in_force(state)) is None
    assert "revoked" in attune(workspace, "keys", "list")


def test_a_role_that_is_none_is_told(workspace):
    with pytest.raises(DataError, match="app, admin"):
        attune(workspace, "keys", "create", "--role", "owner")


def test_sync_says_what_it_wrote(workspace):
    assert "nothing to write" in attune(workspace, "sync")
    row = {"event_id": "e1", "event": "page_viewed", "user_id": "ann", "occurred_at": "2026-01-01"}
    with State.open(workspace.state_url).writing() as connection:
        sort_events([row], now=datetime.now(UTC), max_clock_skew_minutes=60).store(connection)
    assert "1 rows" in attune(workspace, "sync")
    assert (workspace.tables_dir / "events" / "state.parquet").is_file()
