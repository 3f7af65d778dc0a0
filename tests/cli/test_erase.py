"""`attune erase` as it is typed."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from data.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    made = Workspace.create(tmp_path)
    header, ann, bob = "user_id,item_id,order_id,line_id,quantity,occurred_at\n", "ann,tea,1,1,1", "bob,tea,2,1,1"
    (made.tables_dir / "orders.csv").write_text(f"{header}{ann},2026-01-01\n{bob},2026-01-01\n")
    return made


def attune(workspace, *words):
    found = CliRunner().invoke(app, ["erase", *words, "--workspace", str(workspace.path)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


def test_it_says_what_was_removed_and_where_the_receipt_is(workspace):
    told = attune(workspace, "ann")
    assert "tables/orders.csv 1 row removed" in told
    [receipt] = workspace.erasures_dir.iterdir()
    assert receipt.name in told
    assert "attune score" in told
    assert "ann" not in (workspace.tables_dir / "orders.csv").read_text()


def test_a_report_goes_whole(workspace):
    workspace.reports_dir.mkdir(exist_ok=True)
    (workspace.reports_dir / "audience.md").write_text("one line\nof 'ann'\n")
    assert "reports/audience.md whole removed" in attune(workspace, "ann")


def test_it_says_what_stays_and_that_nothing_was_known(workspace):
    assert "1 order lines stay, without the person." in attune(workspace, "ann", "--keep-orders")
    assert ",tea,1,1,1" in (workspace.tables_dir / "orders.csv").read_text()
    assert "Nothing was known of this person" in attune(workspace, "nobody")
