"""Options that do not go together, and commands that are told for a shell."""

from __future__ import annotations

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import cli.main
from data.errors import DataError, WorkspaceError
from data.workspace import Workspace


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("train recommender --label churn", "--label is of propensity, not of recommender"),
        ("train value --trials 3", "--trials is of a search, and value has none"),
        ("score --to x.csv --channel email", "--channel goes with --actions"),
        ("report uplift --decisions --treatment arm", "--treatment goes with --experiment"),
        ("report uplift --decisions --margin 0.3", "--margin goes with --experiment"),
        ("report uplift --experiment x.csv --kind offer", "--kind is of decisions"),
        (
            "report uplift --experiment x.csv --treatment arm --outcome y --margin 2",
            "--margin says nothing without --cost",
        ),
        (
            "report uplift --experiment x.csv --treatment arm --outcome y --rule r",
            "--rule says nothing without --before",
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(tmp_path, words, why):
    shop = Workspace.create(tmp_path)
    found = CliRunner().invoke(cli.main.app, [*words.split(), "--workspace", str(shop.path)])
    assert isinstance(found.exception, WorkspaceError)
    assert str(found.exception).startswith(why)


def test_an_arm_that_is_told_twice_is_refused(tmp_path):
    table = tmp_path / "mail.csv"
    pd.DataFrame({"arm": ["none", "A"], "y": [0, 1]}).to_csv(table, index=False)
    words = f"report uplift --experiment {table} --treatment arm --outcome y --cost A=1 --cost A=2"
    found = CliRunner().invoke(cli.main.app, words.split())
    assert isinstance(found.exception, DataError)
    assert "--cost tells 'A' more than once" in str(found.exception)


def test_a_loop_leaves_the_settings_of_a_shop_that_has_tables_alone(tmp_path):
    shop = Workspace.create(tmp_path / "shop", name="my own")
    (shop.tables_dir / "events.csv").write_text("event_id\n")
    before = shop.settings_file.read_text()
    found = CliRunner().invoke(
        cli.main.app, ["simulate", "--weeks", "1", "--users", "20", "--days", "30", "--workspace", str(shop.path)]
    )
    assert isinstance(found.exception, WorkspaceError)
    assert shop.settings_file.read_text() == before


def test_a_path_with_a_blank_is_told_as_a_shell_reads_it(tmp_path):
    shop = Workspace.create(tmp_path / "my shop")
    pd.DataFrame({"event_id": ["1"]}).to_parquet(shop.tables_dir / "events.parquet")
    found = CliRunner().invoke(cli.main.app, ["doctor", "--workspace", str(shop.path)])
    assert f"attune check --workspace '{shop.path}'" in found.output
    with pytest.raises(WorkspaceError, match=f"attune check --workspace '{shop.path}'"):
        shop.checked  # noqa: B018


def test_a_folder_that_cannot_be_written_is_told_in_a_line(monkeypatch, capsys):
    def run():
        raise PermissionError(13, "Permission denied", "shop/reports/audit.md")

    monkeypatch.setattr(cli.main, "app", run)
    with pytest.raises(SystemExit) as ended:
        cli.main.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "attune: shop/reports/audit.md: Permission denied\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")])  # the other is DuckDB's
def test_ctrl_c_is_told_in_a_line(monkeypatch, capsys, error):
    app = typer.Typer()

    @app.command()
    def verb() -> None:
        raise error

    monkeypatch.setattr(cli.main, "app", app)
    monkeypatch.setattr("sys.argv", ["attune"])
    with pytest.raises(SystemExit) as ended:
        cli.main.main()
    assert ended.value.code == 130
    assert "run the same command again" in capsys.readouterr().err
