"""The workspace: where everything lies, and whether the tables changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.errors import WorkspaceError
from data.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "shop", name="Tea & Cups", currency="GBP")
    (made.tables_dir / "events.csv").write_text("event_id\n1\n")
    return made


def mark_checked(workspace: Workspace) -> None:
    workspace.checked_dir.mkdir(exist_ok=True)
    (workspace.checked_dir / "fingerprint.txt").write_text(workspace.fingerprint())


def test_creating_it_again_keeps_the_settings(workspace: Workspace) -> None:
    before = workspace.settings_file.read_text()
    again = Workspace.create(workspace.path, name="other")
    assert again.settings_file.read_text() == before
    assert (again.settings.shop.name, again.settings.shop.currency) == ("Tea & Cups", "GBP")


def test_two_workspaces_have_different_salts(tmp_path: Path) -> None:
    assert len({Workspace.create(tmp_path / name).settings.shop.salt for name in "ab"}) == 2


def test_any_other_folder_is_no_workspace(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WorkspaceError, match=r"is no workspace.*--workspace \(`.` where.*attune import"):
            Workspace.open(path)


def test_a_name_with_a_quote_is_written_as_toml(tmp_path: Path) -> None:
    assert Workspace.create(tmp_path / "shop", name='The "best" \\ shop').settings.shop.name == 'The "best" \\ shop'


def test_the_fingerprint_tells_contents_names_and_sizes_apart(workspace: Workspace) -> None:
    seen = {workspace.fingerprint()}
    (workspace.tables_dir / "events.csv").write_text("event_id\n2\n")
    seen.add(workspace.fingerprint())
    (workspace.tables_dir / "events.csv").rename(workspace.tables_dir / "orders.csv")
    seen.add(workspace.fingerprint())
    (workspace.tables_dir / "items").mkdir()
    (workspace.tables_dir / "items" / "part.parquet").write_bytes(b"x")
    seen.add(workspace.fingerprint())
    assert len(seen) == 4


def test_a_file_that_is_still_being_written_does_not_count(workspace: Workspace) -> None:
    before = workspace.fingerprint()
    half = workspace.tables_dir / ".orders.csv.a1b2" / "orders.csv"
    half.parent.mkdir()
    half.write_text("half")
    assert workspace.fingerprint() == before


def test_unchecked_tables_cannot_be_opened_as_checked(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="Run `attune check"):
        _ = workspace.checked


def test_a_change_in_the_middle_of_a_large_file_is_noticed(workspace: Workspace) -> None:
    file = workspace.tables_dir / "events.csv"
    text = "event_id\n" + "1" * 200_000
    file.write_text(text)
    mark_checked(workspace)
    assert workspace.is_checked
    file.write_text(text[:1000] + "2" + text[1001:])
    assert not workspace.is_checked


def test_stores_are_in_the_workspace_unless_the_settings_say_where(workspace: Workspace) -> None:
    assert workspace.state_url == f"sqlite:///{workspace.path.resolve() / 'state.db'}"
    workspace.settings_file.write_text('[state]\nurl = "postgresql+psycopg://db/shop"\n[registry]\nuri = "http://ml"\n')
    other = Workspace.open(workspace.path)
    assert (other.state_url, other.registry_uri) == ("postgresql+psycopg://db/shop", "http://ml")
